"""Every object of every profile, of every kind of source, in the eyes of those who did not make it.

    cd tests && ../.venv/bin/python validity.py > ../docs/reference/validity.md

tests/test_daemon_results_validity.py asks that the page is what this makes.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, DigitalXRayImageStorageForProcessing

import builders
import displays
import results
from cxr_triage.daemon.results.finishing import encode
from cxr_triage.daemon.results.objects import BuiltObject
from cxr_triage.daemon.results.profiles import PROFILES
from cxr_triage.storage.result_records import ObjectKind

DCENTVFY = Path(sys.executable).with_name("dcentvfy")
CR: dict[str, Any] = {"SOPClassUID": ComputedRadiographyImageStorage}
TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
)
#: What modalities send, each odd in its own way.
SOURCES: dict[str, dict[str, Any]] = {
    "DX, detector spacing": {},
    "DX, no spacing, even columns": {"ImagerPixelSpacing": None, "rows": 40, "columns": 32},
    "DX, calibrated": {"PixelSpacing": [0.143, 0.143], "PixelSpacingCalibrationType": "FIDUCIAL"},
    "DX for processing, 16 bit": {
        "SOPClassUID": DigitalXRayImageStorageForProcessing,
        "PresentationIntentType": "FOR PROCESSING",
        "BitsStored": 16,
    },
    "DX, mirrored, window": {"PatientOrientation": ["R", "F"], "WindowCenter": 2000, "WindowWidth": 1500},
    "DX, two windows, sigmoid": {"WindowCenter": [2000, 1800], "WindowWidth": [1500, 900], "VOILUTFunction": "SIGMOID"},
    "DX, VOI LUT": {"VOILUTSequence": [builders.lookup_table(range(0, 4096, 2), bits=12)]},
    "CR, pixels that are not square": {**CR, "ImagerPixelSpacing": [0.2, 0.1]},
    "CR, aspect ratio, no spacing": {**CR, "ImagerPixelSpacing": None, "PixelAspectRatio": [3, 2]},
    "CR, MONOCHROME1, 10 bit": {**CR, "PhotometricInterpretation": "MONOCHROME1", "BitsStored": 10},
    "CR, 8 bit, no orientation": {**CR, "BitsStored": 8, "PatientOrientation": None, "columns": 31},
    "CR, empty orientation, lossy": {
        **CR,
        "PatientOrientation": "",
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "10.5",
        "LossyImageCompressionMethod": "ISO_15444_1",
    },
    "CR, modality LUT": {
        **CR,
        "ModalityLUTSequence": [builders.modality_lookup_table(range(4096), bits=12)],
    },
    "no type 2 attributes": dict.fromkeys(TYPE_2),
    "empty type 2 attributes": dict.fromkeys(TYPE_2, ""),
    "Japanese name": {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "ReferringPhysicianName": "",
        "StudyDescription": "",
    },
    "Arabic name": {"SpecificCharacterSet": "ISO_IR 127", "PatientName": "قباني^لنزار"},
    "German name, Latin 1": {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen"},
    "German name, UTF-8": {"PatientName": "Weiß^Jörg", "PatientComments": "Größe geschätzt"},
    "coded procedure, time zone": {"TimezoneOffsetFromUTC": "+0900"},
}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One object, and what each validator says: True where it is content; None where it is not its business."""

    profile: str
    kind: ObjectKind
    sop_class: str
    dciodvfy: bool
    #: Of all objects of the same source together.
    dcentvfy: bool
    dcmtk: bool | None
    dcmqi: bool | None


def judged(profile: str, header: Dataset, folder: Path) -> Iterator[Judged]:
    """Look at all objects of one source in one profile, and at the note that rejects them."""
    objects = results.objects(header, profile=profile)
    objects.append(results.note(header, objects, profile=profile))
    consistent = contradictions(header, objects, folder) == []
    for built in objects:
        yield Judged(
            profile=profile,
            kind=built.kind,
            sop_class=UID(built.dataset.SOPClassUID).name,
            dciodvfy=results.errors(built.dataset, folder) == [],
            dcentvfy=consistent,
            dcmtk=_dcmtk(built, folder),
            dcmqi=_dcmqi(built, header, profile),
        )


