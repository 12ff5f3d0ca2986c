"""Paediatric pneumonia (Kermany et al. 2018), as Mendeley Data and Kaggle ("chest_xray") have it.

Layout: chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg. What tells patients is the file's name, in the forms
person123_bacteria_456, person123_virus_456, IM-0115-0001, IM-0115-0001-0002 and NORMAL2-IM-0115-0001 (as read in the
5,325 names of a copy of the set). The numbers begin anew in the test folder and in NORMAL2: one number may then stand
for two children, which keeps two children in one split, and never one child in two.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cxr_triage.training.sources.published import Published
from cxr_triage.training.sources.source import Record, Source

SPLITS: Final = {"train": "train", "val": "validation", "test": "test"}
#: Folder -> whether it holds pneumonia.
CLASSES: Final = {"NORMAL": False, "PNEUMONIA": True}
PATIENT: Final = re.compile(r"(?:NORMAL2-)?(person\d+|IM-\d+)[_-].*")


def read(published: Published) -> Iterator[Record]:
    """One record per image in a folder of a class in a folder of a split."""
    for path in published.images(".jpeg", ".jpg", ".png").values():
        split, label = path.parent.parent.name, path.parent.name
        if split in SPLITS and label in CLASSES:
            yield _record(path, SPLITS[split], published, pneumonia=CLASSES[label])
        else:
            published.report.note("unlisted_image", path.relative_to(published.path).as_posix())


def _record(path: Path, split: str, published: Published, *, pneumonia: bool) -> Record:
    return Record(
        id=f"kermany-{path.stem}",
        image=path,
        patient=f"kermany-{_patient(path, published)}",
        age="paediatric",
        view="AP",
        split=split,
        labels={"no_finding": not pneumonia, "Pneumonia": pneumonia},
    )


def _patient(path: Path, published: Published) -> str:
    parts = PATIENT.fullmatch(path.stem)
    if parts is None:
        published.report.note("patient_unknown", path.relative_to(published.path).as_posix())
    return path.stem if parts is None else parts[1]


SOURCE: Final = Source(
    name="kermany",
    terms="CC BY 4.0; cite Kermany et al. 2018.",
    labels=("Pneumonia",),
    # Children's pneumonia against children without any finding: not the adults' label.
    outputs={"Pneumonia": "Pneumonia_paediatric"},
    adult=False,
    read=read,
)
