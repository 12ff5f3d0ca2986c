"""Data sets in JSON and XML: what goes in comes out, DCMTK says the same, and what is none is refused."""

import base64
import json
import subprocess
from email import message_from_bytes
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import config, dcmread
from pydicom.datadict import dictionary_VM

from cxr_triage.daemon.web.schemas import NEW_WORKITEM
from cxr_triage.daemon.web.ups import json_model, xml_model
from cxr_triage.daemon.web.ups.attributes import (
    INTEGER_RANGES,
    MAXIMUM_DEPTH,
    MalformedError,
    Model,
    data_set,
    model,
)
from cxr_triage.daemon.web.ups.media_types import AS_PARTS, BOUNDARY, JSON, XML
from cxr_triage.storage.database import Database
from worklists import Client, settings_of

DCM2XML, DCM2JSON = "/usr/bin/dcm2xml", "/usr/bin/dcm2json"

#: Characters that text may hold in JSON and in XML alike.
_LINE = st.text(
    st.characters(codec="utf-8", exclude_characters="\\\x7f\ufffe\uffff", exclude_categories=["Cc", "Cs"]), min_size=1
)
_PART = st.text(st.sampled_from("AÄ山田 é'&<>-"), min_size=1, max_size=8).filter(lambda text: text.strip() == text)
_NAME = st.lists(_PART, min_size=1, max_size=5).map("^".join)
#: An attribute per VR, so that each is written in the way of its VR.
_TEXTS = {"00404005": "DT", "00741204": "LO", "00741200": "CS", "00100030": "DA", "00080030": "TM", "00321060": "LO"}
_VALUES: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    **{tag: (vr, _LINE) for tag, vr in _TEXTS.items()},
    "00741238": ("LT", st.text(st.sampled_from("a\\\r\n\tÄ<&"), min_size=1)),
    "00280009": ("AT", st.integers(0, 2**32 - 1).map("{:08X}".format)),
    "00280010": ("US", st.integers(*INTEGER_RANGES["US"])),
    "00200013": ("IS", st.integers(*INTEGER_RANGES["IS"])),
    "00189074": ("DT", _LINE),
    "00189087": ("FD", st.floats(allow_nan=False, allow_infinity=False)),
    "00186060": ("FL", st.floats(allow_nan=False, allow_infinity=False, width=32)),
    "00100010": ("PN", st.fixed_dictionaries({"Alphabetic": _NAME}, optional={"Ideographic": _NAME})),
    "00081195": ("UI", st.from_regex(r"2\.25\.[1-9][0-9]{0,30}", fullmatch=True)),
}


def _attribute(vr: str, value: st.SearchStrategy[Any], tag: str) -> st.SearchStrategy[Model]:
    many = 3 if dictionary_VM(tag).endswith("n") else 1
    empty = st.just({"vr": vr})
    return empty | st.lists(value, min_size=1, max_size=many).map(lambda values: {"vr": vr, "Value": values})


