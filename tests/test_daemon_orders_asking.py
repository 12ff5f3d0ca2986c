"""A RIS is asked by MWL: DCMTK's and Orthanc's worklists, our own, and some that behave badly."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import Event

from builders import MORNING
from cxr_triage.daemon.dicom_client import Peer
from cxr_triage.daemon.dicom_server import VERIFICATION
from cxr_triage.daemon.orders.asking import MAXIMUM_ENTRIES, ask, verify_ris
from cxr_triage.daemon.orders.questions import RETURN_KEYS, orders, questions
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.worklist.c_find import MODALITY_WORKLIST_FIND
from cxr_triage.daemon.worklist.identifiers import reading_id
from cxr_triage.daemon.worklist.mwl import WorklistRole
from cxr_triage.model.errors import OutOfResourcesError, RefusedError, UnreachableError
from cxr_triage.model.priority import Level
from cxr_triage.storage.order_records import Identity, Order, OrderSource
from ordering import PATIENT, RIS, STUDY, entry
from peers import LOOPBACK, REFUSED_CONNECTION, WORKLISTS, free_port, orthanc, running, wlmscpfs, write_entries

ABOUT = Identity(study_instance_uid=STUDY, accession_number="ACC-0001", patient_id=PATIENT)
Answer = tuple[int, Dataset | None]


def peer(port: int, **changes: Any) -> Peer:
    """Give a RIS at a port of this machine."""
    return replace(Peer(calling_ae_title="CXRTRIAGE", ae_title=RIS, host=LOOPBACK, port=port), **changes)


def asked(port: int, about: Identity = ABOUT, **changes: Any) -> list[Order]:
    """Ask a RIS about a study."""
    return ask(peer(port, **changes), about, lambda: datetime.now(UTC))


@contextmanager
def ris(answer: Callable[[Event], Iterator[Answer]]) -> Iterator[int]:
    """Run a RIS of pynetdicom that answers queries like this; gives its port."""
    entity = AE(ae_title=RIS)
    entity.add_supported_context(VERIFICATION)
    entity.add_supported_context(MODALITY_WORKLIST_FIND)
    server = entity.start_server((LOOPBACK, 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
    assert server is not None
    assert server.socket is not None
    try:
        yield int(server.socket.getsockname()[1])
    finally:
        server.shutdown()


@pytest.fixture(params=["wlmscpfs", "orthanc"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[list[Dataset]], Any]:
    """Give a real modality worklist: DCMTK's, which does not match by Study Instance UID, and Orthanc's, which does."""

    @contextmanager
    def of_orthanc(entries: list[Dataset]) -> Iterator[int]:
        write_entries(tmp_path / "entries", entries)
        served = orthanc(tmp_path / "orthanc", plugins=[WORKLISTS], worklists=tmp_path / "entries", ae_title=RIS)
        with served as server:
            yield server.dicom_port

    return of_orthanc if request.param == "orthanc" else lambda entries: wlmscpfs(tmp_path / "dcmtk", entries)


def test_a_real_worklist_says_what_was_ordered(serve: Callable[[list[Dataset]], Any]) -> None:
    """By Study Instance UID, else by accession number; of no other study; nothing where it does not say."""
    entries = [
        entry(STUDY, "STAT"),
        entry("1.2.3", "LOW", AccessionNumber="ACC-0002"),
        entry("1.2.4", "", AccessionNumber="ACC-0003"),
        entry("1.2.5", "URGENT", AccessionNumber="ACC-0004"),
    ]
    with serve(entries) as port:
        verify_ris(peer(port))
        (found,) = asked(port)
        assert (found.level, found.source, found.sender) == (Level.STAT, OrderSource.MWL, RIS)
        assert (found.about.study_instance_uid, found.about.patient_id) == (STUDY, PATIENT)
        by_number = {
            number: [each.level for each in asked(port, Identity(study_instance_uid="9.9", accession_number=number))]
            for number in ("ACC-0001", "ACC-0002", "ACC-0003", "ACC-0004", "ACC-0005", "ACC-000?", "*")
        }
    expected: dict[str, list[Level]] = {key: [] for key in by_number}
    assert by_number == expected | {"ACC-0001": [Level.STAT], "ACC-0002": [Level.LOW]}


def test_the_issuer_of_the_accession_number_is_read(tmp_path: Path) -> None:
    """Another department's number is another number."""
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = "RADIOLOGY"
    issuer.UniversalEntityID = "1.2.3"
    issuer.UniversalEntityIDType = "ISO"
    write_entries(tmp_path / "entries", [entry("1.2.3", IssuerOfAccessionNumberSequence=[issuer])])
    with orthanc(tmp_path / "o", plugins=[WORKLISTS], worklists=tmp_path / "entries", ae_title=RIS) as server:
        (found,) = asked(server.dicom_port)
        other = replace(ABOUT, issuer_of_accession_number="CARDIOLOGY&1.2.4&ISO")
        assert asked(server.dicom_port, other) == []
    assert found.about.issuer_of_accession_number == "RADIOLOGY&1.2.3&ISO"


