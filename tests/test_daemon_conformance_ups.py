"""Of procedure steps, every status that the printed conformance statement says we send is provoked over the network."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import generate_uid

from committing import Site
from cxr_triage.daemon.ups.service import Answer, ProcedureSteps
from cxr_triage.daemon.worklist.mwl import WorklistRole
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.database import Database
from cxr_triage.storage.step_records import GLOBAL_SUBSCRIPTION
from peers import free_port, running
from placing import performed, placed
from printed import contexts, tables
from proposing import accepted, everything
from steps import Steps
from test_daemon_ups_dimse import port
from test_daemon_ups_messages import BROKEN, change, creation, encoded, send, setting
from upsclient import Client, client

SERVED = "4.2.3.3 Activity: serve procedure steps"
TOLD = "4.2.3.4 Activity: tell subscribers"
LIST = "4.2.3.2 Activity: show the reading list"
RESOURCE_LIMITATION = 0x0213
UNKNOWN = "1.2.99"


@pytest.fixture
def reader(sqlite_database: Database) -> Iterator[Client]:
    """Give an association with procedure steps alone."""
    with port(Steps(sqlite_database)) as number, client(number) as connected:
        yield connected


def stated(operation: int) -> set[int]:
    """The statuses of one operation, in the order of the chapter; without what only a lost database brings."""
    found = [rows for rows in tables(SERVED) if "status that we send" in rows[0]]
    codes = {int(row["status that we send"], 16) for row in found[operation]}
    assert RESOURCE_LIMITATION in codes
    return codes - {RESOURCE_LIMITATION}


def in_state(reader: Client, state: str) -> tuple[str, str]:
    """Bring a step to a state; gives its UID and its Transaction UID."""
    (status, uid), transaction = reader.create(placed()), generate_uid()
    assert status == 0
    if state != "SCHEDULED":
        assert reader.change(uid, "IN PROGRESS", transaction) == 0
    if state == "COMPLETED":
        assert reader.complete(uid, transaction) == 0
    if state == "CANCELED":
        assert reader.change(uid, "CANCELED", transaction) == 0
    return uid, transaction


def label(text: str = "Read it", **more: object) -> Dataset:
    """What an N-SET may set."""
    modification = Dataset()
    modification.ProcedureStepLabel = text
    for keyword, value in more.items():
        setattr(modification, keyword, value)
    return modification


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
def test_creation(reader: Client) -> None:
    """N-CREATE."""
    answers = {
        reader.create(placed(), "1.2.3")[0],
        reader.create(placed(), "1.2.3")[0],
        reader.create(placed(PatientName=None))[0],
        reader.create(placed(SOPClassUID="1.2.3"))[0],
        reader.create(placed(InputReadinessState="MAYBE"))[0],
        reader.create(placed(ProcedureStepState="COMPLETED"))[0],
        reader.create(placed(ProcedureStepLabel=None))[0],
        reader.create(placed(ProcedureStepLabel=""))[0],
        send(reader, creation(b"\xff" * 40)).Status,
        send(reader, creation(encoded(placed()), "1.2.03")).Status,
    }
    assert answers == stated(0)


def test_reading(reader: Client) -> None:
    """N-GET."""
    uid, _ = in_state(reader, "SCHEDULED")
    answers = {reader.get(uid)[0], reader.get(UNKNOWN)[0], reader.get(uid, BaseTag(0x00280010))[0]}
    assert answers == stated(1)


def test_setting(reader: Client) -> None:
    """N-SET."""
    waiting, _ = in_state(reader, "SCHEDULED")
    begun, transaction = in_state(reader, "IN PROGRESS")
    done, its = in_state(reader, "COMPLETED")
    human = Dataset()
    human.HumanPerformerName = "Dr. B"
    answers = {
        reader.set(waiting, label()),
        reader.set(waiting, label(), generate_uid()),
        reader.set(waiting, label(PatientName="Other^Name")),
        reader.set(waiting, label(InputReadinessState="MAYBE")),
        reader.set(waiting, label("")),
        reader.set(waiting, label(ScheduledHumanPerformersSequence=[human])),
        reader.set(begun, label()),
        reader.set(done, label(), its),
        reader.set(UNKNOWN, label()),
        send(reader, setting(b"\xff" * 40)).Status,
    }
    assert answers == stated(2)
    assert reader.set(begun, performed(), transaction) == 0


def test_changing_the_state(reader: Client) -> None:
    """N-ACTION, type 1."""
    waiting, _ = in_state(reader, "SCHEDULED")
    begun, transaction = in_state(reader, "IN PROGRESS")
    done, its = in_state(reader, "COMPLETED")
    over, whose = in_state(reader, "CANCELED")
    answers = {
        reader.change(waiting, "COMPLETED", generate_uid()),
        reader.change(begun, "IN PROGRESS", transaction),
        reader.change(begun, "COMPLETED", transaction),
        reader.change(begun, "CANCELED", generate_uid()),
        reader.change(begun, "SCHEDULED", transaction),
        reader.change(begun, "DONE", transaction),
        reader.change(done, "COMPLETED", its),
        reader.change(done, "CANCELED", its),
        reader.change(over, "CANCELED", whose),
        reader.change(UNKNOWN, "CANCELED", whose),
        reader.change(waiting, "IN PROGRESS", generate_uid()),
    }
    assert answers == stated(3)
    assert send(reader, change(BROKEN)).Status in stated(3)


def test_asking_to_cancel(reader: Client) -> None:
    """N-ACTION, type 2."""
    answers = {reader.act(in_state(reader, state)[0], 2) for state in ("SCHEDULED", "COMPLETED", "CANCELED")}
    answers.add(reader.act(in_state(reader, "IN PROGRESS")[0], 2))
    answers.add(reader.act(UNKNOWN, 2))
    assert answers == stated(4) - {0x0115}
    broken = change(b"\xff" * 40, in_state(reader, "SCHEDULED")[0])
    broken.ActionTypeID = 2
    assert send(reader, broken).Status == 0x0115


def test_subscribing(reader: Client) -> None:
    """N-ACTION, types 3 to 5."""
    uid, _ = in_state(reader, "SCHEDULED")
    answers = {
        reader.act(GLOBAL_SUBSCRIPTION, 3, ReceivingAE="WATCHER", DeletionLock="TRUE"),
        reader.act(GLOBAL_SUBSCRIPTION, 4, ReceivingAE="WATCHER"),
        reader.act(UNKNOWN, 3, ReceivingAE="WATCHER", DeletionLock="TRUE"),
        reader.act(uid, 3, ReceivingAE="WATCHER", DeletionLock="MAYBE"),
        reader.act(uid, 3, ReceivingAE="NOBODY", DeletionLock="TRUE"),
        reader.act(uid, 5, ReceivingAE="WATCHER"),
    }
    assert answers == stated(5)


def test_a_lost_database_is_said(reader: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was asked for: nothing has changed, and it may be asked for again."""

    def fail(*_: object, **__: object) -> Answer:
        raise StorageError("gone")

    for method in ("create", "get", "modify", "change_state", "request_cancel", "subscribe"):
        monkeypatch.setattr(ProcedureSteps, method, fail)
    answers = {
        reader.create(placed())[0],
        reader.get(UNKNOWN)[0],
        reader.set(UNKNOWN, label()),
        reader.change(UNKNOWN, "CANCELED", generate_uid()),
        reader.act(UNKNOWN, 2),
        reader.act(UNKNOWN, 3, ReceivingAE="WATCHER", DeletionLock="TRUE"),
    }
    assert answers == {RESOURCE_LIMITATION}


@pytest.mark.parametrize("enabled", [True, False])
def test_the_port_accepts_what_is_stated(
    tmp_path: Path, sqlite_url: str, sqlite_database: Database, *, enabled: bool
) -> None:
    """Beside the modality worklist, or alone: every SOP class of DICOM in every transfer syntax is proposed."""
    number, site = free_port(), Site(folder=tmp_path, url=sqlite_url, database=sqlite_database)
    settings = site.settings(free_port(), worklist={"enabled": enabled, "ups": True, "port": number})
    settings.prepare_folders()
    echo = {pair for pair in contexts(LIST) if pair[0] == "1.2.840.10008.1.1"}
    with running(WorklistRole(settings).run):
        found = accepted(number, "CXRLIST", everything() if enabled else sorted(contexts(SERVED) | contexts(LIST)))
    assert found - contexts(SERVED) <= contexts(LIST)
    assert found >= contexts(SERVED) | echo
    assert ("1.2.840.10008.5.1.4.31" in {uid for uid, _ in found}) == enabled
