"""Patient and study modules: the source's own, whatever it wrote there."""

import warnings
from typing import Any

import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

import results
from cxr_triage.daemon.results.patient import COPIED, MUST_BE_PRESENT

WITHOUT_TYPE_2: dict[str, Any] = dict.fromkeys(MUST_BE_PRESENT)


def _pair(header: Dataset) -> list[Dataset]:
    return [results.written(built.dataset) for built in results.objects(header)]


@pytest.mark.parametrize(
    "tags",
    [
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"},
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen", "StudyDescription": "Thorax übersicht"},
        {"SpecificCharacterSet": "GB18030", "PatientName": "Wang^XiaoDong=王^小东"},
        {"PatientName": "Weiß^Jörg", "PatientAge": "059Y", "PatientWeight": "72.5", "PregnancyStatus": 4},
    ],
)
def test_names_and_studies_are_the_sources(tags: dict[str, Any]) -> None:
    """In every character set, for SEG and SR."""
    header = results.source(**tags)
    for made in _pair(header):
        assert {k: header[k].value for k in COPIED if k in header} == {k: made[k].value for k in COPIED if k in made}
        assert tags["PatientName"] == str(made.PatientName)


def test_what_the_standard_wants_present_is_present() -> None:
    """Missing type 2 attributes become empty."""
    for made in _pair(results.source(**WITHOUT_TYPE_2)):
        assert dict.fromkeys(MUST_BE_PRESENT, True) == {k: made[k].is_empty for k in MUST_BE_PRESENT}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_transfer_syntaxes_are_copied(syntax: str) -> None:
    """Sequences, their nested items and binary numbers are rewritten in the object's own syntax."""
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = "HOSPITAL"
    other = Dataset()
    other.PatientID, other.IssuerOfPatientIDQualifiersSequence = "PAT-9", Sequence([issuer])
    header = results.source(OtherPatientIDsSequence=Sequence([other]), PregnancyStatus=4, syntax=syntax)
    for made in _pair(header):
        assert header.OtherPatientIDsSequence == made.OtherPatientIDsSequence
        assert (made.PregnancyStatus, str(made.PatientName)) == (4, "Muster^Erika")


def test_odd_values_are_copied_as_they_are() -> None:
    """No rule of a VR is applied to what is not ours, and no oddity stops a report."""
    odd = {
        "PatientSex": b"female person ",
        "PatientBirthDate": b"12.08.1964",
        "StudyDate": b"yesterday ",
        "StudyTime": b"99:99 ",
        "PatientWeight": b"about 70",
        "PatientAge": b"adult ",
        "PatientName": b"A^B^C^D^E^F^G=H=I=J ",
        "StudyID": b"x" * 300,
        "SpecificCharacterSet": b"ISO_IR 999",
        "PatientOrientation": b"upright ",
        "ImagerPixelSpacing": b"none",
        "TimezoneOffsetFromUTC": b"+9999 ",
    }
    header = results.source()
    for keyword, value in odd.items():
        _put(header, keyword, value)
    for built in results.objects(header):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, about the character set
            made = results.written(built.dataset)
        for keyword in ("PatientSex", "PatientBirthDate", "StudyDate", "StudyTime", "PatientName", "StudyID"):
            assert odd[keyword] == made.get_item(keyword).value


def _put(header: Dataset, keyword: str, value: bytes) -> None:
    """Set the bytes of an element that nobody has decoded."""
    header[keyword] = RawDataElement(
        Tag(keyword), dictionary_VR(keyword), len(value), value, 0, is_implicit_VR=False, is_little_endian=True
    )


def test_a_text_that_is_not_in_its_character_set_stays() -> None:
    """Latin 1 bytes in a source that names no character set."""
    header = results.source(SpecificCharacterSet=None)
    _put(header, "PatientName", "Müller^Jürgen ".encode("latin-1"))
    for built in results.objects(header):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = results.written(built.dataset)
            assert "Müller^Jürgen ".encode("latin-1") == made.get_item("PatientName").value
            assert "SpecificCharacterSet" not in made


def test_dates_follow_the_sources_clock() -> None:
    """The moment is the ledger's; the zone the source's."""
    for made in _pair(results.source(TimezoneOffsetFromUTC="+0900")):
        assert (
            made.ContentDate,
            made.ContentTime,
            made.TimezoneOffsetFromUTC,
        ) == ("20240304", "170000.000000", "+0900")
