"""A folder with a manifest.csv -> samples, and what their files and boxes say.

The columns are described in docs/reference/training-data.md. An empty cell is an unknown: it is masked, never zero.
"""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_triage.model.errors import TriageError
from cxr_triage.model.findings import ABNORMALITIES, LOCATIONS

Split = Literal["train", "validation", "test"]

#: Percent of patients per split, in the order of the hash's residues.
TEST_PERCENT: Final = 20
VALIDATION_PERCENT: Final = 10

#: The labels of ChestX-ray14 by their manifest columns, in the order of the outputs.
NIH_LABELS: Final = tuple(sorted(abnormality.name for abnormality in ABNORMALITIES))

#: Bits of a mask PNG, in the order of model.findings.STRUCTURES.
MASK_BITS: Final = (1, 2, 4)


class DataError(TriageError):
    """The data folder does not hold what its manifest promises."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """A box that a radiologist drew, as fractions of width (x) and height (y)."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One row of the manifest."""

    id: str
    image: Path
    source: str
    #: "source/patient": patients of two sources never share a key.
    patient: str
    sex: str
    age: str
    view: str
    #: True, False, or missing where the source does not carry the label.
    labels: Mapping[str, bool]
    mask: Path | None
    #: Published cardiothoracic ratio.
    ctr: float | None
    regions: tuple[Region, ...]
    #: A peer network's probabilities on this image, by label.
    reference: Mapping[str, float] | None

    @property
    def abnormal(self) -> bool | None:
        """Any abnormality against "no finding"; None where unknown."""
        no_finding = self.labels.get("no_finding")
        return None if no_finding is None else not no_finding


def split_of(patient: str) -> Split:
    """The split of a patient, by hash: stable when data is added."""
    residue = int(hashlib.sha256(patient.encode()).hexdigest()[:8], 16) % 100
    if residue < TEST_PERCENT:
        return "test"
    return "validation" if residue < TEST_PERCENT + VALIDATION_PERCENT else "train"


def read_samples(folder: Path) -> list[Sample]:
    """Read manifest.csv and, where present, regions.csv and reference_predictions.csv.

    Raises:
        DataError: a file or a column is missing, or a value cannot be read.
    """
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        raise DataError(f"{manifest} does not exist: name a folder that has a manifest.csv")
    regions = _read_regions(folder / "regions.csv")
    references = _read_references(folder / "reference_predictions.csv")
    samples = []
    with manifest.open(newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            try:
                samples.append(_sample(folder, row, regions, references))
            except (KeyError, ValueError) as error:
                raise DataError(f"{manifest} line {number}: {error!r} is missing or cannot be read") from error
    missing = [sample.image for sample in samples if not sample.image.is_file()]
    if missing:
        raise DataError(f"{len(missing)} images of {manifest} do not exist, the first one is {missing[0]}")
    return samples


def _sample(
    folder: Path,
    row: Mapping[str, str],
    regions: Mapping[str, tuple[Region, ...]],
    references: Mapping[str, Mapping[str, float]],
) -> Sample:
    columns = ("no_finding", *NIH_LABELS)
    return Sample(
        id=row["id"],
        image=folder / row["path"],
        source=row["source"],
        patient=f"{row['source']}/{row['patient']}",
        sex=row["sex"],
        age=row["age"],
        view=row["view"],
        labels={name: row[name] == "1" for name in columns if row[name] != ""},
        mask=folder / row["mask"] if row["mask"] else None,
        ctr=float(row["ctr"]) if row["ctr"] else None,
        regions=regions.get(row["id"], ()),
        reference=references.get(row["id"]),
    )


def _read_regions(path: Path) -> dict[str, tuple[Region, ...]]:
    found: dict[str, tuple[Region, ...]] = {}
    if path.is_file():
        with path.open(newline="") as lines:
            for row in csv.DictReader(lines):
                box = {name: float(row[name]) for name in ("x0", "y0", "x1", "y1")}
                found[row["id"]] = (*found.get(row["id"], ()), Region(label=row["label"], **box))
    return found


def _read_references(path: Path) -> dict[str, dict[str, float]]:
    if not path.is_file():
        return {}
    with path.open(newline="") as lines:
        return {row["id"]: {name: float(row[name]) for name in NIH_LABELS} for row in csv.DictReader(lines)}


def read_image(path: Path) -> NDArray[np.float32]:
    """A PNG or JPEG as float32 (H, W) in [0, 1]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask PNG as bool (3, H, W) in the order of STRUCTURES."""
    with Image.open(path) as image:
        bits = np.asarray(image)
    return np.stack([(bits & bit) > 0 for bit in MASK_BITS])


#: Where the lung field lies in a frontal radiograph when no mask tells, as fractions of the height: the median over
#: the training patients with masks.
TYPICAL_LUNG_FIELD: Final = (0.09, 0.81)
#: Boxes that cover more than this share of the image are a diffuse abnormality.
DIFFUSE_AREA: Final = 0.2


def locations_of(regions: Sequence[Region], lung_field: tuple[float, float] = TYPICAL_LUNG_FIELD) -> dict[str, bool]:
    """Location labels from boxes: the patient's left lies on the image's right.

    Args:
        regions: at least one box.
        lung_field: top and bottom of the lung field, fractions of the height.
    """
    top, bottom = lung_field
    found = dict.fromkeys(LOCATIONS, False)
    for region in regions:
        found["right" if (region.x0 + region.x1) / 2 < 0.5 else "left"] = True
        centre = ((region.y0 + region.y1) / 2 - top) / (bottom - top)
        found[f"fifth_{min(max(int(centre * 5), 0), 4) + 1}"] = True
    area = sum((region.x1 - region.x0) * (region.y1 - region.y0) for region in regions)
    found["diffuse"] = area > DIFFUSE_AREA
    found["multiple"] = len(regions) > 1
    return found
