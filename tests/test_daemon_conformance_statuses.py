"""Every status that the printed conformance statement says we send is provoked over the network, and no other comes."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import config, dcmread
from pydicom.datadict import dictionary_description, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association

from builders import radiograph_file
from committing import Peer, Site, all_committed, all_failed, ask, calling, report_to, roles, send_report
from cxr_triage.daemon.commitment.messages import (
    MAXIMUM_REFERENCES,
    SOP_CLASS,
    SOP_INSTANCE,
    report_data_set,
    request_data_set,
)
from cxr_triage.daemon.dicom_client import Part10File, associated
from cxr_triage.daemon.dicom_client import Peer as Address
from cxr_triage.daemon.receive import Receiver
from cxr_triage.daemon.worklist.c_find import MODALITY_WORKLIST_FIND, STUDY_ROOT_FIND
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.commitment_records import CommitmentReport, Reference
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.list_records import ListedStudy
from cxr_triage.storage.space import LowWater
from listings import listed_study, listing
from peers import LOOPBACK, eventually, free_port
from printed import Row, chapter, codes_of, table
from reception import Reception, receiving

IMAGES = "4.2.1.2 Activity: take images"
REQUESTS = "4.2.1.3 Activity: take requests for storage commitment"
REPORTS = "4.2.1.4 Activity: take reports on storage commitment"
LIST = "4.2.3.2 Activity: show the reading list"
UID = "1.2.3.4"
IMAGE = Reference("1.2.840.10008.5.1.4.1.1.1", "1.2.3.99")
OTHER_CLASS = Reference("1.2.840.10008.5.1.4.1.1.1.1", "1.2.3.99")
TOO_MANY = [Reference(IMAGE.sop_class_uid, f"1.2.3.{number}") for number in range(1, MAXIMUM_REFERENCES + 2)]


def stored(reception: Reception, file: Path) -> int:
    """Send a file as it is; gives the status, whatever it is."""
    found = Part10File.read(file)
    with associated(reception.peer, [found]) as association:
        return int(association.send_c_store(file).Status)


def with_meta_of_another(folder: Path) -> Path:
    """Write an image whose file meta information, and so the command, names another instance."""
    path = radiograph_file(folder)
    dataset = dcmread(path)
    dataset.SOPInstanceUID = "1.2.3.4.5"
    dataset.save_as(path)
    return path


def without_data_set(folder: Path) -> Path:
    """Write an image whose data set is no data set."""
    path = radiograph_file(folder)
    content = path.read_bytes()
    start = content.index(b"ISO_IR 192") - 8
    path.write_bytes(content[:start] + bytes(range(256)))
    return path


def test_statuses_of_images_are_those_that_are_stated(tmp_path: Path, sqlite_database: Database) -> None:
    """Success, no room, another instance than the command's, and what is no data set."""
    mark = LowWater(folders=[tmp_path], minimum_free_bytes=0)
    with receiving(tmp_path, sqlite_database, low_water=mark) as reception:
        sent = [radiograph_file(tmp_path), with_meta_of_another(tmp_path), without_data_set(tmp_path)]
        provoked = {stored(reception, file) for file in sent}
        object.__setattr__(mark, "minimum_free_bytes", 2**62)
        provoked.add(stored(reception, radiograph_file(tmp_path)))
    assert provoked == codes_of(IMAGES)


