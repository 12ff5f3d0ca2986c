"""Patient and study modules: the source's own, whatever it wrote there."""

import random
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
from cxr_triage.daemon.results.finishing import encode
from cxr_triage.daemon.results.patient import COPIED, MUST_BE_PRESENT
from cxr_triage.model.header import quiet_pydicom
from cxr_triage.storage.result_records import ObjectKind

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
    """The moment is when the image came; the zone the source's. When the object was made does not show."""
    for made in _pair(results.source(TimezoneOffsetFromUTC="+0900")):
        assert (
            made.ContentDate,
            made.ContentTime,
            made.TimezoneOffsetFromUTC,
        ) == ("20240304", "170000.000000", "+0900")


def test_a_sequence_that_cannot_be_parsed_is_left_out() -> None:
    """There is nothing to copy; the rest of the patient is."""
    header = results.source()
    _put(header, "OtherPatientIDsSequence", b"abc ")
    for made in _pair(header):
        assert "OtherPatientIDsSequence" not in made
        assert str(made.PatientName) == "Muster^Erika"


def test_bytes_stay_also_under_a_character_set_that_they_break() -> None:
    """Decoding and encoding again would lose them."""
    name = b"M\xfcller^J\xfcrgen"  # Latin 1, said to be UTF-8
    header = results.source()
    _put(header, "PatientName", name + b" ")
    for built in results.objects(header):
        assert results.written(built.dataset).get_item("PatientName").value == name + b" "


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_in_a_header_do_not_stop_a_report(seed: int) -> None:
    """Whatever stands in the elements that are copied or read."""
    drawn = random.Random(seed)
    with quiet_pydicom():
        for _ in range(5):
            header = results.source()
            for keyword in drawn.sample([*COPIED, "PatientOrientation", "PixelSpacing", "ImagerPixelSpacing"], 30):
                _put(header, keyword, drawn.randbytes(drawn.randrange(60)))
            kinds = [built.kind for built in results.objects(header) if encode(built.dataset).dataset]
            assert kinds == [ObjectKind.SEG, ObjectKind.SR]
