"""Masks against masks: Dice, IoU and Hausdorff distance of each image, and their figures."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.meaniou import compute_iou
from numpy.typing import NDArray
from PIL import Image

from cxr_triage.model.findings import STRUCTURES
from cxr_triage.training.evaluation.scored import Overlap, Scored, of_outlines

#: Masks are compared on a grid of this side, pixels.
MASK_GRID: Final = 512
#: What figures are made of: the structures, and both lungs together.
COMPARED: Final = (*(structure.name for structure in STRUCTURES), "lungs")
HD_PERCENTILE: Final = 95
#: Side of the whole image in mm, by source, where the source says it. JSRT: 2048 pixels of 0.175 mm (Shiraishi et al.
#: 2000).
FIELD_MM: Final[Mapping[str, float]] = {"jsrt": 2048 * 0.175}
MEASURES: Final = ("dice", "iou", "hd95_px", "hd95_mm")


def overlaps(masks_CHW: NDArray[np.bool_], truth_CHW: NDArray[np.bool_], field_mm: float | None) -> dict[str, Overlap]:
    """Compare a prediction with the truth, by name in COMPARED.

    Args:
        masks_CHW: bool (3, H, W), in the order of STRUCTURES.
        truth_CHW: the same; its size may be another.
        field_mm: side of the whole image, mm; None = unknown.
    """
    own, true = (_with_lungs(_on_grid(masks)) for masks in (masks_CHW, truth_CHW))
    dices = compute_dice(own, true, ignore_empty=False)[0].tolist()
    ious = compute_iou(own, true, ignore_empty=False)[0].tolist()
    distances = [_hd95(own[:, [index]], true[:, [index]]) for index in range(len(COMPARED))]
    return {
        name: Overlap(
            dice=dice,
            iou=iou,
            hd95_px=distance,
            hd95_mm=None if distance is None or field_mm is None else distance * field_mm / MASK_GRID,
        )
        for name, dice, iou, distance in zip(COMPARED, dices, ious, distances, strict=True)
    }


def _on_grid(masks_CHW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if masks_CHW.shape[1:] == (MASK_GRID, MASK_GRID):
        return masks_CHW
    side = (MASK_GRID, MASK_GRID)
    return np.stack([np.asarray(Image.fromarray(mask).resize(side, Image.Resampling.NEAREST)) for mask in masks_CHW])


def _with_lungs(masks_CHW: NDArray[np.bool_]) -> torch.Tensor:
    """One image (1, 4, H, W) in the order of COMPARED."""
    return torch.from_numpy(np.concatenate([masks_CHW, masks_CHW[:1] | masks_CHW[1:2]])[None])


def _hd95(mask_11HW: torch.Tensor, truth_11HW: torch.Tensor) -> float | None:
    """The larger of the two directed 95th percentiles, pixels; no distance leads to or from an empty mask."""
    if not mask_11HW.any() or not truth_11HW.any():
        return None
    with warnings.catch_warnings():
        # MONAI 1.6 calls its own function with an argument that it has deprecated.
        warnings.filterwarnings("ignore", message="monai.metrics.utils get_mask_edges", category=FutureWarning)
        return float(
            compute_hausdorff_distance(mask_11HW, truth_11HW, include_background=True, percentile=HD_PERCENTILE)
        )


def segmentation(rows: Sequence[Scored]) -> dict[str, Any]:
    """Figures per structure: of all images, of those whose true outlines do not contradict one another, by source."""
    return of_outlines([row for row in rows if row.overlap], _structures)


def _structures(masked: Sequence[Scored]) -> dict[str, Any]:
    figures = {name: _structure(masked, name) for name in COMPARED} if masked else {}
    return {"images": len(masked), **figures}


def _structure(masked: Sequence[Scored], name: str) -> dict[str, Any]:
    worst = min(masked, key=lambda row: row.overlap[name].dice)
    values = {measure: [getattr(row.overlap[name], measure) for row in masked] for measure in MEASURES}
    return {
        **{measure: _spread(found, larger_is_worse=measure.startswith("hd95")) for measure, found in values.items()},
        "worst_id": worst.sample.id,
        "without_distance": values["hd95_px"].count(None),
    }


def _spread(values: Sequence[float | None], *, larger_is_worse: bool) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    worst = max(known) if larger_is_worse else min(known)
    return {"mean": float(np.mean(known)), "median": float(np.median(known)), "worst": worst}
