"""What is kept of one evaluated image: the truth, and what a bundle said. Small: thousands of them fit in memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cxr_triage.model.findings import Zone
from cxr_triage.model.prediction import BundleIdentity, Refusal
from cxr_triage.training.data import Sample

#: Upper bounds (years, exclusive) of the age bands and their names; patients under 18 stand apart.
AGE_BANDS: Final = ((18, "minors"), (40, "18-39"), (60, "40-59"), (80, "60-79"), (200, "80+"))
#: What the column `age` says of children whose age is not published (Kermany et al. 2018: 1 to 5 years).
PAEDIATRIC: Final = "paediatric"
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """How a predicted mask lies on the true one."""

    dice: float
    iou: float
    #: 95th percentile Hausdorff distance, pixels of the 512 x 512 grid; None where either mask is empty.
    hd95_px: float | None
    #: The same in mm; None as well where the source's spacing is unknown.
    hd95_mm: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Localisation:
    """How one label's saliency map lies on the boxes that carry this label."""

    #: Boxes on the image.
    boxes: int
    #: Whether the map's maximum lies in a box; None where the map is zero everywhere.
    pointing: bool | None
    #: Intersection over union of map and boxes per threshold in saliency.THRESHOLDS.
    ious: tuple[float, ...]
    #: Share of the image, and of the box around the predicted lungs, that the boxes cover.
    image_share: float
    lung_box_share: float | None
    #: Intersection over union of both predicted lungs and the boxes: what a map has to beat.
    lungs_iou: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Zones:
    """Where boxes lie on one image, and where a map says that they do."""

    boxes: frozenset[Zone]
    #: None where the map is zero everywhere.
    told: Zone | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """One evaluated image."""

    sample: Sample
    #: Whose prediction this is.
    bundle: BundleIdentity
    #: Whether that bundle saw the patient in training or calibration.
    seen: bool
    #: Calibrated probability and operating threshold per label.
    probabilities: Mapping[str, float]
    thresholds: Mapping[str, float]
    #: Calibrated probability of any abnormality.
    abnormal: float
    #: Probability per name in LOCATIONS.
    locations: Mapping[str, float]
    #: Cardiothoracic ratio on the predicted outlines; None without outlines.
    ctr: float | None
    #: The published one, or where there is none, that of the true outlines; None without either.
    true_ctr: float | None = None
    #: By structure name and "lungs"; empty without a true mask.
    overlap: Mapping[str, Overlap] = field(default_factory=dict)
    #: Whether the true outlines contradict one another.
    contradictory: bool = False
    #: By the label of the boxes; empty without boxes.
    localisation: Mapping[str, Localisation] = field(default_factory=dict)
    #: By the label of the map; empty without boxes.
    zones: Mapping[str, Zones] = field(default_factory=dict)
    #: What the gate says, header included. Figures are of all images, refused ones too.
    refusal: Refusal | None = None

    @property
    def age_band(self) -> str:
        """A name in AGE_BANDS, or "unknown"."""
        if self.sample.age == PAEDIATRIC:
            return AGE_BANDS[0][1]
        if not self.sample.age.isdecimal():
            return UNKNOWN
        return next(name for bound, name in AGE_BANDS if int(self.sample.age) < bound)


def of_outlines(rows: Sequence[Scored], figures: Callable[[Sequence[Scored]], dict[str, Any]]) -> dict[str, Any]:
    """Figures of true outlines: of all images, of those whose outlines do not contradict one another, by source."""
    consistent = [row for row in rows if not row.contradictory]
    sources = sorted({row.sample.source for row in rows})
    return figures(rows) | {
        "consistent": figures(consistent),
        "contradictory": len(rows) - len(consistent),
        "by_source": {source: figures([row for row in rows if row.sample.source == source]) for source in sources},
    }
