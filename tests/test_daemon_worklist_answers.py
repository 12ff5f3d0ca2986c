"""What goes over the network with an answer: character sets, refusals, cancelling, and a list of a hundred thousand."""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import config, dcmwrite
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_FIND_RQ

from cxr_triage.daemon.dicom_server import Limits
from cxr_triage.daemon.worklist.board import Board, Place
from cxr_triage.daemon.worklist.c_find import MODALITY_WORKLIST_FIND
from listings import board_of, finding, listed_study, listing
from peers import LOOPBACK, eventually, findscu, stalling

#: Character set of the query, name in it, and the character set of the answer; None: it is ASCII.
SETS: list[tuple[Sequence[str], str, Sequence[str] | None]] = [
    (["ISO_IR 100"], "Müller^Jürgen", ["ISO_IR 100"]),
    (["ISO_IR 192"], "Müller^Jürgen", ["ISO_IR 192"]),
    (["ISO_IR 192"], "Yamada^Tarou=山田^太郎", ["ISO_IR 192"]),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
    (["ISO_IR 13"], "ﾔﾏﾀﾞ^ﾀﾛｳ", ["ISO_IR 13"]),
    (["ISO_IR 144"], "Иванов^Пётр", ["ISO_IR 144"]),
    (["GB18030"], "Wang^XiaoDong=王^小东", ["GB18030"]),
    (["ISO_IR 100"], "Muster^Erika", None),
]


def query_file(path: Path, character_set: Sequence[str], **keys: str) -> str:
    """Write a query in a character set, as a station would send it."""
    query = Dataset()
    query.SpecificCharacterSet = list(character_set)
    for keyword, value in keys.items():
        query.add(DataElement(keyword, dictionary_VR(keyword), value, validation_mode=config.IGNORE))
    query.file_meta = FileMetaDataset()
    query.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    query.file_meta.MediaStorageSOPClassUID = MODALITY_WORKLIST_FIND
    query.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dcmwrite(path, query, enforce_file_format=True)
    return str(path)


@pytest.mark.parametrize(("asked", "name", "answered"), SETS)
def test_a_query_is_understood_and_answered_in_its_character_set(
    tmp_path: Path, asked: Sequence[str], name: str, answered: Sequence[str] | None
) -> None:
    """PS3.4 C.2.2.2 and C.4.1.1.3.2: compared as Unicode; what is ASCII names no character set."""
    studies = [listed_study("1.2.1", patient_name="Beispiel^Otto"), listed_study("1.2.2", patient_name=name)]
    with listing(lambda: studies) as port:
        query = query_file(tmp_path / "query.dcm", asked, PatientName=name, StudyInstanceUID="")
        _, (answer,) = findscu(port, query, folder=tmp_path / "answers")
    assert (answer.StudyInstanceUID, str(answer.PatientName)) == ("1.2.2", name)
    found = answer.get("SpecificCharacterSet")
    assert (None if found is None else [found] if isinstance(found, str) else list(found)) == answered


@pytest.mark.parametrize("asked", [[], ["ISO_IR 100"], ["ISO_IR 13"]])
def test_text_that_the_station_cannot_hold_comes_in_unicode(tmp_path: Path, asked: Sequence[str]) -> None:
    """PS3.4 C.4.1.1.3.2 allows another set: better than a name with question marks in it."""
    with listing(lambda: [listed_study("1.2.1", patient_name="Yamada^Tarou=山田^太郎")]) as port:
        keys = (f"SpecificCharacterSet={asked[0]}",) if asked else ()
        _, (answer,) = findscu(port, *keys, "PatientName", folder=tmp_path)
    assert (answer.SpecificCharacterSet, str(answer.PatientName)) == ("ISO_IR 192", "Yamada^Tarou=山田^太郎")


@contextmanager
def station(port: int) -> Iterator[Association]:
    """Call the worklist."""
    context = build_context(MODALITY_WORKLIST_FIND, [ExplicitVRLittleEndian])
    association = AE("READER").associate(LOOPBACK, port, contexts=[context], ae_title="CXRLIST")
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def refused(port: int, query: Dataset) -> tuple[int, str, str]:
    """Ask for what is refused; gives status, Error Comment and Offending Element."""
    with station(port) as association:
        ((status, answer),) = association.send_c_find(query, MODALITY_WORKLIST_FIND)
    assert answer is None
    offending = status.get("OffendingElement")
    return int(status.Status), str(status.ErrorComment), "" if offending is None else str(offending)


@pytest.mark.filterwarnings("ignore:Unknown encoding")
def test_text_in_no_character_set_is_refused() -> None:
    """Nobody knows what it asks for; in ASCII, the name of the set does not matter."""
    query = Dataset()
    query.SpecificCharacterSet = "KLINGON"
    query.add(DataElement("PatientName", "PN", b"M\xfcller*"))
    with listing(lambda: [listed_study("1.2.1")]) as port:
        assert refused(port, query) == (0xA900, "a character set that is not defined", "(0008,0005)")
        query.PatientName = "M*"
        with station(port) as association:
            statuses = [status.Status for status, _ in association.send_c_find(query, MODALITY_WORKLIST_FIND)]
    assert statuses == [0xFF00, 0x0000]


