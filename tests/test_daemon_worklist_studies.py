"""Study Root queries against DCMTK: studies on the list in their order, and what is in one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from builders import finding
from cxr_triage.daemon.worklist.c_find import STUDY_ROOT_FIND
from cxr_triage.storage.list_records import ListedImage
from listings import DIGITAL_X_RAY, VERSION, board_of, listed_study, listing
from listings import finding as served
from peers import LOOPBACK, findscu, orthanc

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
IMAGES = {
    "1.2.1": [
        ListedImage("1.2.1.1", "DX", DIGITAL_X_RAY, "1.2.1.1.1"),
        ListedImage("1.2.1.2", "OT", CAPTURE, "1.2.1.2.1"),
        ListedImage("1.2.1.1", "DX", DIGITAL_X_RAY, "1.2.1.1.2"),
    ],
    "1.2.2": [ListedImage("1.2.2.1", "CR", DIGITAL_X_RAY, "1.2.2.1.1")],
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Serve two studies, of which the later one is read first."""
    studies = [
        listed_study("1.2.1", minutes=1, patient_name="Müller^Jürgen", referring_physician_name=""),
        listed_study("1.2.2", finding(), minutes=2),
    ]
    board = board_of(studies, images=IMAGES)
    with served(lambda: board) as port:
        yield port


def found(port: int, *keys: str, folder: Path) -> list[Dataset]:
    """Query; gives the answers."""
    return findscu(port, *keys, folder=folder, options=("-S",))[1]


def test_studies_come_in_the_order_of_the_list(port: int, tmp_path: Path) -> None:
    """With their place, class and reason where a client asks for them."""
    keys = ("StudyInstanceUID", "0032,4000", "RequestedProcedurePriority", "RequestedProcedureComments")
    answers = found(port, "QueryRetrieveLevel=STUDY", *keys, folder=tmp_path)
    assert [(answer.StudyInstanceUID, answer.StudyComments) for answer in answers] == [
        ("1.2.2", f"Rank 1 of list version {VERSION}."),
        ("1.2.1", f"Rank 2 of list version {VERSION}."),
    ]
    assert [answer.RequestedProcedurePriority for answer in answers] == ["HIGH", "ROUTINE"]
    assert answers[0].RequestedProcedureComments.startswith("Raised from ROUTINE to HIGH: Pneumothorax")


def test_a_usual_query_is_answered_in_full(port: int, tmp_path: Path) -> None:
    """The required keys (PS3.4 Table C.6-5), and what is known of the images."""
    (answer,) = found(
        port,
        *("QueryRetrieveLevel=STUDY", "PatientName=müller*", "SpecificCharacterSet=ISO_IR 192", "StudyDate=20240304-"),
        *("StudyTime", "AccessionNumber", "PatientID", "StudyID", "StudyInstanceUID", "StudyDescription"),
        *("ModalitiesInStudy", "SOPClassesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
        folder=tmp_path,
    )
    assert (answer.QueryRetrieveLevel, answer.StudyInstanceUID) == ("STUDY", "1.2.1")
    assert (answer.StudyDate, answer.StudyTime, answer.AccessionNumber) == ("20240304", "075500", "ACC-0001")
    assert (str(answer.PatientName), answer.PatientID, answer.StudyID) == ("Müller^Jürgen", "PAT-0001", "S-1")
    assert (list(answer.ModalitiesInStudy), list(answer.SOPClassesInStudy)) == (["DX", "OT"], [DIGITAL_X_RAY, CAPTURE])
    assert (answer.NumberOfStudyRelatedSeries, answer.NumberOfStudyRelatedInstances) == (2, 3)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("ModalitiesInStudy=OT", ["1.2.1"]),
        ("ModalitiesInStudy=C?", ["1.2.2"]),
        ("NumberOfStudyRelatedInstances=3", ["1.2.1"]),
        ("StudyInstanceUID=1.2.2\\1.2.1", ["1.2.2", "1.2.1"]),
        ("StudyID=S-2", []),
    ],
)
def test_studies_are_matched(port: int, tmp_path: Path, key: str, expected: list[str]) -> None:
    """Also by what is in them."""
    answers = found(port, "QueryRetrieveLevel=STUDY", "StudyInstanceUID", key, folder=tmp_path)
    assert [answer.StudyInstanceUID for answer in answers] == expected


