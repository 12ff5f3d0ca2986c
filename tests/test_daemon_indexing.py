"""Indexing reads what it needs of a header, whatever the header is like, and nothing of the pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset

from builders import instance_header, radiograph_dataset, radiograph_file
from cxr_triage.daemon.indexing import KEYWORDS, read_instance_header
from cxr_triage.model.errors import UnreadableImageError


def test_header_as_it_came(tmp_path: Path) -> None:
    """Every field is read."""
    dataset = radiograph_dataset(IssuerOfPatientID="HOSPITAL")
    path = tmp_path / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)

    expected = instance_header(
        study_instance_uid=dataset.StudyInstanceUID, series_instance_uid=dataset.SeriesInstanceUID
    )
    assert expected == read_instance_header(path)


@pytest.mark.parametrize(
    ("character_sets", "name"),
    [
        (["ISO_IR 100"], "Müller^Jörg"),
        (["ISO_IR 192"], "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        (["ISO_IR 144"], "Люкceмбypг"),  # noqa: RUF001 - Cyrillic
        (["GB18030"], "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_in_their_character_set(tmp_path: Path, character_sets: list[str], name: str) -> None:
    """Names of several components and scripts are decoded (PS3.5 Annexes H, I, J, K)."""
    path = radiograph_file(tmp_path, SpecificCharacterSet=character_sets, PatientName=name)
    header = read_instance_header(path)

    assert name == header.patient_name
    assert "\\".join(character_sets) == header.specific_character_set


def test_unknown_character_set(tmp_path: Path) -> None:
    """A character set that nobody knows loses characters, not the image."""
    path = radiograph_file(tmp_path, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 777"))
    header = read_instance_header(path)

    assert header.patient_name.startswith("M")
    assert header.specific_character_set == "ISO_IR 777"


def test_missing_and_empty_values_are_empty(tmp_path: Path) -> None:
    """What is not there is empty."""
    path = radiograph_file(tmp_path, PatientName=None, AccessionNumber="", ViewPosition=None, SpecificCharacterSet=None)
    header = read_instance_header(path)

    assert (header.patient_name, header.accession_number, header.view, header.specific_character_set) == ("",) * 4


@pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")
def test_odd_values_come_as_they_are(tmp_path: Path) -> None:
    """Dates that are none, several values, control characters and endless texts do no harm."""
    path = radiograph_file(
        tmp_path,
        PatientBirthDate="unknown!",
        StudyTime="25:99",
        PatientID="A\\B",
        StudyDescription="x" * 5000,
        AccessionNumber="12\x0034\x07",
    )
    header = read_instance_header(path)

    assert header.patient_birth_date == "unknown!"
    assert header.study_time == "25:99"
    assert header.patient_id == "A\\B"
    assert len(header.study_description) == 1024
    assert header.accession_number == "1234"


def test_issuer_of_the_accession_number(tmp_path: Path) -> None:
    """By name, by universal ID, or both; odd contents are none."""
    named, universal = Dataset(), Dataset()
    named.LocalNamespaceEntityID = "RADIOLOGY"
    universal.UniversalEntityID = "1.2.3"
    universal.UniversalEntityIDType = "ISO"
    told = {"RADIOLOGY": [named], "&1.2.3&ISO": [universal], "": []}
    for expected, sequence in told.items():
        header = read_instance_header(radiograph_file(tmp_path, IssuerOfAccessionNumberSequence=sequence))
        assert header.issuer_of_accession_number == expected
    assert read_instance_header(radiograph_file(tmp_path)).issuer_of_accession_number == ""


def test_wrong_vr_is_no_error(tmp_path: Path) -> None:
    """A number, a sequence or bytes where text belongs."""
    dataset = radiograph_dataset(PatientID=None, AccessionNumber=None, StudyDescription=None)
    dataset.add_new("PatientID", "US", 17)
    dataset.add_new("AccessionNumber", "SQ", [Dataset()])
    dataset.add_new("StudyDescription", "OB", b"\xff\xfe")
    path = tmp_path / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    header = read_instance_header(path)

    assert (header.patient_id, header.accession_number) == ("17", "")


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", [None, "", "../../etc/passwd", "1." * 40])
@pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")
def test_image_of_no_study_is_refused(tmp_path: Path, keyword: str, value: str | None) -> None:
    """Without its two UIDs an image belongs nowhere."""
    tags: dict[str, Any] = {keyword: value}
    path = radiograph_file(tmp_path, **tags)
    with pytest.raises(UnreadableImageError, match=keyword):
        read_instance_header(path)


@pytest.mark.parametrize("content", [b"", b"GIF89a", bytes(200), bytes(128) + b"DICM\x02\x00\x00"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """What is not DICOM is refused."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError):
        read_instance_header(path)


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian]
)
def test_other_encodings(tmp_path: Path, syntax: uid.UID) -> None:
    """Implicit VR, big endian and deflated headers say the same."""
    dataset = radiograph_dataset(pixels=np.zeros((64, 64), np.uint8))
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    path = tmp_path / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    header = read_instance_header(path)

    assert (header.study_instance_uid, header.patient_name) == (dataset.StudyInstanceUID, "Muster^Erika")


def test_deflated_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that inflates without end is given up."""
    monkeypatch.setattr("cxr_triage.model.header.MAX_FILE_BYTES", 100_000)
    dataset = radiograph_dataset(pixels=np.zeros((512, 512), np.uint8))
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    path = tmp_path / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    with pytest.raises(UnreadableImageError, match="inflates"):
        read_instance_header(path)


def test_large_values_are_not_read(tmp_path: Path) -> None:
    """A header is read although a value before it claims more bytes than there are after it."""
    path = radiograph_file(tmp_path)
    content = path.read_bytes()
    pixels = content.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(content[: pixels + 12])

    assert read_instance_header(path).patient_id == "PAT-0001"


def test_no_warning_quotes_patient_data(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    """pydicom's warnings about odd values would quote them."""  # noqa: D403 - a name
    path = radiograph_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"19640812", b"NOTADATE"))
    read_instance_header(path)

    assert [str(warning.message) for warning in recwarn] == []
    assert caplog.text == ""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.tuples(st.integers(132, 1400), st.binary(min_size=1, max_size=6)), min_size=1, max_size=6))
def test_damaged_headers_are_read_or_refused(tmp_path: Path, cuts: list[tuple[int, bytes]]) -> None:
    """Whatever bytes stand in a header, it is read, or refused with our own error."""
    path = radiograph_file(tmp_path, SOPInstanceUID="1.2.3", pixels=np.zeros((4, 4), np.uint8))
    content = bytearray(path.read_bytes())
    for start, rubbish in cuts:
        content[start : start + len(rubbish)] = rubbish
    path.write_bytes(content)
    try:
        header: Any = read_instance_header(path)
    except UnreadableImageError:
        return
    assert all(isinstance(getattr(header, field), str) for field in KEYWORDS)