def contradictions(header: Dataset, built: Sequence[BuiltObject], folder: Path) -> list[str]:
    """Give what dcentvfy finds to differ between a radiograph and its results: patient, study, series."""
    files = [displays.file_of(header, folder / "source.dcm")]
    for number, each in enumerate(built):
        files.append(folder / f"{number}.dcm")
        files[-1].write_bytes(b"".join(encode(each.dataset)))
    told = subprocess.run([DCENTVFY, *files], check=False, capture_output=True, timeout=60)
    lines = (told.stdout + told.stderr).decode("utf-8", "replace").splitlines()
    return [line for line in lines if not line.startswith("Warning")] + (
        [f"exit {told.returncode}"] * bool(told.returncode)
    )


def page() -> str:
    """Give the table as Markdown."""
    rows: dict[tuple[str, ObjectKind], list[Judged]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for profile in PROFILES:
            for source in SOURCES.values():
                for each in judged(profile, results.source(**source), Path(folder)):
                    rows.setdefault((profile, each.kind), []).append(each)
    listed = "\n".join(f"- {case}" for case in SOURCES)
    return HEAD.format(sources=listed) + "\n".join(map(_row, rows.values())) + "\n"


HEAD = """\
# Validity of what is sent

Made by tests/validity.py; do not edit.

Every object of every emission profile, and a note that rejects them all (NOTE), was made from a radiograph of each of
these kinds, and looked at by programs that are not ours:

{sources}

What they found wrong, out of so many objects. A dash: not its business.

- `dciodvfy` (dicom3tools): whether the object is what its IOD asks for.
- `dcentvfy` (dicom3tools): whether patient, study and series agree between source and results.
- `dsrdump` (DCMTK): whether a document can be read as a whole.
- `segimage2itkimage` (dcmqi): whether the masks come back bit by bit. It needs a plane, which only profile `ohif` has
  ([why](../decisions/0004-air-profile-without-geometry.md)).
- `tid1500reader` (dcmqi): whether all numbers come back as they are.

| profile | object | SOP class | objects | dciodvfy | dcentvfy | DCMTK | dcmqi |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |
"""


def _row(found: Sequence[Judged]) -> str:
    first = found[0]
    verdicts = ([each.dciodvfy, each.dcentvfy, each.dcmtk, each.dcmqi] for each in found)
    errors = " | ".join(_errors(column) for column in zip(*verdicts, strict=True))
    return f"| {first.profile} | {first.kind.value} | {first.sop_class} | {len(found)} | {errors} |"


def _errors(verdicts: Sequence[bool | None]) -> str:
    return "-" if None in verdicts else str(verdicts.count(False))


def _dcmtk(built: BuiltObject, folder: Path) -> bool | None:
    if built.kind not in (ObjectKind.SR, ObjectKind.KO, ObjectKind.NOTE):
        return None
    try:
        return bool(results.dump(built.dataset, folder))
    except subprocess.CalledProcessError:
        return False


def _dcmqi(built: BuiltObject, header: Dataset, profile: str) -> bool | None:
    with tempfile.TemporaryDirectory() as folder:
        if built.kind is ObjectKind.SEG and PROFILES[profile].nominal_plane:
            masks: NDArray[np.bool_] = results.stored(header).prediction.masks_CHW
            return displays.dcmqi_masks(built.dataset, Path(folder)) == [mask.tolist() for mask in masks]
        if built.kind is ObjectKind.SR and "1500" in str(built.dataset.get("ContentTemplateSequence")):
            return displays.dcmqi_numbers(built.dataset, Path(folder)) == results.numbers(header, profile)
    return None


if __name__ == "__main__":
    sys.stdout.write(page())
