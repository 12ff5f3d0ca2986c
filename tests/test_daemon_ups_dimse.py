"""Procedure steps by DIMSE, from clients that claim, complete, cancel and watch them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from cxr_triage.daemon.commitment.event_reports import Insistence
from cxr_triage.daemon.dicom_client import Peer
from cxr_triage.daemon.dicom_server import Limits
from cxr_triage.daemon.ups.announcing import Announcer, announcing
from cxr_triage.daemon.ups.port import PUSH, QUERY, WATCH, UpsPort
from cxr_triage.daemon.worklist.mwl import worklist_server
from cxr_triage.model.priority import Level
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import Announcements
from cxr_triage.storage.step_records import GLOBAL_SUBSCRIPTION, UPS_FACE, step_uid
from peers import LOOPBACK, free_port, serving
from placing import placed, service
from steps import OWNER, Steps
from upsclient import Client, Watcher, client, watching

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def steps(sqlite_database: Database) -> Steps:
    """Give the ledger on SQLite alone: the rules run on both kinds elsewhere."""
    return Steps(sqlite_database)


@contextmanager
def port(steps: Steps, *announcers: Announcer) -> Iterator[int]:
    """Serve procedure steps alone; gives the port."""
    with announcing(announcers) as wake:
        ups = UpsPort(service(steps), on_change=wake)
        with serving(
            lambda listener: worklist_server(None, listener=listener, ae_title="CXRLIST", limits=Limits(), ups=ups)
        ) as number:
            yield number


def announcer(steps: Steps, number: int) -> Announcer:
    """Tell the watcher on a port, again at once where it did not take an event."""
    return Announcer(
        peer=Peer(calling_ae_title="CXRLIST", ae_title="WATCHER", host=LOOPBACK, port=number),
        announcements=Announcements(steps.database, lease=timedelta(minutes=5), clock=steps.clock),
        owner_id=OWNER,
        insistence=Insistence(poll=timedelta(seconds=0.05)),
        before=lambda: None,
        clock=steps.clock,
    )


def test_a_step_from_placing_to_completion(steps: Steps) -> None:
    """Placed, found, read, claimed, set and completed, each answered with success."""
    with port(steps) as number, client(number) as reader:
        status, uid = reader.create(placed(), "1.2.3.1")
        assert (status, uid) == (0, "1.2.3.1")
        (found,) = reader.find(ProcedureStepState="SCHEDULED", SOPInstanceUID="", ProcedureStepLabel="")
        assert (found.SOPInstanceUID, found.ProcedureStepLabel) == (uid, "Read chest")
        status, whole = reader.get(uid)
        assert status == 0
        assert whole is not None
        assert (whole.PatientName, whole.WorklistLabel, whole.SOPClassUID) == ("Grün^Eva", "Theirs", PUSH)
        assert "TransactionUID" not in whole
        transaction = generate_uid()
        assert reader.change(uid, "IN PROGRESS", transaction) == 0
        assert reader.complete(uid, transaction) == 0
        assert reader.state(uid) == "COMPLETED"
        assert reader.find(ProcedureStepState="SCHEDULED", SOPInstanceUID="") == []


def test_two_performers_race_for_each_step(steps: Steps) -> None:
    """Exactly one of them gets it, and the other one is told so, whoever is first."""
    uids = [f"1.2.3.{number}" for number in range(1, 13)]
    won: dict[str, list[str]] = {uid: [] for uid in uids}
    refused: list[int] = []
    start = threading.Barrier(2)

    def race(reader: Client, name: str) -> None:
        start.wait()
        for uid in uids:
            status = reader.change(uid, "IN PROGRESS", generate_uid())
            if status == 0:
                won[uid].append(name)
            else:
                refused.append(status)

    with port(steps) as number, client(number) as first, client(number, "READER2") as second:
        for uid in uids:
            assert first.create(placed(), uid)[0] == 0
        racers = [threading.Thread(target=race, args=each) for each in ((first, "READER1"), (second, "READER2"))]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
    assert [len(each) for each in won.values()] == [1] * len(uids)
    assert refused == [0xC301] * len(uids)


def test_steps_come_in_the_order_of_the_list_under_every_model(steps: Steps) -> None:
    """Ours by their place on the list, which they say, then those of others."""
    for uid, level in (("1.1", Level.ROUTINE), ("1.2", Level.STAT), ("1.3", Level.HIGH)):
        steps.reading_list.set_ordered(uid, level, actor="RIS", policy=steps.policy)
        steps.index(uid)
        steps.clock.move(timedelta(seconds=1))
    other = placed(ScheduledWorkitemCodeSequence=[])
    with port(steps) as number, client(number) as reader:
        assert reader.create(other, "1.9")[0] == 0
        for model in (WATCH, QUERY):
            found = reader.find(
                model, SOPInstanceUID="", ScheduledProcedureStepPriority="", CommentsOnTheScheduledProcedureStep=""
            )
            assert [step.SOPInstanceUID for step in found] == [*(step_uid(f"1.{n}", 1) for n in (2, 3, 1)), "1.9"]
            assert [step.ScheduledProcedureStepPriority for step in found] == ["HIGH", "MEDIUM", "LOW", "MEDIUM"]
            version = steps.reading_list.version()
            assert found[0].CommentsOnTheScheduledProcedureStep.startswith(f"Rank 1 of list version {version}.")


def test_a_subscriber_is_told_of_each_event_in_order(steps: Steps) -> None:
    """The present state first, then each change, under the Push class, with the message's own ID."""
    watcher, watched = Watcher(), free_port()
    with watching(watcher, watched), port(steps, announcer(steps, watched)) as number, client(number) as reader:
        _, uid = reader.create(placed())
        assert reader.act(uid, 3, ReceivingAE="WATCHER", DeletionLock="FALSE") == 0
        transaction = generate_uid()
        assert reader.change(uid, "IN PROGRESS", transaction) == 0
        progress = Dataset()
        progress.ProcedureStepProgressInformationSequence = [Dataset()]
        progress.ProcedureStepProgressInformationSequence[0].ProcedureStepProgress = "50"
        assert reader.set(uid, progress, transaction) == 0
        assert reader.complete(uid, transaction) == 0
        told = watcher.wait(4)
    assert told == [(1, "SCHEDULED"), (1, "IN PROGRESS"), (3, ""), (1, "COMPLETED")]
    assert {each[2] for each in watcher.events} == {uid}


