"""Saliency maps against the boxes that radiologists drew: pointing game and IoU, each beside what chance would give."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cxr_triage.model.findings import ABNORMALITY_BY_NAME
from cxr_triage.model.prediction import Prediction
from cxr_triage.model.whereabouts import lungs_of, map_on_image, region_of
from cxr_triage.training.data import Region
from cxr_triage.training.evaluation.intervals import interval, interval_of_share, resample, resampled_mean
from cxr_triage.training.evaluation.scored import Localisation, Scored

#: Shares of a map's maximum at which it is cut into a region.
THRESHOLDS: Final = tuple(round(0.05 * step, 2) for step in range(1, 20))
#: Fewer boxes than this say nothing of a label.
MIN_BOXES: Final = 20
#: Boxes whose label no network of ours reports, and the label whose map they are compared with: RSNA's boxes mark
#: "lung opacity suspicious for pneumonia" (Shih et al. 2019).
MAP_OF: Final[Mapping[str, str]] = {"Lung_Opacity": "Pneumonia"}


def localise(prediction: Prediction, regions: Sequence[Region]) -> dict[str, Localisation]:
    """Compare the maps of one image with its boxes, by the boxes' label; labels without a map are left out.

    Args:
        prediction: of the image.
        regions: boxes on it, as fractions of its sides.
    """
    reported = [finding.label for finding in prediction.findings]
    labels = sorted({region.label for region in regions if MAP_OF.get(region.label, region.label) in reported})
    lungs_HW, around_HW = lungs_of(prediction.masks_CHW), lung_box(prediction.masks_CHW)
    found = {}
    for label in labels:
        own = [region for region in regions if region.label == label]
        boxes = box_mask(own, prediction.masks_CHW.shape[1:])
        found[label] = _localisation(map_of(prediction, label), boxes, lungs_HW, around_HW, len(own))
    return found


def _localisation(
    map_HW: NDArray[np.float32],
    boxes_HW: NDArray[np.bool_],
    lungs_HW: NDArray[np.bool_],
    around_HW: NDArray[np.bool_] | None,
    count: int,
) -> Localisation:
    peak = float(map_HW.max())
    regions = [region_of(map_HW, threshold) for threshold in THRESHOLDS] if peak > 0 else []
    return Localisation(
        boxes=count,
        pointing=bool(boxes_HW.flat[int(map_HW.argmax())]) if peak > 0 else None,
        ious=tuple(_iou(own, boxes_HW) for own in regions) or (0.0,) * len(THRESHOLDS),
        image_share=float(boxes_HW.mean()),
        lung_box_share=None if around_HW is None else float(boxes_HW[around_HW].mean()),
        lungs_iou=_iou(lungs_HW, boxes_HW),
    )


def _iou(mask_HW: NDArray[np.bool_], boxes_HW: NDArray[np.bool_]) -> float:
    return float((mask_HW & boxes_HW).sum() / (mask_HW | boxes_HW).sum())


def map_of(prediction: Prediction, label: str) -> NDArray[np.float32]:
    """The saliency map that boxes of a label are compared with, on the stored pixel matrix: (H, W), 0 to 255."""
    reported = [finding.label for finding in prediction.findings]
    name = MAP_OF.get(label, label)
    grid_HW = prediction.saliency_LHW[reported.index(name)]
    return map_on_image(grid_HW, prediction.saliency_frame, prediction.masks_CHW, ABNORMALITY_BY_NAME[name])


def box_mask(regions: Sequence[Region], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels (H, W) that boxes cover together; a box covers at least one."""
    rows, columns = shape
    covered = np.zeros(shape, dtype=bool)
    for region in regions:
        top, left = int(region.y0 * rows), int(region.x0 * columns)
        bottom, right = max(round(region.y1 * rows), top + 1), max(round(region.x1 * columns), left + 1)
        covered[top:bottom, left:right] = True
    return covered


def lung_box(masks_CHW: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The pixels (H, W) of the box around both predicted lungs; None without lungs."""
    lungs = masks_CHW[0] | masks_CHW[1]
    if not lungs.any():
        return None
    box = np.zeros(lungs.shape, dtype=bool)
    rows, columns = (np.flatnonzero(lungs.any(axis=axis)) for axis in (1, 0))
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def localisation(rows: Sequence[Scored]) -> dict[str, Any]:
    """Figures per label with at least MIN_BOXES boxes."""
    labels = sorted({label for row in rows for label in row.localisation})
    parts = {label: [row for row in rows if label in row.localisation] for label in labels}
    return {
        label: _label_figures(part, label)
        for label, part in parts.items()
        if sum(row.localisation[label].boxes for row in part) >= MIN_BOXES
    }


def _label_figures(rows: Sequence[Scored], label: str) -> dict[str, Any]:
    found = [row.localisation[label] for row in rows]
    patients = [row.sample.patient for row in rows]
    pointing = np.array([bool(each.pointing) for each in found], dtype=float)
    ious_NT = np.array([each.ious for each in found])
    best = int(ious_NT.mean(axis=0).argmax())
    gains = ious_NT[:, best] - np.array([each.lungs_iou for each in found])
    lung_shares = [each.lung_box_share for each in found if each.lung_box_share is not None]
    return {
        "images": len(rows),
        "boxes": sum(each.boxes for each in found),
        "map": MAP_OF.get(label, label),
        "without_map": sum(each.pointing is None for each in found),
        "pointing": float(pointing.mean()),
        "pointing_interval": interval_of_share(pointing, patients),
        "iou": float(ious_NT[:, best].mean()),
        "iou_interval": interval(resampled_mean(ious_NT[:, best], resample(patients))),
        "iou_threshold": THRESHOLDS[best],
        # Of the same images: how much better the map covers the boxes than both lungs together do.
        "gain": float(gains.mean()),
        "gain_interval": interval(resampled_mean(gains, resample(patients))),
        # A point that falls anywhere in the lung box hits with this share, and a map of the whole box has this IoU.
        "chance_lung_box": float(np.mean(lung_shares)) if lung_shares else None,
        "chance_image": float(np.mean([each.image_share for each in found])),
    }
