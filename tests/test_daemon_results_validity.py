"""Result objects in the eyes of others: dciodvfy and DCMTK."""

from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForProcessing,
)

import results
from cxr_triage.daemon.results.profiles import PROFILES
from cxr_triage.storage.records import ObjectReference

CR: dict[str, Any] = {"SOPClassUID": ComputedRadiographyImageStorage}
TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
)

SOURCES: dict[str, dict[str, Any]] = {
    "DX, detector spacing": {},
    "DX, no spacing, even columns": {"ImagerPixelSpacing": None, "rows": 40, "columns": 32},
    "DX, calibrated": {"PixelSpacing": [0.143, 0.143], "PixelSpacingCalibrationType": "FIDUCIAL"},
    "DX for processing, 16 bit": {
        "SOPClassUID": DigitalXRayImageStorageForProcessing,
        "PresentationIntentType": "FOR PROCESSING",
        "BitsStored": 16,
    },
    "CR, MONOCHROME1, 10 bit": {**CR, "PhotometricInterpretation": "MONOCHROME1", "BitsStored": 10},
    "CR, 8 bit, no orientation": {**CR, "BitsStored": 8, "PatientOrientation": None, "columns": 31},
    "CR, empty orientation, lossy": {
        **CR,
        "PatientOrientation": "",
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "10.5",
        "LossyImageCompressionMethod": "ISO_15444_1",
    },
    "no type 2 attributes": dict.fromkeys(TYPE_2),
    "empty type 2 attributes": dict.fromkeys(TYPE_2, ""),
    "Japanese name": {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "ReferringPhysicianName": "",
        "StudyDescription": "",
    },
    "German name, Latin 1": {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen"},
    "German name, UTF-8": {"PatientName": "Weiß^Jörg", "PatientComments": "Größe geschätzt"},
    "coded procedure, time zone": {"TimezoneOffsetFromUTC": "+0900"},
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("case", SOURCES)
def test_no_validator_finds_an_error(case: str, profile: str, tmp_path: Path) -> None:
    """The objects of every kind of source are what the standard asks for."""
    for built in results.objects(results.source(**SOURCES[case]), profile=profile):
        assert results.errors(built.dataset, tmp_path) == []


def test_the_only_warning_is_about_our_own_codes(tmp_path: Path) -> None:
    """Everything else is from coding schemes that the standard knows."""
    seg, sr = results.objects(results.source())
    assert results.warnings(seg.dataset, tmp_path) == set()
    assert results.warnings(sr.dataset, tmp_path) == {
        "Warning - Unrecognized defined term <99CXRTRIAGE> for value 1 of attribute <Coding Scheme Designator>"
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_a_revision_of_two_images_is_valid(profile: str, tmp_path: Path) -> None:
    """A CR and a DX in one study, superseding an earlier SR."""
    other = results.source(**CR, SOPInstanceUID="1.2.3.4.2.1", SeriesInstanceUID="1.2.3.4.2", columns=30)
    earlier = ObjectReference("1.2.840.10008.5.1.4.1.1.88.34", "1.2.3.4.9.1", "1.2.3.4.9", results.STUDY)
    built = results.objects(results.source(), other, profile=profile, number=2, predecessor_sr=earlier)
    assert [found for thing in built if (found := results.errors(thing.dataset, tmp_path))] == []


def test_dcmtk_reads_the_report(tmp_path: Path) -> None:
    """DCMTK parses the whole tree and shows what a person must know."""
    *_, sr = results.objects(results.source())
    told = results.dump(sr.dataset, tmp_path)
    for words in (
        "Comprehensive 3D SR Document",
        "research, not for diagnosis",
        "UNVERIFIED",
        'NUM:(,,"Probability")="0.9" (1,UCUM,"no units")',
        '(36118008,SCT,"Pneumothorax")',
        'NUM:(,,"Cardiothoracic ratio")="0.52"',
        '(113941,DCM,"In Detector Plane")',
        "weights-sha256=" + "ab" * 32,
        "Raised to HIGH: Pneumothorax 0.90, threshold 0.50.",
        "no image is stated to be normal",
    ):
        assert words in told