def test_an_event_says_in_which_characters_its_text_is(steps: Steps) -> None:
    """Specific Character Set where text is not ASCII, and none where it is (PS3.3 C.12.1.1.2)."""
    watcher, watched = Watcher(), free_port()
    with watching(watcher, watched), port(steps, announcer(steps, watched)) as number, client(number) as reader:
        _, uid = reader.create(placed())
        assert reader.act(uid, 3, ReceivingAE="WATCHER", DeletionLock="FALSE") == 0
        assert reader.act(uid, 2, SpecificCharacterSet="ISO_IR 192", ReasonForCancellation="zweimal für Köln") == 0
        watcher.wait(3)
    told = [(each.get("SpecificCharacterSet"), each.get("ReasonForCancellation")) for each in watcher.information]
    assert told == [(None, None), (None, None), ("ISO_IR 192", "zweimal für Köln")]


def test_events_wait_for_a_subscriber_that_is_away(steps: Steps) -> None:
    """All of them come when it is back, in order; one that it answers too late comes again, the same."""
    watcher, watched = Watcher(), free_port()
    with port(steps) as number, client(number) as reader:
        _, uid = reader.create(placed())
        assert reader.act(GLOBAL_SUBSCRIPTION, 3, ReceivingAE="WATCHER", DeletionLock="TRUE") == 0
        assert reader.act(uid, 2) == 0
    away = announcer(steps, watched)
    assert not away.tell_next(threading.Event())
    assert not away.tell_next(threading.Event())  # it is not due: nothing is tried, and nothing overtakes
    steps.clock.move(timedelta(hours=1))
    with watching(watcher, watched):
        assert away.tell_next(threading.Event())
    assert [(kind, state) for _, kind, _, state in watcher.events] == [
        (1, "SCHEDULED"),
        (1, "IN PROGRESS"),
        (1, "CANCELED"),
    ]


def test_an_event_that_is_refused_is_not_sent_again(steps: Steps) -> None:
    """A failure would be answered to it each time: those behind it go on; a warning is as good as success."""
    answers = [0x0110, 0x0107, 0x0000]
    watcher, watched = Watcher(answer=lambda: answers.pop(0)), free_port()
    with watching(watcher, watched), port(steps, announcer(steps, watched)) as number, client(number) as reader:
        _, uid = reader.create(placed())
        assert reader.act(uid, 3, ReceivingAE="WATCHER", DeletionLock="FALSE") == 0
        assert reader.act(uid, 2) == 0
        told = watcher.wait(3)
    assert told == [(1, "SCHEDULED"), (1, "IN PROGRESS"), (1, "CANCELED")]