def test_a_query_without_a_key_is_refused() -> None:
    """An answer to it would have no element."""
    query = Dataset()
    query.SpecificCharacterSet = "ISO_IR 100"
    with listing(lambda: [listed_study("1.2.1")]) as port:
        assert refused(port, query) == (0xA900, "the identifier has no key", "")


def test_a_query_without_a_data_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """PS3.7 9.3.2.1: its command says that none follows."""
    make = C_FIND_RQ.primitive_to_message

    def without_data_set(message: C_FIND_RQ, primitive: Any) -> None:
        make(message, primitive)
        message.command_set.CommandDataSetType = 0x0101

    with listing(lambda: [listed_study("1.2.1")]) as port:
        monkeypatch.setattr(C_FIND_RQ, "primitive_to_message", without_data_set)
        assert refused(port, Dataset()) == (0xA900, "the identifier has no key", "")


def test_a_query_whose_data_set_never_comes_ends_with_its_association() -> None:
    """What pynetdicom sends for an empty data set: announced, and not sent. There is no end that could be answered."""
    limits = Limits(network_timeout_seconds=0.5)
    with listing(lambda: [listed_study("1.2.1")], limits=limits) as port, station(port) as association:
        ((status, _),) = association.send_c_find(Dataset(), MODALITY_WORKLIST_FIND)
        assert "Status" not in status
        eventually(lambda: association.is_aborted)


@pytest.fixture(scope="module")
def crowd() -> Board:
    """Give a list of a hundred thousand studies."""
    study = listed_study("1.2")
    studies = []
    for number in range(100_000):
        uid = f"1.2.{number}"
        header = dataclasses.replace(study.header, study_instance_uid=uid, patient_id=f"P{number:06d}")
        studies.append(dataclasses.replace(study, study_instance_uid=uid, header=header))
    return board_of(studies)


@pytest.mark.parametrize(
    ("key", "expected"), [("PatientID=P0?9990", 10), ("StudyInstanceUID=1.2.99990", 1), ("PatientName=Nobody", 0)]
)
def test_few_of_a_hundred_thousand_are_found(crowd: Board, tmp_path: Path, key: str, expected: int) -> None:
    """Whichever key asks for them."""
    with finding(lambda: crowd) as port:
        _, answers = findscu(port, "StudyInstanceUID", key, folder=tmp_path)
    assert len(answers) == expected


def test_dcmtk_cancels_in_a_hundred_thousand(crowd: Board, tmp_path: Path) -> None:
    """The answers end soon after, with the status of a cancelled query."""
    with finding(lambda: crowd) as port:
        finished, answers = findscu(port, "StudyInstanceUID", folder=tmp_path, options=("-W", "--cancel", "5"))
    assert "Cancel" in finished.stdout + finished.stderr
    assert 5 <= len(answers) < 5_000


class Counted(Sequence[Place]):
    """Places that count how many of them were taken."""

    def __init__(self, places: Sequence[Place], *, seconds: float = 0) -> None:
        self.taken = 0
        self._places = places
        #: How long it takes to take one.
        self._seconds = seconds

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        """Take one."""
        self.taken += 1
        threading.Event().wait(self._seconds)
        return self._places[index]


def test_answers_may_take_longer_than_a_peer_may_be_silent() -> None:
    """It is not silent: it reads. Its association stands until it is released."""
    board = board_of([listed_study(f"1.2.{number}") for number in range(40)])
    slow = dataclasses.replace(board, places=Counted(board.places, seconds=0.03))
    query = Dataset()
    query.StudyInstanceUID = ""
    limits = Limits(network_timeout_seconds=0.6)
    with finding(lambda: slow, limits=limits) as port, station(port) as association:
        assert len(list(association.send_c_find(query, MODALITY_WORKLIST_FIND))) == len(board.places) + 1
        association.release()
        assert association.is_released


def test_answers_wait_for_a_station_that_does_not_read() -> None:
    """What is made is what the network takes, however much there is: memory stays as it is."""
    study = listed_study("1.2", study_description="x" * 65_000)
    board = board_of([dataclasses.replace(study, study_instance_uid=f"1.2.{number}") for number in range(5_000)])
    counted = Counted(board.places)
    query = Dataset()
    query.RequestedProcedureDescription = ""
    crowded = dataclasses.replace(board, places=counted)
    with finding(lambda: crowded) as port, stalling(port, after_bytes=4096) as deaf, station(deaf) as association:
        answers = association.send_c_find(query, MODALITY_WORKLIST_FIND)
        threading.Thread(target=lambda: next(answers, None), daemon=True).start()
        eventually(lambda: counted.taken > 0)
        stopped_at = settled(lambda: counted.taken)
        association.abort()
    assert 0 < stopped_at < len(counted)


def settled(count: Callable[[], int]) -> int:
    """Wait until a number stays the same for half a second; gives it."""
    before = -1
    while (now := count()) != before:
        before = now
        threading.Event().wait(0.5)
    return now
