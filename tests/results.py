"""Sources, predictions and revisions that result objects are made from, and the validators that look at the objects."""

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

import builders
from cxr_triage.daemon.results.finishing import encode
from cxr_triage.daemon.results.objects import BuiltObject, Source, build_objects
from cxr_triage.daemon.results.picture import Picture
from cxr_triage.daemon.results.profiles import PROFILES
from cxr_triage.daemon.results.rejection_note import build_note
from cxr_triage.model.findings import MEASURED_STRUCTURE, MEASUREMENT_CODES, STRUCTURES
from cxr_triage.model.grayscale import Window
from cxr_triage.storage.image_records import StoredPrediction
from cxr_triage.storage.result_records import ObjectKind, Reason, Rejection, ResultObject, Revision

STUDY = "1.2.3.4"
DCIODVFY = Path(sys.executable).with_name("dciodvfy")
#: What dciodvfy calls the objects that it recognises.
IODS = ("Segmentation", "SR", "GrayscaleSoftcopyPresentationState", "SecondaryCapture", "SCImage", "KeyObject")
DSRDUMP = Path("/usr/bin/dsrdump")


def source(*, rows: int = 37, columns: int = 29, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Dataset:
    """Give the header of a radiograph as it is read from a file: nothing is decoded yet."""
    given = {"SOPInstanceUID": f"{STUDY}.1.1", "SeriesInstanceUID": f"{STUDY}.1", "StudyInstanceUID": STUDY, **tags}
    bits = given.get("BitsStored", 12)
    pixels = builders.thorax_pixels(rows, columns)
    dataset = builders.radiograph_dataset(pixels=(pixels >> 4).astype(np.uint8) if bits <= 8 else pixels, **given)
    dataset.HighBit = bits - 1
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer, stop_before_pixels=True)


def stored(header: Dataset, **prediction: Any) -> StoredPrediction:
    """Give the committed prediction of that radiograph."""
    given = {"masks_CHW": builders.thorax_masks(header.Rows, header.Columns), **prediction}
    return StoredPrediction(
        instance_id=1,
        sop_instance_uid=header.SOPInstanceUID,
        sop_class_uid=header.SOPClassUID,
        series_instance_uid=header.SeriesInstanceUID,
        study_instance_uid=header.StudyInstanceUID,
        sha256="cd" * 32,
        path=Path("20240304") / "1.dcm",
        received_at=builders.MORNING,
        scored_at=builders.MORNING + timedelta(seconds=9),
        prediction=builders.prediction(**given),
    )


def revision(**changes: Any) -> Revision:
    """Give the first revision of the study."""
    first = Revision(
        id=1,
        study_instance_uid=STUDY,
        number=1,
        digest="ef" * 32,
        created_at=builders.MORNING,
        predecessors={},
        priority_reason="Raised to HIGH: Pneumothorax 0.90, threshold 0.50.",
    )
    return dataclasses.replace(first, **changes)


def objects(*headers: Dataset, profile: str = "air", **changes: Any) -> list[BuiltObject]:
    """Build the objects of a study with these images; `changes` are the revision's."""
    return build_objects(
        revision(**changes),
        [stored(header) for header in headers],
        sources(*headers),
        PROFILES[profile],
    )


def note(
    header: Dataset, built: Sequence[BuiltObject], *, profile: str = "air", reason: Reason = Reason.SUPERSEDED
) -> BuiltObject:
    """Build the rejection note about objects of a study."""
    rejection = Rejection(
        destination="pacs",
        reason=reason,
        revision=revision(number=2),
        objects=[_made(each, profile) for each in built],
        delivery_ids=range(1, len(built) + 1),
        predictions=[stored(header)],
        header=builders.instance_header(),
    )
    return BuiltObject(build_note(rejection, header, PROFILES[profile]), ObjectKind.NOTE, "")


def _made(built: BuiltObject, profile: str) -> ResultObject:
    dataset = built.dataset
    return ResultObject(
        kind=built.kind,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        study_instance_uid=str(dataset.StudyInstanceUID),
        source_sop_instance_uid=built.source_sop_instance_uid,
        profile=profile,
        path=Path("20240304") / "object.dcm",
        sha256="ab" * 32,
    )


def sources(*headers: Dataset) -> dict[str, Source]:
    """Give the radiographs with their pixels, by SOP Instance UID."""
    return {header.SOPInstanceUID: Source(header=header, picture=picture(header)) for header in headers}


def picture(header: Dataset) -> Picture:
    """Give the radiograph as it is displayed, its pixels square."""
    grey = (builders.thorax_pixels(header.Rows, header.Columns) >> 4).astype(np.uint8)
    return Picture(grey_HW=grey, window=Window(center=2048, width=4096, function="LINEAR"))


def numbers(header: Dataset, profile: str) -> list[tuple[str, str, float]]:
    """Give what a report has to say in numbers: (tracking identifier, code of the quantity, value), in its order."""
    prediction = stored(header).prediction
    told = []
    for finding in prediction.findings:
        name = f"{finding.label} {finding.probability:.2f}, image 1"
        if not PROFILES[profile].numbers_named:
            told += [(name, "122157", finding.probability), (name, "OPERATING-THRESHOLD", finding.threshold)]
        elif finding.present:
            told.append((name, "122157", finding.probability))
    for structure in STRUCTURES:
        name = f"{PROFILES[profile].meaning(structure.code)}, image 1"
        told += [
            (name, MEASUREMENT_CODES[each.name].value, round(each.value, 4))
            for each in prediction.measurements
            if MEASURED_STRUCTURE[each.name] == structure.name
        ]
    return told


def of_kind(built: list[BuiltObject], kind: ObjectKind) -> Dataset:
    """Give the one object of a kind."""
    (found,) = [each.dataset for each in built if each.kind is kind]
    return found


def written(dataset: Dataset) -> Dataset:
    """Give an object as its reader finds it."""
    return dcmread(BytesIO(b"".join(encode(dataset))))


def errors(dataset: Dataset, folder: Path) -> list[str]:
    """Give what dciodvfy finds wrong."""
    return [line for line in _complaints(dataset, folder) if line.startswith("Error")]


def warnings(dataset: Dataset, folder: Path) -> set[str]:
    """Give what dciodvfy finds unusual."""
    return {line for line in _complaints(dataset, folder) if line.startswith("Warning")}


def dump(dataset: Dataset, folder: Path) -> str:
    """Give the document as DCMTK reads it; fails if it cannot."""
    told = subprocess.run(
        [DSRDUMP, "+Pl", _file(dataset, folder)], check=True, capture_output=True, timeout=60
    )  # +Pl: long values in full
    return told.stdout.decode("utf-8", "replace")


def _complaints(dataset: Dataset, folder: Path) -> list[str]:
    told = subprocess.run([DCIODVFY, _file(dataset, folder)], check=False, capture_output=True, timeout=60)
    text = (told.stdout + told.stderr).decode("utf-8", "replace")
    # Its first words name the IOD: without them it has not recognised, and so not validated, the object.
    assert any(name in text for name in IODS), text
    return text.splitlines()


def _file(dataset: Dataset, folder: Path) -> Path:
    path = folder / "object.dcm"
    path.write_bytes(b"".join(encode(dataset)))
    return path