def test_a_subscriber_that_does_not_let_us_be_scp_is_tried_again(steps: Steps) -> None:
    """Nothing is sent on such an association, and nothing is lost."""
    watcher, watched = Watcher(), free_port()
    with port(steps) as number, client(number) as reader:
        _, uid = reader.create(placed())
        assert reader.act(uid, 3, ReceivingAE="WATCHER", DeletionLock="FALSE") == 0
    sender = announcer(steps, watched)
    with watching(watcher, watched, scp_role=False):
        assert not sender.tell_next(threading.Event())
    assert watcher.events == []
    steps.clock.move(timedelta(hours=1))
    with watching(watcher, watched):
        assert sender.tell_next(threading.Event())
    assert len(watcher.events) == 1


def test_an_event_is_given_up_in_the_end(steps: Steps) -> None:
    """A subscriber that is gone for good holds nothing up for ever."""
    with port(steps) as number, client(number) as reader:
        _, uid = reader.create(placed())
        assert reader.act(uid, 3, ReceivingAE="WATCHER", DeletionLock="FALSE") == 0
    steps.clock.move(Insistence().give_up)
    announcements = Announcements(steps.database, lease=timedelta(minutes=5), clock=steps.clock)
    assert announcements.receivers(UPS_FACE) == ["WATCHER"]
    assert not announcer(steps, free_port()).tell_next(threading.Event())
    assert announcements.receivers(UPS_FACE) == []


def test_the_performer_is_told_that_somebody_wants_to_cancel(steps: Steps) -> None:
    """Where it has subscribed; if not, it cannot be contacted. Who asks, and why, is in the event."""
    watcher, watched = Watcher(), free_port()
    with (
        watching(watcher, watched),
        port(steps, announcer(steps, watched)) as number,
        client(number, "WATCHER") as performer,
        client(number, "PLACER") as placer,
    ):
        _, uid = placer.create(placed())
        assert performer.change(uid, "IN PROGRESS", generate_uid()) == 0
        assert placer.act(uid, 2, ReasonForCancellation="wrong patient") == 0xC312
        assert performer.act(uid, 3, ReceivingAE="WATCHER", DeletionLock="FALSE") == 0
        assert placer.act(uid, 2, ReasonForCancellation="wrong patient") == 0
        assert watcher.wait(2) == [(1, "IN PROGRESS"), (2, "")]
        assert placer.state(uid) == "IN PROGRESS"


def test_subscriptions_are_refused_with_the_standards_status(steps: Steps) -> None:
    """An unknown receiver, an unknown step, one step's suspension, no deletion lock, and no such action."""
    with port(steps) as number, client(number) as reader:
        _, uid = reader.create(placed())
        for action in (3, 4, 5):
            assert reader.act(uid, action, ReceivingAE="NOBODY", DeletionLock="TRUE") == 0xC308
        assert reader.act("1.2", 3, ReceivingAE="WATCHER", DeletionLock="TRUE") == 0xC307
        assert reader.act("1.2", 4, ReceivingAE="WATCHER") == 0xC307
        assert reader.act(uid, 5, ReceivingAE="WATCHER") == 0xC314
        assert reader.act(uid, 3, ReceivingAE="WATCHER") == 0x0115
        assert reader.act(uid, 6, ReceivingAE="WATCHER") == 0x0123


def test_a_query_says_in_which_characters_it_reads(steps: Steps) -> None:
    """An answer names a character set where it needs one; a query without a key is refused."""
    with port(steps) as number, client(number) as reader:
        assert reader.create(placed(), "1.2.3.1")[0] == 0
        (found,) = reader.find(SpecificCharacterSet="ISO_IR 100", PatientName="")
        assert (found.SpecificCharacterSet, found.PatientName) == ("ISO_IR 100", "Grün^Eva")
        (found,) = reader.find(PatientName="gr*")
        assert (found.SpecificCharacterSet, found.PatientName) == ("ISO_IR 192", "Grün^Eva")
        (found,) = reader.find(PatientID="PAT-0001")
        assert "SpecificCharacterSet" not in found
        keyless = Dataset()
        keyless.SpecificCharacterSet = "ISO_IR 100"
        assert [int(answer.Status) for answer, _ in reader.association.send_c_find(keyless, QUERY)] == [0xA900]
