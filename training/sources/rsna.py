"""RSNA Pneumonia Detection Challenge 2018 (Shih et al. 2019), as Kaggle has it.

Layout as read by torchxrayvision/datasets.py of mlmed/torchxrayvision and other readers on GitHub:
stage_2_train_labels.csv has one row per box (patientId,x,y,width,height,Target, in pixels of the 1024 x 1024 images,
empty where Target is 0), stage_2_detailed_class_info.csv repeats the class of an image in each of its rows;
stage_2_train_images/PATIENTID.dcm carry sex, age ("51", without a unit) and view in their headers.

The images are ChestX-ray14's, under other names. RSNA publishes which is which
(pneumonia-challenge-dataset-mappings_2018.json, a list of objects with subset_img_id and img_id): beside the tables it
makes these patients ChestX-ray14's, without it a patient may be trained on here and tested on there.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cxr_triage.training.data import DataError, Region
from cxr_triage.training.sources.nih import patient_of
from cxr_triage.training.sources.published import Published
from cxr_triage.training.sources.source import Record, Source

#: Side of the published images, pixels.
SIDE: Final = 1024
OPACITY: Final = "Lung_Opacity"
#: Class -> its labels.
CLASSES: Final = {
    "Normal": {"no_finding": True, OPACITY: False},
    "No Lung Opacity / Not Normal": {"no_finding": False, OPACITY: False},
    "Lung Opacity": {"no_finding": False, OPACITY: True},
}
LABEL_COLUMNS: Final = ("patientId", "x", "y", "width", "height", "Target")
MAPPING: Final = "pneumonia-challenge-dataset-mappings_2018.json"


@dataclass(frozen=True, slots=True)
class Listed:
    """What the tables say of one image."""

    opacity: list[bool] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)


def read(published: Published) -> Iterator[Record]:
    """One record per image of the training part that is there."""
    listed, classes = _listed(published), _classes(published)
    images, patients = published.images(".dcm"), _patients(published)
    for name, image in listed.items():
        path = images.pop(f"{name}.dcm", None)
        if path is None:
            published.report.note("missing_image", name)
        else:
            labels = _labels(name, image, classes.get(name, ""), published)
            yield _record(path, image, labels, patients.get(name, ""), published)
    for path in images.values():
        # The challenge's test images have no labels, and lie beside the others.
        if path.parent.name != "stage_2_test_images":
            published.report.note("unlisted_image", path.name)


def _listed(published: Published) -> dict[str, Listed]:
    found: dict[str, Listed] = {}
    for row in published.rows(published.required("stage_2_train_labels.csv"), LABEL_COLUMNS):
        image = found.setdefault(row["patientId"], Listed())
        image.opacity.append(row["Target"] == "1")
        if row["Target"] == "1":
            cells = (row["x"], row["y"], row["width"], row["height"])
            box = published.box(row["patientId"], OPACITY, cells, SIDE)
            image.regions.extend([box] if box else [])
    return found


def _classes(published: Published) -> dict[str, str]:
    table = published.file("stage_2_detailed_class_info.csv")
    rows = published.rows(table, ("patientId", "class")) if table else ()
    return {row["patientId"]: row["class"] for row in rows}


def _labels(name: str, image: Listed, given: str, published: Published) -> Mapping[str, bool]:
    """By the class, which tells normal from other findings; without it, by the boxes alone."""
    opacity = any(image.opacity)
    if given not in CLASSES:
        if given:
            published.report.note("unknown_label", f"{name}: {given}")
        return {OPACITY: opacity}
    if CLASSES[given][OPACITY] != opacity:
        published.report.note("contradicting_labels", name)
        return {}
    return CLASSES[given]


def _record(path: Path, image: Listed, labels: Mapping[str, bool], patient: str, published: Published) -> Record:
    name, facts = path.stem, published.dicom_facts(path)
    if not patient:
        published.report.note("patients_of_another_source", name)
    return Record(
        id=name,
        image=path,
        patient=patient or name,
        patient_source="nih" if patient else "",
        sex=facts.sex,
        age=facts.age,
        view=facts.view,
        labels=labels,
        regions=tuple(image.regions),
    )


def _patients(published: Published) -> dict[str, str]:
    """ChestX-ray14's patients by our image, from RSNA's own table.

    Raises:
        DataError: the table is there, and is another.
    """
    path = published.file(MAPPING)
    if path is None:
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {row["subset_img_id"]: patient_of(row["img_id"]) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not RSNA's list of subset_img_id and img_id: {error!r}") from error


SOURCE: Final = Source(
    name="rsna",
    terms="Non-commercial research and education under the challenge's rules; cite Shih et al. 2019 and, for the "
    "images, Wang et al. 2017.",
    labels=(OPACITY,),
    # "Normal" is a radiologist's word here, on adults and some children of ChestX-ray14.
    no_finding_is_normal=True,
    read=read,
)