def test_series_of_a_study(port: int, tmp_path: Path) -> None:
    """Each once, as they came; Series Number is required, and not known."""
    keys = ("StudyInstanceUID=1.2.1", "SeriesInstanceUID", "Modality", "SeriesNumber", "NumberOfSeriesRelatedInstances")
    answers = found(port, "QueryRetrieveLevel=SERIES", *keys, folder=tmp_path)
    assert [(each.StudyInstanceUID, each.SeriesInstanceUID, each.Modality, each.SeriesNumber) for each in answers] == [
        ("1.2.1", "1.2.1.1", "DX", None),
        ("1.2.1", "1.2.1.2", "OT", None),
    ]
    assert [each.NumberOfSeriesRelatedInstances for each in answers] == [2, 1]


def test_images_of_a_series(port: int, tmp_path: Path) -> None:
    """Each with its class."""
    keys = ("StudyInstanceUID=1.2.1", "SeriesInstanceUID=1.2.1.1", "SOPInstanceUID", "SOPClassUID", "InstanceNumber")
    answers = found(port, "QueryRetrieveLevel=IMAGE", *keys, folder=tmp_path)
    assert [(each.SOPInstanceUID, each.SOPClassUID) for each in answers] == [
        ("1.2.1.1.1", DIGITAL_X_RAY),
        ("1.2.1.1.2", DIGITAL_X_RAY),
    ]


@pytest.mark.parametrize("key", ["StudyInstanceUID=1.2.99", "Modality=CT"])
def test_what_is_not_there_is_success(port: int, tmp_path: Path, key: str) -> None:
    """A study that is not on the list is not known here."""
    keys = ("StudyInstanceUID=1.2.1", key) if "Study" not in key else (key,)
    finished, answers = findscu(port, "QueryRetrieveLevel=SERIES", *keys, folder=tmp_path, options=("-S",))
    assert (finished.returncode, answers) == (0, [])
    assert "Success" in finished.stdout + finished.stderr


@pytest.mark.parametrize(
    ("keys", "comment", "element"),
    [
        (("PatientName",), "neither STUDY, SERIES nor IMAGE", "(0008,0052)"),
        (("QueryRetrieveLevel=PATIENT",), "neither STUDY, SERIES nor IMAGE", "(0008,0052)"),
        (("QueryRetrieveLevel=SERIES", "SeriesInstanceUID"), "the SERIES level names one", "(0020,000d)"),
        (("QueryRetrieveLevel=SERIES", "StudyInstanceUID"), "the SERIES level names one", "(0020,000d)"),
        (("QueryRetrieveLevel=SERIES", "StudyInstanceUID=1.2.1\\1.2.2"), "the SERIES level names one", "(0020,000d)"),
        (("QueryRetrieveLevel=IMAGE", "StudyInstanceUID=1.2.1"), "the IMAGE level names one", "(0020,000e)"),
        (("QueryRetrieveLevel=STUDY", "StudyDate=2024"), "neither a date", "(0008,0020)"),
    ],
)
def test_what_breaks_a_rule_is_refused(
    port: int, tmp_path: Path, keys: tuple[str, ...], comment: str, element: str
) -> None:
    """PS3.4 C.4.1.1.4: A900H, with the element and what is wrong with it."""
    finished, answers = findscu(port, *keys, folder=tmp_path, options=("-S", "-d"))
    said = finished.stdout + finished.stderr
    assert answers == []
    assert "0xa900" in said
    assert comment in said
    assert element in said


def test_off_unless_the_site_wants_it(tmp_path: Path) -> None:
    """A client's proposal is not accepted then."""
    with listing(lambda: [listed_study("1.2.1")], study_root=False) as port:
        finished, answers = findscu(port, "QueryRetrieveLevel=STUDY", folder=tmp_path, options=("-S",))
    assert answers == []
    assert finished.returncode != 0


