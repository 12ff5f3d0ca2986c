"""Zones that saliency maps tell, against those of radiologists' boxes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_triage.model.findings import ABNORMALITY_BY_NAME, THIRDS, Zone
from cxr_triage.model.prediction import Prediction
from cxr_triage.model.suitability import LEFT_LUNG, RIGHT_LUNG
from cxr_triage.model.whereabouts import zone_of_peak, zone_of_point
from cxr_triage.training.data import Region
from cxr_triage.training.evaluation.intervals import interval, interval_of_share, resample, resampled_mean
from cxr_triage.training.evaluation.saliency import MAP_OF, MIN_BOXES, map_of
from cxr_triage.training.evaluation.scored import Scored, Zones


def zones_of(prediction: Prediction, regions: Sequence[Region]) -> dict[str, Zones]:
    """The zones of an image's boxes and that of each map of an abnormality of the lungs which they are compared with.

    Args:
        prediction: of the image.
        regions: boxes on it, as fractions of its sides.

    Returns:
        By the map's label; empty where a lung has no outline: then there are no zones.
    """
    masks_CHW = prediction.masks_CHW
    if not masks_CHW[LEFT_LUNG].any() or not masks_CHW[RIGHT_LUNG].any():
        return {}
    reported = [finding.label for finding in prediction.findings]
    found = {}
    for name in sorted({MAP_OF.get(region.label, region.label) for region in regions}.intersection(reported)):
        if ABNORMALITY_BY_NAME[name].site != "lungs":
            continue
        own = [region for region in regions if MAP_OF.get(region.label, region.label) == name]
        found[name] = Zones(
            boxes=frozenset(_zone_of_box(region, masks_CHW) for region in own),
            told=zone_of_peak(map_of(prediction, name), masks_CHW),
        )
    return found


def _zone_of_box(region: Region, masks_CHW: NDArray[np.bool_]) -> Zone:
    rows, columns = masks_CHW.shape[1:]
    return zone_of_point((region.y0 + region.y1) / 2 * rows, (region.x0 + region.x1) / 2 * columns, masks_CHW)


def zones(rows: Sequence[Scored]) -> dict[str, Any]:
    """Figures per map with at least MIN_BOXES images with boxes."""
    names = sorted({name for row in rows for name in row.zones})
    parts = {name: [row for row in rows if name in row.zones] for name in names}
    return {name: _figures(part, name) for name, part in parts.items() if len(part) >= MIN_BOXES}


def _figures(rows: Sequence[Scored], name: str) -> dict[str, Any]:
    thirds = [(row.zones[name], row.sample.patient) for row in rows]
    hits = np.array([each.told is not None and each.told.third in _thirds(each) for each, _ in thirds], dtype=float)
    guesses = [np.mean([third in _thirds(each) for each, _ in thirds]) for third in THIRDS]
    return _side(rows, name) | {
        "images": len(rows),
        "third": float(hits.mean()),
        "third_interval": interval_of_share(hits, [patient for _, patient in thirds]),
        "third_guess": float(max(guesses)),
    }


def _side(rows: Sequence[Scored], name: str) -> dict[str, Any]:
    """Balanced accuracy on images with boxes on one side alone: where both are right, no answer is wrong."""
    one_sided = [row for row in rows if len(_sites(row.zones[name])) == 1]
    truths = np.array([_sites(row.zones[name]) == {"left_lung"} for row in one_sided], dtype=bool)
    hits = np.array([_told_site(row.zones[name]) in _sites(row.zones[name]) for row in one_sided], dtype=float)
    weights = resample([row.sample.patient for row in one_sided])
    halves = [np.where(side, hits, np.nan) for side in (truths, ~truths)]
    known = len(np.unique(truths)) == 2
    return {
        "one_sided": len(one_sided),
        "left": int(truths.sum()),
        "side": float(np.mean([np.nanmean(half) for half in halves])) if known else None,
        "side_interval": interval(np.mean([resampled_mean(half, weights) for half in halves], axis=0))
        if known
        else None,
    }


def _sites(found: Zones) -> set[str]:
    return {zone.site for zone in found.boxes}


def _thirds(found: Zones) -> set[str]:
    return {zone.third for zone in found.boxes}


def _told_site(found: Zones) -> str:
    return "" if found.told is None else found.told.site
