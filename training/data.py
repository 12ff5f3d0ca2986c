"""Folders with a manifest.csv -> samples, and what their files and boxes say.

The columns are described in docs/reference/training-data.md. An empty cell is an unknown: it is masked, never zero.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_triage.model.errors import TriageError
from cxr_triage.model.findings import ABNORMALITIES, LOCATIONS
from cxr_triage.model.pose import Pose
from cxr_triage.model.radiograph import read_radiograph

Split = Literal["train", "validation", "test"]

#: Percent of patients per split, in the order of the hash's residues.
TEST_PERCENT: Final = 20
VALIDATION_PERCENT: Final = 10

#: The labels of ChestX-ray14 by their manifest columns, in the order of the outputs.
NIH_LABELS: Final = tuple(sorted(abnormality.name for abnormality in ABNORMALITIES))

#: Bits of a mask PNG, in the order of model.findings.STRUCTURES.
MASK_BITS: Final = (1, 2, 4)


#: What a label's cell may say: present, absent, not labelled.
LABEL_CELLS: Final = ("1", "0", "")

#: What the column `split` may say.
OFFICIAL_SPLITS: Final = ("train", "validation", "test", "train_val", "")
#: Of two splits of one patient, the one that stands first here holds.
HELD_OUT_FIRST: Final[tuple[Split, ...]] = ("test", "validation", "train")

#: Tag of TIFF 6.0, section 3: 0 is "WhiteIsZero".
PHOTOMETRIC_INTERPRETATION: Final = 262
#: A DICOM file has these four bytes after a preamble of 128 (PS3.10 7.1).
DICOM_PREAMBLE: Final = 128
DICOM_PREFIX: Final = b"DICM"


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
    #: True, False, or missing where the source does not carry the label. Names are the manifest's label columns.
    labels: Mapping[str, bool]
    mask: Path | None
    #: Published cardiothoracic ratio.
    ctr: float | None
    regions: tuple[Region, ...]
    #: A peer network's probabilities on this image, by label.
    reference: Mapping[str, float] | None
    #: The part of the data set that its publisher put the image in: "train", "validation", "test", "train_val" (which
    #: of the two is left to the user), or empty where the publisher names none.
    official_split: str = ""

    @property
    def abnormal(self) -> bool | None:
        """Any abnormality against "no finding"; None where unknown."""
        no_finding = self.labels.get("no_finding")
        return None if no_finding is None else not no_finding


def split_of(patient: str) -> Split:
    """The split of a patient ("source/patient"), by hash: stable when data is added."""
    residue = _hash(patient) % 100
    if residue < TEST_PERCENT:
        return "test"
    return "validation" if residue < TEST_PERCENT + VALIDATION_PERCENT else "train"


def fold_of(patient: str, folds: int) -> int:
    """The fold of a patient ("source/patient") in cross-validation, 0 to folds - 1: stable when data is added.

    It is independent of `split_of`: every fold has patients of each split.
    """
    return _hash(f"fold:{patient}") % folds


def official_splits(samples: Iterable[Sample]) -> dict[str, Split]:
    """The split of every patient as the publishers made it; `split_of` where a publisher made none.

    A patient stays in one split: one who has images in several official splits is held out as far as any of them is
    (test, then validation), and images without one follow the patient's others. Where only "train_val" is published,
    the patients whom `split_of` takes for validation are.
    """
    published: dict[str, list[Split]] = {}
    for sample in samples:
        published.setdefault(sample.patient, []).extend(_official_split(sample))
    return {
        patient: min(splits, key=HELD_OUT_FIRST.index) if splits else split_of(patient)
        for patient, splits in published.items()
    }


def _official_split(sample: Sample) -> tuple[Split, ...]:
    match sample.official_split:
        case "train" | "validation" | "test":
            return (sample.official_split,)
        case "train_val":
            return ("validation" if split_of(sample.patient) == "validation" else "train",)
    return ()


def _hash(key: str) -> int:
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)


def read_samples(*folders: Path) -> list[Sample]:
    """Read manifest.csv and, where present, regions.csv and reference_predictions.csv of every folder.

    Raises:
        DataError: a file or a column is missing, a value cannot be read, or two rows are the same radiograph.
    """
    samples = [sample for folder in folders for sample in _read_folder(folder)]
    counts = Counter((sample.source, sample.id) for sample in samples)
    twice = ["/".join(key) for key, count in counts.items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} radiographs stand in the manifests more than once, the first one is {twice[0]}")
    return samples


def _read_folder(folder: Path) -> list[Sample]:
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
    return Sample(
        id=row["id"],
        image=folder / row["path"],
        source=row["source"],
        patient=f"{row.get('patient_source') or row['source']}/{row['patient']}",
        sex=row["sex"],
        age=row["age"],
        view=row["view"],
        labels=_labels(row),
        mask=folder / row["mask"] if row["mask"] else None,
        ctr=float(row["ctr"]) if row["ctr"] else None,
        regions=regions.get(row["id"], ()),
        reference=references.get(row["id"]),
        official_split=_split_cell(row.get("split") or ""),
    )


def is_label_column(name: str) -> bool:
    """Whether a column of a manifest is a label: "no_finding", and every one that begins with a capital letter."""
    return name == "no_finding" or name[:1].isupper()


def _labels(row: Mapping[str, str]) -> dict[str, bool]:
    required = ("no_finding", *NIH_LABELS)
    others = [name for name in row if name and is_label_column(name) and name not in required]
    cells = {name: row[name] for name in (*required, *others)}
    wrong = [name for name, cell in cells.items() if cell not in LABEL_CELLS]
    if wrong:
        raise ValueError(f"{wrong[0]}={cells[wrong[0]]}")
    return {name: cell == "1" for name, cell in cells.items() if cell}


def _split_cell(cell: str) -> str:
    if cell not in OFFICIAL_SPLITS:
        raise ValueError(f"split={cell}")
    return cell


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
    """A radiograph as float32 (H, W) in [0, 1], bright = dense.

    A DICOM file is read by the code that the service reads it with, and turned as its header says. PNG, JPEG and TIFF
    are taken as they are; those of more than eight bits are scaled to their largest value, since few of them fill their
    sixteen bits.

    Raises:
        UnreadableImageError: the DICOM file is not a single monochrome image whose pixels can be read.
        OSError: the file cannot be read, or is not an image.
    """
    if is_dicom(path):
        radiograph = read_radiograph(path)
        return Pose.of(radiograph).shown(radiograph.pixels_HW)
    with Image.open(path) as image:
        if image.mode[0] in "IF":
            return _deep_pixels(image)
        return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)


def _deep_pixels(image: Image.Image) -> NDArray[np.float32]:
    """Pixels of more than eight bits, scaled to their largest value."""
    pixels = np.asarray(image, dtype=np.float32).clip(min=0)
    scaled: NDArray[np.float32] = pixels / max(pixels.max(), np.float32(1))
    # Pillow turns round a TIFF whose zero is white only if it has eight bits.
    white_is_zero = getattr(image, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION) == 0
    return np.float32(1) - scaled if white_is_zero else scaled


def is_dicom(path: Path) -> bool:
    """Whether the file begins as a DICOM file does."""
    with path.open("rb") as file:
        return file.read(DICOM_PREAMBLE + len(DICOM_PREFIX))[DICOM_PREAMBLE:] == DICOM_PREFIX


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask PNG as bool (3, H, W) in the order of STRUCTURES."""
    with Image.open(path) as image:
        bits = np.asarray(image)
    return np.stack([(bits & bit) > 0 for bit in MASK_BITS])


#: A lung that covers more of the heart than this share was not outlined beside it. Of the 418 radiographs with outlines
#: of JSRT/SCR and the Wingspan set, 11 of the latter have left lungs that cover 0.26 to 0.44, no other more than 0.09.
LARGEST_OVERLAP: Final = 0.15


def outlines_contradict(masks_CHW: NDArray[np.bool_]) -> bool:
    """Whether a lung was drawn over the heart, or one's outline stands for the other's: they teach and tell nothing.

    Whoever's heart lies on the other side still has it between the lungs. One radiograph of the Wingspan set has left
    lung and heart exchanged.

    Args:
        masks_CHW: bool (3, H, W), in the order of STRUCTURES.
    """
    left, right, heart = masks_CHW
    over = max(int((left & heart).sum()), int((right & heart).sum())) > LARGEST_OVERLAP * int(heart.sum())
    outlined = bool(masks_CHW.any(axis=(1, 2)).all())
    return over or (outlined and not _column(right) < _column(heart) < _column(left))


def _column(mask_HW: NDArray[np.bool_]) -> float:
    """The mean column of a mask that is not empty."""
    return float(np.nonzero(mask_HW)[1].mean())


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
