"""Result objects in the eyes of others: dciodvfy, dcentvfy, DCMTK, dcmqi."""

from pathlib import Path

import pytest

import results
from cxr_triage.daemon.results.profiles import PROFILES
from cxr_triage.daemon.results.uids import CODING_SCHEME_UID
from cxr_triage.storage.result_records import ObjectKind, ObjectReference
from validity import CR, SOURCES, contradictions, judged

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "validity.md"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("case", SOURCES)
def test_no_validator_finds_an_error(case: str, profile: str, tmp_path: Path) -> None:
    """The objects of every kind of source are what the standard asks for, and other readers get out what went in."""
    for each in judged(profile, results.source(**SOURCES[case]), tmp_path):
        assert (each.dciodvfy, each.dcentvfy, each.dcmtk, each.dcmqi).count(False) == 0, each


def test_a_contradiction_is_found(tmp_path: Path) -> None:
    """The judge does judge: another patient's name in one of the objects."""
    header = results.source()
    built = results.objects(header)
    built[0].dataset.PatientName = "Another^Person"
    assert contradictions(header, built, tmp_path)


def test_the_page_lists_every_object_of_every_profile() -> None:
    """Without an error, of as many objects as there are kinds of sources; `validity.py` makes it."""
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    listed = {(row[0].removeprefix("| "), row[1]) for row in rows}
    assert listed == {
        (name, kind) for name, profile in PROFILES.items() for kind in profile.objects | {ObjectKind.NOTE}
    }
    assert {cell.rstrip(" |") for row in rows for cell in row[4:]} == {"0", "-"}
    # Raw pixels have no presentation state.
    assert {(row[1], int(row[3])) for row in rows} == {
        (kind, len(SOURCES) - (kind is ObjectKind.PR)) for kind in ObjectKind
    }
    assert [case for case in SOURCES if f"- {case}\n" not in PAGE.read_text(encoding="utf-8")] == []


#: PS3.3 Table C.12-1 has Device UID among contributing equipment; the validator's tables do not have it yet.
DEVICE_UID = {
    "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID ",
    (
        "Warning - Dicom dataset contains attributes not present in standard DICOM IOD - this is a Standard Extended "
        "SOP Class"
    ),
}


def test_the_only_warnings_are_about_our_own_codes(tmp_path: Path) -> None:
    """Name and UID of their scheme; everything else is from coding schemes that the standard knows."""
    seg, sr = results.objects(results.source())
    assert results.warnings(seg.dataset, tmp_path) == DEVICE_UID
    assert results.warnings(sr.dataset, tmp_path) == DEVICE_UID | {
        "Warning - Unrecognized defined term <99CXRTRIAGE> for value 1 of attribute <Coding Scheme Designator>",
        f"Warning - Unrecognized defined term <{CODING_SCHEME_UID}> for value 1 of attribute <Coding Scheme UID>",
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_a_revision_of_two_images_is_valid(profile: str, tmp_path: Path) -> None:
    """A CR and a DX in one study, superseding an earlier SR."""
    other = results.source(**CR, SOPInstanceUID="1.2.3.4.2.1", SeriesInstanceUID="1.2.3.4.2", columns=30)
    earlier = ObjectReference("1.2.840.10008.5.1.4.1.1.88.34", "1.2.3.4.9.1", "1.2.3.4.9", results.STUDY)
    built = results.objects(results.source(), other, profile=profile, number=2, predecessors={profile: [earlier]})
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