def test_our_own_worklist_is_no_ris(sqlite_url: str, tmp_path: Path) -> None:
    """Whatever it is called and wherever it runs: it says so itself, by its Implementation Class UID."""
    port = free_port()
    section = {"enabled": True, "port": port, "ae_title": RIS}
    settings = Settings.model_validate({"worklist": section, "storage": {"root": tmp_path, "database": sqlite_url}})
    settings.prepare_folders()
    with running(WorklistRole(settings).run):
        for look in (lambda: asked(port), lambda: verify_ris(peer(port))):
            with pytest.raises(RefusedError, match="is cxr-triage itself"):
                look()


def test_our_own_list_is_known_also_by_way_of_a_broker(tmp_path: Path) -> None:
    """An entry that we made, in another's worklist: it orders nothing."""
    step = Dataset()
    step.ScheduledProcedureStepID = reading_id(STUDY)
    with wlmscpfs(tmp_path, [entry(STUDY, "HIGH", ScheduledProcedureStepSequence=[_whole(step)])]) as port:
        assert asked(port) == []


def _whole(step: Dataset) -> Dataset:
    whole = entry().ScheduledProcedureStepSequence[0]
    whole.update(step)
    assert isinstance(whole, Dataset)
    return whole


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_a_ris_that_is_not_there_gives_no_answer() -> None:
    """Host and port are named, so that a person can look."""
    port = free_port()
    with pytest.raises(UnreachableError, match=f"{RIS} at 127.0.0.1 port {port} gave no DICOM answer"):
        asked(port)


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_a_service_that_speaks_something_else_gives_no_answer() -> None:
    """A web server on that port, for instance."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UnreachableError):
            asked(listener.getsockname()[1], acse_timeout_seconds=5)
        thread.join()


def test_a_ris_without_worklist_is_told_from_one_that_is_down() -> None:
    """Somebody has to switch it on there."""
    entity = AE(ae_title=RIS)
    entity.add_supported_context(VERIFICATION)
    server = entity.start_server((LOOPBACK, 0), block=False)
    assert server is not None
    assert server.socket is not None
    try:
        with pytest.raises(RefusedError, match="does not offer a modality worklist"):
            asked(server.socket.getsockname()[1])
    finally:
        server.shutdown()


def test_a_ris_that_hangs_is_not_waited_for_for_ever() -> None:
    """The association ends with our patience."""
    released = threading.Event()

    def hang(_event: Event) -> Iterator[Answer]:
        released.wait(30)
        yield 0x0000, None

    with ris(hang) as port:
        try:
            with pytest.raises(UnreachableError, match="gave no answer to C-FIND"):
                asked(port, dimse_timeout_seconds=0.3)
        finally:
            released.set()


def test_a_ris_that_trickles_is_not_waited_for_for_ever() -> None:
    """Each entry comes in time, and there is no end to them."""
    released = threading.Event()

    def trickle(_event: Event) -> Iterator[Answer]:
        while not released.wait(0.1):
            yield 0xFF00, entry("1.2.3", AccessionNumber="X")
        yield 0x0000, None

    with ris(trickle) as port:
        try:
            with pytest.raises(UnreachableError, match="did not come to the end"):
                asked(port, dimse_timeout_seconds=0.5)
        finally:
            released.set()


def test_a_ris_that_sends_its_whole_list_is_asked_by_the_next_key() -> None:
    """It does not match by Study Instance UID, and has more entries than anybody should read for one study."""
    sent: list[str] = []

    def answer(event: Event) -> Iterator[Answer]:
        if event.identifier.StudyInstanceUID:
            for number in range(100 * MAXIMUM_ENTRIES):
                sent.append(str(number))
                yield 0xFF00, entry(f"1.2.{number}", AccessionNumber=f"X{number}")
        yield 0xFF00, entry(STUDY, "HIGH")
        yield 0x0000, None

    with ris(answer) as port:
        assert [each.level for each in asked(port)] == [Level.HIGH]
    assert len(sent) < 100 * MAXIMUM_ENTRIES


def test_a_ris_that_refuses_one_key_is_asked_by_the_other() -> None:
    """0xA900: the identifier does not match its SOP Class (PS3.4 Table K.4-1)."""

    def answer(event: Event) -> Iterator[Answer]:
        if event.identifier.StudyInstanceUID:
            yield 0xA900, None
            return
        yield 0xFF01, entry(STUDY, "HIGH")
        yield 0x0000, None

    with ris(answer) as port:
        assert [each.level for each in asked(port)] == [Level.HIGH]


@pytest.mark.parametrize(
    ("status", "error"),
    [(0xA700, OutOfResourcesError), (0xA900, RefusedError), (0xC001, RefusedError), (0x0122, RefusedError)],
)
def test_failures_are_no_answer(status: int, error: type[Exception]) -> None:
    """The status is told."""
    with ris(lambda _event: iter([(status, None)])) as port, pytest.raises(error, match=f"0x{status:04X}"):
        asked(port)


def test_the_most_urgent_of_several_entries_is_there_with_its_patient() -> None:
    """Two steps of one procedure, one of another patient: each is passed on as it is, and the ledger decides."""

    def answer(_event: Event) -> Iterator[Answer]:
        yield 0xFF00, entry(STUDY, "LOW")
        yield 0xFF00, entry(STUDY, "HIGH")
        yield 0xFF00, entry(STUDY, "STAT", PatientID="PAT-0002")
        yield 0x0000, None

    with ris(answer) as port:
        found = asked(port)
    assert [(each.level, each.about.patient_id) for each in found] == [
        (Level.LOW, PATIENT),
        (Level.HIGH, PATIENT),
        (Level.STAT, "PAT-0002"),
    ]


def test_nothing_is_asked_of_the_patient_by_name() -> None:
    """By one key at a time; what is not needed is not asked for."""
    by_uid, by_number = questions(ABOUT)
    keys = {"StudyInstanceUID": STUDY, "AccessionNumber": "ACC-0001"}
    for question, key in ((by_uid, "StudyInstanceUID"), (by_number, "AccessionNumber")):
        assert "PatientName" not in question
        assert {keyword: str(question[keyword].value or "") for keyword in RETURN_KEYS} == dict.fromkeys(
            RETURN_KEYS, ""
        ) | {key: keys[key]}


@pytest.mark.parametrize("number", ["", "A*", "A?", "A\\B", "x" * 17, "Ä"])
def test_a_number_that_would_ask_for_others_is_not_asked_for(number: str) -> None:
    """Wildcards match what they should not (PS3.4 C.2.2.2.4), and SH holds 16 characters (PS3.5 6.2)."""
    assert len(list(questions(replace(ABOUT, accession_number=number)))) == 1


VALUES = st.one_of(st.none(), st.text(max_size=20), st.binary(max_size=20), st.integers(0, 65535))


@given(st.dictionaries(st.sampled_from(RETURN_KEYS), VALUES))
def test_whatever_an_entry_holds_does_no_harm(values: dict[str, Any]) -> None:
    """Wrong types, wrong characters, no values: no order, or one of the study that was asked for."""
    odd = Dataset()
    for keyword, value in values.items():
        vr = {bytes: "OB", int: "US"}.get(type(value), "LO")
        odd.add_new(keyword, vr, value)
    found = orders([odd], ABOUT, ris=RIS, at=MORNING)
    assert all(each.about.study_instance_uid == STUDY or each.about.accession_number == "ACC-0001" for each in found)
