"""NIH ChestX-ray14 (Wang et al. 2017), as nihcc.app.box.com/v/ChestXray-NIHCC has it.

Layout as in copies of the tables on GitHub (Data_Entry_2017.csv in qqto2008/capstone, the rows of BBox_List_2017.csv in
Nina0109/Mini_Net) and in what readers of the originals do: names of columns such as "OriginalImage[Width,Height]" hold
a comma of their own; the release of 2017 ends every line of Data_Entry with one more comma and writes ages as "058Y";
that of 2020 is called Data_Entry_2017_v2020.csv. The four coordinates of a box share the column name "Bbox [x,y,w,h]",
in pixels of the 1024 x 1024 images.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from cxr_triage.training.data import NIH_LABELS, Region
from cxr_triage.training.sources.published import Published
from cxr_triage.training.sources.source import Noise, Record, Source

#: Patient and follow-up number make an image's name.
NAME: Final = re.compile(r"(\d+)_\d+\.png")
NO_FINDING: Final = "No Finding"
#: Side of the published images, pixels.
SIDE: Final = 1024
#: BBox_List calls one label otherwise.
BOX_LABELS: Final = {"Infiltrate": "Infiltration"}
COLUMNS: Final = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position")
#: The table has had both names.
SEX_COLUMNS: Final = ("Patient Gender", "Patient Sex")

#: Images per label, as published: how the members of a group share its false positives.
PUBLISHED_POSITIVES: Final = {
    "Infiltration": 19_894,
    "Nodule": 6_331,
    "Mass": 5_782,
    "Pneumothorax": 5_302,
    "Consolidation": 4_667,
    "Edema": 2_303,
    "Pneumonia": 1_431,
}


def _shared(union: Noise, *labels: str) -> dict[str, Noise]:
    """The noise of each label, from that of "any of them".

    Only the union was read again. Its sensitivity stands for each; its false positives are shared out by how often each
    label is given, or a rare one would have more of them than it has positives.
    """
    total = sum(PUBLISHED_POSITIVES[label] for label in labels)
    return {
        label: Noise(union.sensitivity, 1 - (1 - union.specificity) * PUBLISHED_POSITIVES[label] / total)
        for label in labels
    }


#: Text-mined labels against adjudicated reads of 4,376 images (Majkowska et al. 2020).
NOISE: Final = {
    "Pneumothorax": Noise(0.458, 0.969),
    **_shared(Noise(0.423, 0.947), "Nodule", "Mass"),
    **_shared(Noise(0.443, 0.861), "Infiltration", "Consolidation", "Pneumonia", "Edema"),
}


def read(published: Published) -> Iterator[Record]:
    """One record per row of Data_Entry whose image is there."""
    table = published.required("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
    images = published.images(".png")
    splits, boxes = _splits(published), _boxes(published)
    listed = set()
    for row in published.rows(table, COLUMNS):
        name = row["Image Index"]
        listed.add(name)
        if not NAME.fullmatch(name):
            published.report.note("unreadable_row", f"{table.name}: {name}")
        elif name in images:
            yield _record(row, images[name], published, splits.get(name), tuple(boxes.get(name, ())))
        else:
            published.report.note("missing_image", name)
    for name in sorted(images.keys() - listed):
        published.report.note("unlisted_image", name)
    for name in sorted(boxes.keys() - listed):
        published.report.note("box_without_image", name)


def _record(
    row: Mapping[str, str], image: Path, published: Published, split: str | None, regions: tuple[Region, ...]
) -> Record:
    name = row["Image Index"]
    if split is None:
        published.report.note("unlisted_split", name)
    return Record(
        id=name.removesuffix(".png"),
        image=image,
        patient=patient_of(name),
        sex=next((row[column] for column in SEX_COLUMNS if column in row), ""),
        age=published.age(row["Patient Age"], name),
        view=row["View Position"],
        split=split or "",
        labels=_labels(row["Finding Labels"], name, published),
        regions=regions,
    )


def patient_of(name: str) -> str:
    """The patient of an image "00001234_005.png": "nih01234".

    Raises:
        ValueError: the name is not one of the data set's.
    """
    parts = NAME.fullmatch(name)
    if parts is None:
        raise ValueError(f"{name} is not a name of ChestX-ray14's images")
    return f"nih{int(parts[1]):05d}"


def _labels(cell: str, name: str, published: Published) -> dict[str, bool]:
    found = {label.strip() for label in cell.split("|")}
    unknown = found - {NO_FINDING, *NIH_LABELS}
    if unknown:
        published.report.note("unknown_label", f"{name}: {min(unknown)}")
        return {label: True for label in NIH_LABELS if label in found}
    if NO_FINDING in found and len(found) > 1:
        published.report.note("contradicting_labels", name)
        return {}
    return {"no_finding": NO_FINDING in found} | {label: label in found for label in NIH_LABELS}


def _splits(published: Published) -> dict[str, str]:
    found = dict.fromkeys(published.lines("train_val_list.txt"), "train_val")
    for name in published.lines("test_list.txt"):
        if name in found:
            published.report.note("two_splits", name)
        found[name] = "test"
    return found


def _boxes(published: Published) -> dict[str, list[Region]]:
    """Boxes by image: the table is read by position, since its header names four columns as one."""
    table = published.file("BBox_List_2017.csv")
    found: dict[str, list[Region]] = {}
    if table is None:
        return found
    with table.open(newline="", encoding="utf-8-sig") as lines:
        for row in csv.reader(lines):
            if not row or row[0] == "Image Index":
                continue
            box = _box(row, published)
            if box:
                found.setdefault(row[0], []).append(box)
    return found


def _box(row: Sequence[str], published: Published) -> Region | None:
    name, label = (*row, "")[:2]
    label = BOX_LABELS.get(label, label)
    if label not in NIH_LABELS:
        published.report.note("unreadable_box", f"{name} {label}")
        return None
    return published.box(name, label, tuple(row[2:6]), SIDE)


SOURCE: Final = Source(
    name="nih",
    terms="Unrestricted use; name the NIH Clinical Center as provider and cite Wang et al. 2017.",
    labels=NIH_LABELS,
    outputs={label: label for label in NIH_LABELS},
    no_finding_is_normal=True,
    noise=NOISE,
    read=read,
)
