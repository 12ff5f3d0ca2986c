"""What is drawn on one radiograph, by presentation states and Secondary Captures alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from cxr_triage.daemon.results.outlines import Points, Width, cardiothoracic_widths, outlines_of
from cxr_triage.daemon.results.profiles import RESEARCH, Profile
from cxr_triage.daemon.results.regions import zone_in_words
from cxr_triage.daemon.results.uids import derived_uid, finding_uid, segment_uid
from cxr_triage.model.findings import MEASUREMENT_CODES, STRUCTURES, Finding
from cxr_triage.storage.image_records import StoredPrediction

RATIO: Final = "cardiothoracic_ratio"
#: Half the height of a line's end mark, through the longer side of the image.
END_MARK: Final = 0.008


@dataclass(frozen=True, slots=True)
class Layer:
    """A graphic layer (PS3.3 C.10.7): viewers let a reader switch each off, and draw each in one colour."""

    #: CS: upper case letters and underscores.
    name: str
    #: sRGB 0-255.
    rgb: tuple[int, int, int]


#: Of the ratio's lines.
MEASUREMENTS: Final = Layer("MEASUREMENTS", (255, 220, 80))
#: Of what was found, where it is outlined.
FINDINGS: Final = Layer("FINDINGS", (255, 150, 255))
#: Of what was found, and by what.
NOTES: Final = Layer("NOTES", (255, 255, 255))


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """A line of points that belongs to one thing that the SR and the SEG know under the same tracking UID."""

    layer: Layer
    #: (column, row), as `outlines` counts; closed where the last point is the first.
    points_N2: Points
    name: str
    tracking_uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """Words at a place of the image."""

    layer: Layer
    text: str
    #: (column, row), as `outlines` counts: the words end left of it.
    place: tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """All that is drawn on one image."""

    lines: tuple[Line, ...]
    labels: tuple[Label, ...]
    #: Lines of text in a corner, on the layer NOTES.
    notes: tuple[str, ...]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Those that are used, in the order in which they are drawn."""
        return tuple(dict.fromkeys([*(line.layer for line in self.lines), NOTES]))


def drawing_of(stored: StoredPrediction, profile: Profile) -> Drawing:
    """Outlines, the lines of the cardiothoracic ratio, and what was found."""
    ratio = _ratio(stored)
    widths = cardiothoracic_widths(stored.prediction.masks_CHW) if ratio is not None else None
    lines = [
        *_structures(stored, profile),
        *_regions(stored, profile),
        *(_width_lines(stored, widths) if widths else ()),
    ]
    labels = [_ratio_label(ratio, widths[0])] if ratio is not None and widths else []
    return Drawing(lines=tuple(lines), labels=tuple(labels), notes=tuple(_notes(stored, ratio, profile)))


def _ratio(stored: StoredPrediction) -> float | None:
    """Nothing is measured on outlines that no chest has: then there is no ratio, and no line of one."""
    return next((found.value for found in stored.prediction.measurements if found.name == RATIO), None)


def _structures(stored: StoredPrediction, profile: Profile) -> Iterator[Line]:
    for structure, mask_HW in zip(STRUCTURES, stored.prediction.masks_CHW, strict=True):
        for points_N2 in outlines_of(mask_HW):
            yield Line(
                layer=Layer(structure.name.upper(), profile.colour(structure.name)),
                points_N2=points_N2,
                name=profile.meaning(structure.code),
                tracking_uid=segment_uid(stored, structure),
            )


def _regions(stored: StoredPrediction, profile: Profile) -> Iterator[Line]:
    """Outlines of findings whose maps are good enough."""
    for finding in stored.prediction.findings:
        region_HW = stored.prediction.regions.get(finding.label)
        for points_N2 in outlines_of(region_HW) if region_HW is not None else ():
            yield Line(
                layer=FINDINGS,
                points_N2=points_N2,
                name=profile.meaning(finding.abnormality.code),
                tracking_uid=finding_uid(stored, finding.label),
            )


def _width_lines(stored: StoredPrediction, widths: tuple[Width, Width]) -> Iterator[Line]:
    """Each width with a mark at either end."""
    rows, columns = stored.prediction.masks_CHW.shape[1:]
    mark = max(rows, columns) * END_MARK
    uid = derived_uid("measurement", stored.sop_instance_uid, stored.sha256, RATIO)
    for name, width in zip(("Heart width", "Thorax width"), widths, strict=True):
        across = [(width.left, width.row), (width.right, width.row)]
        ends = [max(width.row - mark, 0.0), min(width.row + mark, float(rows))]
        marks = [[(column, end) for end in ends] for column in (width.left, width.right)]
        for points in (across, *marks):
            yield Line(layer=MEASUREMENTS, points_N2=np.array(points), name=name, tracking_uid=uid)


def _ratio_label(ratio: float, heart: Width) -> Label:
    return Label(layer=MEASUREMENTS, text=f"CTR {ratio:.2f}", place=(heart.left, heart.row))


def _notes(stored: StoredPrediction, ratio: float | None, profile: Profile) -> Iterator[str]:
    """What a reader must know of what is drawn; never anything of the patient."""
    bundle = stored.prediction.bundle
    if profile.notice:
        yield profile.notice
    yield f"AI, {RESEARCH} (cxr-triage, {bundle.name} {bundle.version})"
    present = sorted((found for found in stored.prediction.findings if found.present), key=_most_probable_first)
    for found in present:
        name = profile.meaning(found.abnormality.code)
        lies = f", {zone_in_words(found.zone, profile)}" if found.zone else ""
        yield f"{name} {found.probability:.2f} (threshold {found.threshold:.2f}){lies}"
    if not present:
        yield "No finding reached its threshold; absence is not stated"
    if ratio is not None:
        yield f"{profile.meaning(MEASUREMENT_CODES[RATIO])} {ratio:.2f}"
    yield from (remark.sentence for remark in stored.prediction.remarks)


def _most_probable_first(found: Finding) -> tuple[float, str]:
    return -found.probability, found.label