def negotiated(port: int, proposed: bytes, **keys: str) -> tuple[bytes, list[str]]:
    """Propose, and ask for studies; gives what was accepted, and which studies were found."""
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = STUDY_ROOT_FIND, proposed
    query = Dataset()
    for keyword, value in {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", **keys}.items():
        query.add(DataElement(keyword, dictionary_VR(keyword), value, validation_mode=config.IGNORE))
    context = build_context(STUDY_ROOT_FIND)
    association = AE("READER").associate(LOOPBACK, port, contexts=[context], ae_title="CXRLIST", ext_neg=[item])
    assert association.is_established
    answers = [answer for _, answer in association.send_c_find(query, STUDY_ROOT_FIND) if answer is not None]
    association.release()
    accepted = association.acceptor.sop_class_extended.get(UID(STUDY_ROOT_FIND), b"")
    return accepted, [answer.StudyInstanceUID for answer in answers]


BOTH = ["1.2.2", "1.2.1"]


@pytest.mark.parametrize(
    ("proposed", "accepted"),
    [(b"\1", b"\0"), (b"\1\1", b"\0\1"), (b"\1" * 7, b"\0\1\0\0\0\1\1"), (b"\0" * 7, b"\0" * 7)],
)
def test_what_is_proposed_is_answered_byte_by_byte(port: int, proposed: bytes, accepted: bytes) -> None:
    """PS3.4 C.5.1.1: as many bytes as were proposed; relational queries are not done."""
    assert negotiated(port, proposed) == (accepted, BOTH)


@pytest.mark.parametrize(
    ("keys", "plain", "agreed"),
    [
        # From the evening before to the morning after.
        ({"StudyDate": "20240303-20240305", "StudyTime": "0800-0900"}, [], BOTH),
        ({"StudyDate": "20240304-20240305", "StudyTime": "0700-0800"}, BOTH, BOTH),
        ({"ModalitiesInStudy": "DX\\OT"}, ["1.2.1"], ["1.2.1"]),
        ({"ModalitiesInStudy": "DX\\CR"}, BOTH, []),
        ({"AccessionNumber": '""'}, [], []),
        ({"ReferringPhysicianName": '""'}, [], ["1.2.1"]),
    ],
)
def test_what_is_agreed_on_is_done(port: int, keys: dict[str, str], plain: list[str], agreed: list[str]) -> None:
    """And not otherwise."""
    assert negotiated(port, b"\0" * 7, **keys)[1] == plain
    assert negotiated(port, b"\0\1\0\0\0\1\1", **keys)[1] == agreed


def test_orthanc_asks(port: int, tmp_path: Path) -> None:
    """A PACS as client: studies in order, what is in one, and the modality worklist."""
    with orthanc(tmp_path, modalities={"list": ("CXRLIST", LOOPBACK, port)}) as client:

        def asked(level: str, **keys: str) -> list[dict[str, str]]:
            question = {"Level": level, "Query": keys, "Normalize": True}
            made = client.post("/modalities/list/query", json.dumps(question).encode())
            answers = client.get(f"/queries/{made['ID']}/answers?expand&simplify")
            assert isinstance(answers, list)
            return answers

        assert [each["StudyInstanceUID"] for each in asked("Study", PatientName="M*")] == BOTH
        (found,) = asked("Study", PatientName="MÜLLER*", ModalitiesInStudy="")
        assert (found["PatientName"], found["ModalitiesInStudy"]) == ("Müller^Jürgen", "DX\\OT")
        series = asked("Series", StudyInstanceUID="1.2.1", Modality="DX")
        assert [each["SeriesInstanceUID"] for each in series] == ["1.2.1.1"]
        images = asked("Instance", StudyInstanceUID="1.2.1", SeriesInstanceUID="1.2.1.1")
        assert [each["SOPInstanceUID"] for each in images] == ["1.2.1.1.1", "1.2.1.1.2"]
        steps = client.post("/modalities/list/find-worklist", json.dumps({"StudyInstanceUID": ""}).encode())
        assert [each["StudyInstanceUID"] for each in steps] == BOTH