def _of(nested: st.SearchStrategy[Model]) -> st.SearchStrategy[Model]:
    plain = {tag: _attribute(vr, value, tag) for tag, (vr, value) in _VALUES.items()}
    items = st.lists(nested, max_size=2).map(lambda found: {"vr": "SQ", "Value": found} if found else {"vr": "SQ"})
    binary = st.binary(min_size=1, max_size=9).map(lambda found: {"vr": "OB", "InlineBinary": _base64(found)})
    return st.fixed_dictionaries({}, optional={**plain, "00741002": items, "00420011": binary}).map(
        lambda found: dict(sorted(found.items()))
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


MODELS = _of(_of(st.just({})))


def _whole(made: Model) -> Model:
    """What says of itself that it is in UTF-8, as all that we write."""
    return {"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}, **made} if made else made


@given(MODELS)
@settings(max_examples=200)
def test_json_goes_round(made: Model) -> None:
    """Into a data set and out of it."""
    written = json_model.write([model(data_set(made))])
    assert json.loads(written) == [_whole(made)]
    assert model(data_set(json_model.read(written))) == _whole(made)


@given(MODELS)
@settings(max_examples=200)
def test_xml_goes_round(made: Model) -> None:
    """Every attribute, value and blank."""
    assert model(data_set(xml_model.read(xml_model.write(_whole(made))))) == _whole(made)


_KEYS = st.text() | st.sampled_from(["vr", "Value", "00100010"])
_ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda each: st.lists(each) | st.dictionaries(_KEYS, each)
)


@given(_ANY)
def test_any_json_is_read_or_refused(found: Any) -> None:
    """Nothing else happens, whatever it is."""
    try:
        data_set(json_model.read(json.dumps(found).encode()))
    except MalformedError:
        assert found != {}


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    """By both readers."""
    for read in (json_model.read, xml_model.read):
        with pytest.raises(MalformedError):
            data_set(read(b"<" + content))


def _of_one(tag: str, vr: str, *values: Any) -> bytes:
    return json.dumps({tag: {"vr": vr, "Value": list(values)}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"[{},{}]",
        b"7",
        b'{"PatientName":{"vr":"PN"}}',
        b'{"00100010":{"vr":"PN"},"00100010":{"vr":"PN"}}',
        b'{"0010001a":{"vr":"LO"},"0010001A":{"vr":"LO"}}',
        b'{"00100010":{}}',
        b'{"00100010":{"vr":"PN","BulkDataURI":"http://elsewhere.example"}}',
        b'{"00100010":{"vr":"LO"}}',
        b'{"00091001":{"vr":"XX"}}',
        b'{"00000002":{"vr":"UI"}}',
        b'{"00020010":{"vr":"UI"}}',
        b'{"00100000":{"vr":"UL"}}',
        b'{"00420011":{"vr":"OB","Value":[1]}}',
        b'{"00420011":{"vr":"OB","InlineBinary":"?"}}',
        b'{"00189087":{"vr":"FD","Value":[NaN]}}',
        b'{"00741204":{"vr":"LO","Value":"x"}}',
        _of_one("00741204", "LO", 7),
        _of_one("00741204", "LO", "a\\b"),
        _of_one("00741204", "LO", "a\nb"),
        _of_one("00741204", "LO", "\ud800"),
        _of_one("00741238", "LT", "a\x00"),
        _of_one("00741238", "LT", "a", "b"),
        _of_one("00741204", "LO", "a", "b"),
        _of_one("00100010", "PN", "A^B"),
        _of_one("00100010", "PN", {"Alphabetic": "A=B"}),
        _of_one("00100010", "PN", {"alphabetic": "A"}),
        _of_one("00280010", "US", 2**16),
        _of_one("00280010", "US", -1),
        _of_one("00280010", "US", 1.5),
        _of_one("00280010", "US", "1"),
        b'{"00280010":{"vr":"US","Value":[true]}}',
        _of_one("00200013", "IS", "one"),
        _of_one("00200013", "IS", 2**31),
        _of_one("00186060", "FL", 1e39),
        _of_one("0040A30A", "DS", "1,5"),
        _of_one("0040A30A", "DS", "1_5"),
        _of_one("00280009", "AT", "00100010", None),
        _of_one("0040A30A", "DS", "inf"),
        _of_one("00280009", "AT", "0028"),
        "{}".encode("utf-16"),
    ],
)
def test_json_that_is_no_data_set(content: bytes) -> None:
    """Refused without a word of what it holds."""
    with pytest.raises(MalformedError):
        data_set(json_model.read(content))


def _native(inner: str) -> str:
    return f"<NativeDicomModel>{inner}</NativeDicomModel>"


def _patient(inner: str) -> str:
    return f'<DicomAttribute tag="00100010" vr="PN">{inner}</DicomAttribute>'


def _rows(inner: str) -> str:
    return f'<DicomAttribute tag="00280010" vr="US">{inner}</DicomAttribute>'


@pytest.mark.parametrize(
    "content",
    [
        "<NativeDicomModel>",
        "<Native/>",
        '<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel/>',
        _native("<Attribute/>"),
        _native(_patient("") + _patient("")),
        _native(_patient('<Value number="1">A</Value>')),
        _native(_patient("<PersonName>A</PersonName>")),
        _native(_patient('<PersonName number="1"><Latin/></PersonName>')),
        _native(_patient('<PersonName number="1"/><PersonName number="1"/>')),
        _native(_rows('<Value number="1025">1</Value>')),
        _native(_rows('<Value number="1">one</Value>')),
        _native('<DicomAttribute tag="00090010" vr="LO"/>'),
    ],
)
def test_xml_that_is_no_data_set(content: str) -> None:
    """Entities are not looked at."""
    with pytest.raises(MalformedError):
        data_set(xml_model.read(content.encode()))


@pytest.mark.parametrize("depth", [MAXIMUM_DEPTH, MAXIMUM_DEPTH + 1])
def test_sequences_go_so_deep(depth: int) -> None:
    """Further down, nothing is read, in whatever spelling."""
    made: Model = {}
    for _ in range(depth):
        made = {"00741002": {"vr": "SQ", "Value": [made]}}
    for read in (json_model.read(json.dumps(made).encode()), made):
        if depth <= MAXIMUM_DEPTH:
            assert model(data_set(read)) == _whole(made)
        else:
            with pytest.raises(MalformedError, match="deeper"):
                data_set(read)
    if depth > MAXIMUM_DEPTH:
        with pytest.raises(MalformedError, match="deeper"):
            xml_model.read(xml_model.write(made))


@pytest.mark.parametrize("number", ["1025", "00000000120000", "000000001" + "2" * 5000, "1" * 5000, "0", "-1", "²"])
def test_a_number_that_no_value_may_have_is_refused_before_it_makes_room(number: str) -> None:
    """However it is written: a few bytes must not become a list of millions."""
    with pytest.raises(MalformedError, match="from 1 to 1024"):
        xml_model.read(_native(_rows(f'<Value number="{number}">1</Value>')).encode())


@pytest.mark.parametrize("number", ["3", "003", "0" * 5000 + "3"])
def test_zeros_in_front_of_a_number_mean_nothing(number: str) -> None:
    """It is the third value."""
    read = xml_model.read(_native(_rows(f'<Value number="{number}">7</Value>')).encode())
    assert read["00280010"]["Value"] == [None, None, 7]


def test_numbers_may_skip_empty_values() -> None:
    """PS3.19 Table A.1.5-2."""
    value = '<DicomAttribute tag="00321060" vr="LO"><Value number="3">c</Value></DicomAttribute>'
    read = xml_model.read(f"<NativeDicomModel>{value}</NativeDicomModel>".encode())
    assert read == {"00321060": {"vr": "LO", "Value": [None, None, "c"]}}


def test_characters_that_xml_has_not_are_replaced() -> None:
    """A form feed is text in DICOM, and in XML nothing."""
    written = xml_model.write({"00741238": {"vr": "LT", "Value": ["a\x0cb"]}})
    assert xml_model.read(written)["00741238"]["Value"] == ["a\N{REPLACEMENT CHARACTER}b"]


def test_several_data_sets_are_parts() -> None:
    """RFC 2046 5.1.1: what a parser of mail makes of them."""
    made = [{"00100020": {"vr": "LO", "Value": [name]}} for name in ("first", "second")]
    whole = message_from_bytes(b"Content-Type: " + AS_PARTS.name.encode() + b"\r\n\r\n" + AS_PARTS.write(made))
    parts = [part for part in whole.walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in parts] == ["application/dicom+xml"] * 2
    contents = [part.get_payload(decode=True) for part in parts]
    assert [xml_model.read(content) for content in contents if isinstance(content, bytes)] == made
    assert whole.get_boundary() == BOUNDARY


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A data set as a file, with a value in every way of writing one."""
    made: Model = {
        "00080008": {"vr": "CS", "Value": ["DERIVED", "SECONDARY"]},
        "00081195": {"vr": "UI", "Value": ["2.25.1"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]},
        "00189087": {"vr": "FD", "Value": [0.5]},
        "00200013": {"vr": "IS", "Value": [7]},
        "00280009": {"vr": "AT", "Value": ["00100010"]},
        "00280010": {"vr": "US", "Value": [512]},
        "00321060": {"vr": "LO", "Value": ["Wörns & <Söhne>"]},
        "00420011": {"vr": "OB", "InlineBinary": "AAEC/w=="},
        "00741002": {"vr": "SQ", "Value": [{"00741238": {"vr": "LT", "Value": ["a\\b"]}}, {}]},
        "00741200": {"vr": "CS"},
    }
    with config.disable_value_validation():
        dataset = data_set(made)
        dataset.save_as(tmp_path / "step.dcm", implicit_vr=False, little_endian=True)
    return tmp_path / "step.dcm"


def _printed(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout


def test_dcmtk_writes_the_same_xml(file: Path) -> None:
    """`dcm2xml` is of other authors: what it writes of a file, we read as the same data set."""
    with config.disable_value_validation():
        expected = model(dcmread(file, force=True))
    written = _printed(DCM2XML, "--native-format", "--encode-base64", "-f", "-te", str(file))
    assert model(data_set(xml_model.read(written))) == expected
    ours = xml_model.read(xml_model.write(expected))
    assert model(data_set(ours)) == expected


def test_dcmtk_writes_the_same_json(file: Path) -> None:
    """`dcm2json` likewise."""
    expected = model(dcmread(file, force=True))
    assert model(data_set(json_model.read(_printed(DCM2JSON, "-f", "-te", str(file))))) == expected


#: What a new Workitem may have besides what it must have; the state, the progress and the claim are not the SCU's.
_GIVEN = MODELS.map(
    lambda made: {tag: each for tag, each in made.items() if tag not in {"00081195", "00741002", "00741200"}}
)


@given(_GIVEN)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_placed_comes_back(tmp_path: Path, sqlite_database: Database, made: Model) -> None:
    """Through the ledger, in both spellings, and found by a search; or it is refused, and nothing of it is kept."""
    client = Client(settings_of(tmp_path), sqlite_database)
    uid = f"2.25.{uuid4().int}"
    placed = client.ask("POST", f"/workitems?{uid}", NEW_WORKITEM | made)
    shown = [client.ask("GET", f"/workitems/{uid}", accept=each) for each in (JSON, XML)]
    assert {answer.status_code for answer in shown} == {200 if placed.status_code == 201 else 404}
    if placed.status_code == 201:
        (in_json,), in_xml = shown[0].json(), xml_model.read(shown[1].content)
        assert {tag: in_json[tag] for tag in made} == made
        assert model(data_set(in_xml)) == in_json
        found = client.ask("GET", f"/workitems?SOPInstanceUID={uid}&includefield=all")
        assert found.json()[0]["00080018"]["Value"] == [uid]
    else:
        assert placed.status_code == 400
