"""Saliency map -> where a finding lies: side, third, outline; each only where the bundle's card vouches for it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cxr_triage.model.bundle import Whereabouts
from cxr_triage.model.findings import THIRDS, Abnormality, Finding, Zone
from cxr_triage.model.prediction import Prediction
from cxr_triage.model.preparation import on_image
from cxr_triage.model.suitability import LEFT_LUNG, RIGHT_LUNG

_THIRDS: Final = tuple(THIRDS)


def located(said: Prediction, whereabouts: Mapping[str, Whereabouts]) -> Prediction:
    """The same prediction with where its findings lie. That of an absent finding lies nowhere.

    Args:
        said: its outlines are plausible.
        whereabouts: per label, what its map may tell.
    """
    findings, regions = [], {}
    for finding, grid_HW in zip(said.findings, said.saliency_LHW, strict=True):
        if not finding.present or not _tells(finding, vouched := whereabouts[finding.label]):
            findings.append(finding)
            continue
        map_HW = map_on_image(grid_HW, said.saliency_frame, said.masks_CHW, finding.abnormality)
        findings.append(replace(finding, zone=_zone(finding, map_HW, said.masks_CHW, vouched)))
        if vouched.outline_at is not None and map_HW.max() > 0:
            regions[finding.label] = region_of(map_HW, vouched.outline_at)
    return replace(said, findings=tuple(findings), regions=regions)


def _tells(finding: Finding, whereabouts: Whereabouts) -> bool:
    return whereabouts != Whereabouts() or finding.abnormality.site == "heart"


def _zone(
    finding: Finding, map_HW: NDArray[np.float32], masks_CHW: NDArray[np.bool_], whereabouts: Whereabouts
) -> Zone | None:
    """As much of the map's zone as the card vouches for; what is of the heart lies there by its name."""
    if finding.abnormality.site != "lungs":
        return Zone("heart") if finding.abnormality.site == "heart" else None
    zone = zone_of_peak(map_HW, masks_CHW)
    if zone is None or not (whereabouts.side or whereabouts.third):
        return None
    return Zone(zone.site if whereabouts.side else "lungs", zone.third if whereabouts.third else "")


def map_on_image(
    grid_HW: NDArray[np.uint8],
    frame: tuple[float, float, float, float],
    masks_CHW: NDArray[np.bool_],
    abnormality: Abnormality,
) -> NDArray[np.float32]:
    """One saliency map on the stored pixel matrix; that of an abnormality of the lungs is 0 outside of them.

    Args:
        grid_HW: uint8, on the network's grid.
        frame: where that grid lies, as in `Prediction.saliency_frame`.
        masks_CHW: bool, (3, Rows, Columns), in the order of STRUCTURES.
        abnormality: what the map is of.

    Returns:
        float32 (Rows, Columns), 0 to 255.
    """
    rows, columns = masks_CHW.shape[1:]
    full_HW = on_image(grid_HW, frame, (rows, columns))
    return full_HW * lungs_of(masks_CHW) if abnormality.site == "lungs" else full_HW


def lungs_of(masks_CHW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Both lungs, (H, W)."""
    lungs_HW: NDArray[np.bool_] = masks_CHW[LEFT_LUNG] | masks_CHW[RIGHT_LUNG]
    return lungs_HW


def zone_of_peak(map_HW: NDArray[np.float32], masks_CHW: NDArray[np.bool_]) -> Zone | None:
    """The lung and the third that a map's maximum lies in; None where it is nowhere, or there are no lungs."""
    if map_HW.max() <= 0 or not masks_CHW[LEFT_LUNG].any() or not masks_CHW[RIGHT_LUNG].any():
        return None
    row, column = np.unravel_index(int(map_HW.argmax()), map_HW.shape)
    return zone_of_point(float(row), float(column), masks_CHW)


def zone_of_point(row: float, column: float, masks_CHW: NDArray[np.bool_]) -> Zone:
    """The nearer lung, and the third of the lung fields' height, of a point between or beside lungs.

    Args:
        row: in pixels of the masks.
        column: in pixels of the masks.
        masks_CHW: bool, (3, H, W), in the order of STRUCTURES; both lungs are there.
    """
    gaps = [_gap(masks_CHW[lung], row, column) for lung in (LEFT_LUNG, RIGHT_LUNG)]
    rows = np.flatnonzero(lungs_of(masks_CHW).any(axis=1))
    share = (row - rows[0]) / (rows[-1] + 1 - rows[0])
    third = _THIRDS[min(max(int(share * len(_THIRDS)), 0), len(_THIRDS) - 1)]
    return Zone("left_lung" if gaps[0] <= gaps[1] else "right_lung", third)


def _gap(lung_HW: NDArray[np.bool_], row: float, column: float) -> float:
    """How far a point lies from the middle of a lung's columns, through half their width; within the lung 0."""
    place = min(int(row), lung_HW.shape[0] - 1), min(int(column), lung_HW.shape[1] - 1)
    if lung_HW[place]:
        return 0.0
    columns = np.flatnonzero(lung_HW.any(axis=0))
    half = (columns[-1] + 1 - columns[0]) / 2
    return float(abs(column - (columns[0] + half)) / half)


def region_of(map_HW: NDArray[np.float32], outline_at: float) -> NDArray[np.bool_]:
    """What to outline, (H, W): where a map that is not 0 everywhere reaches this share of its maximum."""
    region_HW: NDArray[np.bool_] = map_HW >= outline_at * map_HW.max()
    return region_HW
