"""Where a finding lies on its image, in words, codes and lines: as far as its prediction tells, and no farther."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from highdicom.sr import FindingSite

from cxr_triage.daemon.results.codes import concept
from cxr_triage.daemon.results.outlines import Points, box_around, longest_outline
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.model.findings import MEASURED_STRUCTURE, SITES, STRUCTURES, THIRDS, Finding, Zone
from cxr_triage.model.suitability import LEFT_LUNG, RIGHT_LUNG
from cxr_triage.storage.image_records import StoredPrediction

#: Of what a viewer writes beside a group's line, through the image's longer side, in a window of 1280 x 900: the
#: height of a line of words, and the width of a number and of one that is called by its finding.
LINE: Final = 0.0225
NUMBER: Final = 0.25
NAMED_NUMBER: Final = 0.4


@dataclass(frozen=True, kw_only=True, slots=True)
class _Words:
    """What is written beside a line, as the rectangle that it covers, pixels."""

    left: float
    top: float
    width: float
    height: float

    def covers(self, other: "_Words") -> float:
        """How much of another it covers, square pixels."""
        across = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        down = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        # Lines that only touch are apart, however the last bits of their places were rounded.
        return round(max(0.0, across) * max(0.0, down), 3)


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


def regions(stored: StoredPrediction, findings: list[Finding], profile: Profile) -> list[Points | None]:
    """What each group of findings encloses on the image: an outline, or, where the profile needs some line, a box."""
    outlined = {
        finding.label: longest_outline(region_HW)
        for finding in findings
        if (region_HW := stored.prediction.regions.get(finding.label)) is not None and region_HW.any()
    }
    found: list[Points | None] = [outlined.get(finding.label) for finding in findings]
    if not profile.coordinates_everywhere:
        return found
    longer = max(stored.prediction.masks_CHW.shape[1:])
    written = list(_of_structures(stored))
    for finding in findings:
        if finding.label in outlined:
            written += _of_finding(outlined[finding.label], finding.zone, longer)
    for place, finding in enumerate(findings):
        if found[place] is None:
            found[place] = box = _apart(_box(stored, finding.zone), finding.zone, written, stored)
            written += _of_finding(box, finding.zone, longer)
    return found


def _of_structures(stored: StoredPrediction) -> Iterator[_Words]:
    """Their measurements."""
    longer = max(stored.prediction.masks_CHW.shape[1:])
    named = [MEASURED_STRUCTURE[measurement.name] for measurement in stored.prediction.measurements]
    for structure, mask_HW in zip(STRUCTURES, stored.prediction.masks_CHW, strict=True):
        if lines := named.count(structure.name):
            yield from _beside(longest_outline(mask_HW), longer, lines, NUMBER)


def _of_finding(line_N2: Points, zone: Zone | None, longer: int) -> list[_Words]:
    """Its probability, and its site below."""
    return list(_beside(line_N2, longer, 2 if zone else 1, NAMED_NUMBER))


def _beside(line_N2: Points, longer: int, lines: int, width: float) -> Iterator[_Words]:
    """Where OHIF writes: from the right end on, below the middle of the height (DICOMSRDisplayTool, renderTextBox).

    Up to 3.12 these are of the first two points, from 3.13 on of all (cornerstone, getTextBoxCoordsCanvas): of a box
    that begins with its right edge they are the same.
    """
    for points_N2 in (line_N2, line_N2[:2]):
        top = (points_N2[:, 1].min() + points_N2[:, 1].max()) / 2
        left = points_N2[:, 0].max()
        yield _Words(left=left, top=top, width=width * longer, height=lines * LINE * longer)


def _apart(box_N2: Points, zone: Zone | None, written: list[_Words], stored: StoredPrediction) -> Points:
    """A box made higher until what is written beside it covers the least of what is written already."""
    rows, columns = stored.prediction.masks_CHW.shape[1:]
    longer = max(rows, columns)

    def covered(box: Points) -> float:
        return sum(mine.covers(other) for mine in _of_finding(box, zone, longer) for other in written)

    return min(_higher(box_N2, LINE * longer, rows), key=covered)


def _higher(box_N2: Points, step: float, rows: int) -> Iterator[Points]:
    """The box as it is, then its middle farther and farther down and up, by half steps, as far as the image goes."""
    top, bottom = box_N2[:, 1].min(), box_N2[:, 1].max()
    yield box_N2
    for growth in np.arange(step, rows, step):
        if bottom + growth <= rows:
            yield _with_edge(box_N2, bottom, bottom + growth)
        if growth <= top:
            yield _with_edge(box_N2, top, top - growth)


def _with_edge(box_N2: Points, old: float, new: float) -> Points:
    moved = box_N2.copy()
    moved[moved[:, 1] == old, 1] = new
    return moved


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