def test_a_fault_of_ours_is_answered_as_stated(
    tmp_path: Path, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw cannot be provoked."""

    def fail(*_arguments: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(Receiver, "take", fail)
    with receiving(tmp_path, sqlite_database) as reception:
        assert f"0x{stored(reception, radiograph_file(tmp_path)):04X}" in chapter(IMAGES)


@contextmanager
def station(port: int, model: str = MODALITY_WORKLIST_FIND) -> Iterator[Association]:
    """Call the worklist."""
    context = build_context(model, [ExplicitVRLittleEndian])
    association = AE("READER").associate(LOOPBACK, port, contexts=[context], ae_title="CXRLIST")
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def found(port: int, *keys: str, **values: str) -> set[int]:
    """Ask for the list; gives the statuses of the answers."""
    query = Dataset()
    for key, value in {**dict.fromkeys(("PatientName", *keys), ""), **values}.items():
        query.add(DataElement(key, dictionary_VR(key), value, validation_mode=config.IGNORE))
    with station(port) as association:
        return {int(status.Status) for status, _ in association.send_c_find(query, MODALITY_WORKLIST_FIND)}


def found_by_nonsense(port: int, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Ask with bytes that are no query; gives the statuses."""
    nonsense = b"\x10\x00\x10\x00SQ\x00\x00\xff\xff\xff\xff" + bytes(range(200))
    with monkeypatch.context() as patch:
        patch.setattr("pynetdicom.association.encode", lambda *_arguments, **_options: nonsense)
        return found(port)


def found_and_cancelled(studies: Callable[[], Sequence[ListedStudy]]) -> set[int]:
    """Ask for the list, and think better of it before the first answer; gives the statuses."""
    asked, cancelled = threading.Event(), threading.Event()

    def slowly() -> Sequence[ListedStudy]:
        asked.set()
        assert cancelled.wait(10)
        return studies()

    query = Dataset()
    query.PatientName = ""
    with listing(slowly) as port, station(port) as association:
        answers = association.send_c_find(query, MODALITY_WORKLIST_FIND, msg_id=7)
        statuses: set[int] = set()
        reading = threading.Thread(target=lambda: statuses.update(int(status.Status) for status, _ in answers))
        reading.start()
        assert asked.wait(10)
        association.send_c_cancel(7, association.accepted_contexts[0].context_id)
        threading.Event().wait(0.5)  # until the server has read it
        cancelled.set()
        reading.join(10)
    return statuses


def unreachable() -> Sequence[ListedStudy]:
    """Be a database that does not answer."""
    raise StorageError("the database does not answer")


def test_statuses_of_the_worklist_are_those_that_are_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all keys and with one that nobody knows; cancelled, without a database, and not understood."""
    studies = [listed_study("1.2.1"), listed_study("1.2.2")]
    with listing(lambda: studies) as port:
        provoked = found(port) | found(port, "InstitutionName") | found_by_nonsense(port, monkeypatch)
        provoked |= found(port, StudyDate="yesterday")
    with listing(unreachable) as port:
        provoked |= found(port)
    provoked |= found_and_cancelled(lambda: studies)
    assert provoked == codes_of(LIST)


def test_a_fault_of_the_worklist_is_answered_as_stated() -> None:
    """What nobody foresaw cannot be provoked."""

    def fail() -> Sequence[ListedStudy]:
        raise RuntimeError("unforeseen")

    with listing(fail) as port:
        (status,) = found(port)
    assert f"0x{status:04X}" in chapter(LIST)


@pytest.fixture
def site(tmp_path: Path, sqlite_url: str) -> Iterator[Site]:
    """Give a service with an empty ledger."""
    database = open_database(sqlite_url)
    yield Site(folder=tmp_path, url=sqlite_url, database=database)
    database.close()


@contextmanager
def committing(site: Site, pacs: Peer, *, commitment: bool = True) -> Iterator[None]:
    """Run a service that modalities may ask, and that asks a PACS."""
    settings = site.settings(
        pacs.port,
        commitment=commitment,
        dicom={"commitment": True, "commitment_destination": "pacs"},
        modality=[{"ae_title": "XRAY1", "host": LOOPBACK, "port": free_port()}],
    )
    with roles(settings):
        yield


def asked(site: Site, references: Sequence[Reference], *, ae_title: str = "XRAY1", action_type: int = 1) -> int:
    """Ask for commitment on an association of its own; gives the status."""
    with calling(site.port, ae_title) as association:
        return int(ask(association, UID, references, action_type=action_type).Status)


@pytest.mark.filterwarnings("ignore:unclosed")
def test_statuses_of_requests_are_those_that_are_stated(site: Site) -> None:
    """Each is what a modality gets for it."""
    with Peer().serving() as pacs, committing(site, pacs):
        provoked = {
            asked(site, [IMAGE]),
            asked(site, []),
            asked(site, [IMAGE, OTHER_CLASS]),
            asked(site, [IMAGE], action_type=2),
            asked(site, [IMAGE], ae_title="XRAY9"),
            asked(site, TOO_MANY),
        }
        with calling(site.port, "XRAY1") as association:
            request = request_data_set(UID, [IMAGE])
            answer, _ = association.send_n_action(request, 1, SOP_CLASS, "1.2.3")
            provoked.add(int(answer.Status))
    assert provoked == codes_of(REQUESTS)


def reported_as(site: Site, event_type: int, report: CommitmentReport) -> int:
    """Report with an event type of one's own; gives the status."""
    _, event = report_data_set(report)
    with calling(site.port, "PACS", scp_role=True) as association:
        answer, _ = association.send_n_event_report(event, event_type, SOP_CLASS, SOP_INSTANCE)
        return int(answer.Status)


def test_statuses_of_reports_are_those_that_are_stated(site: Site) -> None:
    """Each is what a PACS gets for it."""
    with Peer().serving() as pacs, committing(site, pacs):
        site.report()
        eventually(lambda: len(pacs.asked) > 0)
        request = pacs.asked[0]
        provoked = {
            reported_as(site, 3, all_committed(*request)),
            report_to(site.port, all_committed("1.2.3.5", request[1])),
            report_to(site.port, all_failed(request[0], TOO_MANY, 0x0110)),
        }
        with calling(site.port, "PACS", scp_role=True) as association:
            provoked.add(send_report(association, all_committed(*request), instance="1.2.3"))
        provoked.add(report_to(site.port, all_committed(*request)))
    assert provoked == codes_of(REPORTS)


def test_verification_is_answered_as_stated(tmp_path: Path, sqlite_database: Database) -> None:
    """On both ports."""
    with receiving(tmp_path, sqlite_database) as reception, listing(list) as port:
        for address in (reception.peer, Address(calling_ae_title="A", ae_title="CXRLIST", host=LOOPBACK, port=port)):
            with associated(address) as association:
                assert association.send_c_echo().Status == 0x0000


def query_for(rows: Sequence[Row]) -> Dataset:
    """Ask for every attribute that is printed, those of the step in its sequence."""
    query, step = Dataset(), Dataset()
    for row in rows:
        tag = Tag(row["tag"].strip("()").replace(",", ""))
        where = step if row["attribute"].startswith(">") else query
        if tag != Tag("SpecificCharacterSet"):
            where.add(DataElement(tag, dictionary_VR(tag), [] if dictionary_VR(tag) == "SQ" else None))
    query.ScheduledProcedureStepSequence = [step]
    return query


def test_the_keys_of_the_list_are_those_that_are_stated() -> None:
    """All of them are answered, and no key besides is known."""
    rows = table(LIST, "holds")
    with listing(lambda: [listed_study("1.2.1")]) as port, station(port) as association:
        (status, answer), _ = association.send_c_find(query_for(rows), MODALITY_WORKLIST_FIND)
    assert answer is not None
    assert (status.Status, "SpecificCharacterSet" in answer) == (0xFF00, False)
    (step,) = answer.ScheduledProcedureStepSequence
    found = [dictionary_description(each.tag) for each in answer] + [
        f">{dictionary_description(each.tag)}" for each in step
    ]
    assert sorted(found) == sorted(row["attribute"] for row in rows)


@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
def test_the_keys_of_studies_are_those_that_are_stated(level: str) -> None:
    """All that are stated for a level are answered there, and those of no other level are known."""
    rows = table(LIST, "levels")
    query = Dataset()
    for row in rows:
        tag = Tag(row["tag"].strip("()").replace(",", ""))
        query.add(DataElement(tag, dictionary_VR(tag), None))
    query.QueryRetrieveLevel = level
    query.StudyInstanceUID, query.SeriesInstanceUID = "1.2.1", "1.2.1.1"
    with listing(lambda: [listed_study("1.2.1")]) as port, station(port, STUDY_ROOT_FIND) as association:
        (status, answer), _ = association.send_c_find(query, STUDY_ROOT_FIND)
    assert answer is not None
    assert status.Status == 0xFF01
    stated = [row["attribute"] for row in rows if level in row["levels"].split(", ")]
    assert [dictionary_description(each.tag) for each in answer] == stated
