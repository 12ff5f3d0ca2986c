"""Where a finding lies on its image, in words, codes and lines: as far as its prediction tells, and no farther."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from highdicom.sr import FindingSite

from cxr_triage.daemon.results.codes import concept
from cxr_triage.daemon.results.outlines import Points, box_around, longest_outline
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.model.findings import SITES, STRUCTURES, THIRDS, Finding, Zone
from cxr_triage.model.suitability import LEFT_LUNG, RIGHT_LUNG
from cxr_triage.storage.records import StoredPrediction

#: How much higher a box is made for each finding that would have the same one, through the image's height: viewers
#: write a group's numbers beside the middle of its height, and a line of words is half as high.
STEP: Final = 0.045


def zone_in_words(zone: Zone, profile: Profile) -> str:
    """Such as "Right lung, lower", in the profile's words."""
    site = profile.meaning(SITES[zone.site])
    return f"{site}, {profile.meaning(THIRDS[zone.third]).lower()}" if zone.third else site


def finding_sites(zone: Zone | None, profile: Profile) -> list[FindingSite] | None:
    """The same as codes (PS3.16 TID 1410 and 1501, Finding Site)."""
    if zone is None:
        return None
    third = concept(THIRDS[zone.third], profile) if zone.third else None
    return [FindingSite(concept(SITES[zone.site], profile), topographical_modifier=third)]


def regions(stored: StoredPrediction, findings: list[Finding], profile: Profile) -> Iterator[Points | None]:
    """What each group of findings encloses on the image: an outline, or, where the profile needs some line, a box."""
    boxes: dict[Zone | None, int] = {}
    for finding in findings:
        region_HW = stored.prediction.regions.get(finding.label)
        if region_HW is not None and region_HW.any():
            yield longest_outline(region_HW)
        elif profile.coordinates_everywhere:
            rank = boxes[finding.zone] = boxes.get(finding.zone, -1) + 1
            yield _grown(_box(stored, finding.zone), rank, stored.prediction.masks_CHW.shape[1])
        else:
            yield None


def _box(stored: StoredPrediction, zone: Zone | None) -> Points:
    """Around the zone; around lungs and heart where nothing is told."""
    masks_CHW = stored.prediction.masks_CHW
    if zone is None:
        return box_around(np.asarray(masks_CHW.any(axis=0)))
    lungs_HW = masks_CHW[LEFT_LUNG] | masks_CHW[RIGHT_LUNG]
    names = [structure.name for structure in STRUCTURES]
    site_HW = lungs_HW if zone.site == "lungs" else masks_CHW[names.index(zone.site)]
    if zone.third and lungs_HW.any():
        rows = np.flatnonzero(lungs_HW.any(axis=1))
        edges = np.linspace(rows[0], rows[-1] + 1, len(THIRDS) + 1).round().astype(int)
        place = list(THIRDS).index(zone.third)
        part_HW = np.zeros_like(site_HW)
        part_HW[edges[place] : edges[place + 1]] = site_HW[edges[place] : edges[place + 1]]
        site_HW = part_HW if part_HW.any() else site_HW
    return box_around(site_HW)


def _grown(box_N2: Points, rank: int, rows: int) -> Points:
    """The first as it is, the others higher by steps, downwards and upwards in turn, as far as the image goes."""
    grown = box_N2.copy()
    step = (rank + 1) // 2 * STEP * rows
    top, bottom = box_N2[:, 1].min(), box_N2[:, 1].max()
    if rank % 2:
        grown[box_N2[:, 1] == bottom, 1] = min(bottom + step, rows)
    else:
        grown[box_N2[:, 1] == top, 1] = max(top - step, 0.0)
    return grown
