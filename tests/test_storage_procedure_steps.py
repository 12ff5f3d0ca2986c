"""Our own steps follow the reading list, the list follows the steps, and what is told is kept until it is taken."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select

from builders import finding
from cxr_triage.daemon.ups.service import Answer, ProcedureSteps
from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.model.priority import Level
from cxr_triage.storage.ledger import Announcements, Orders, StepLedger
from cxr_triage.storage.order_records import Identity, Order, OrderSource
from cxr_triage.storage.schema import AuditRow, ProcedureStepRow, StepSubscriptionRow
from cxr_triage.storage.step_records import (
    FILTERED_GLOBAL_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    UPS_FACE,
    Announcement,
    AnnouncementState,
    step_uid,
)
from peers import PATIENCE_SECONDS
from placing import CALLER, PERFORMER, RECEIVERS, performed, placed, service, state_of
from steps import LEASE, OWNER, Steps

STUDY = "1.1"
OURS = step_uid(STUDY, 1)
NEXT = step_uid(STUDY, 2)


@pytest.fixture
def procedure(steps: Steps) -> ProcedureSteps:
    """Give the service on a fresh database: the test runs once per kind."""
    return service(steps)


def shown(procedure: ProcedureSteps, uid: str) -> Dataset:
    """Give a step as it is shown."""
    answer = procedure.get(uid)
    assert answer.attributes is not None, answer
    return answer.attributes


def claim(procedure: ProcedureSteps, uid: str, caller: str = PERFORMER) -> str:
    """Claim a step; gives the Transaction UID."""
    transaction = generate_uid()
    assert procedure.change_state(uid, "IN PROGRESS", transaction, caller=caller) == Answer(status=0)
    return transaction


def complete(procedure: ProcedureSteps, uid: str, transaction: str) -> None:
    """Complete a step."""
    assert procedure.modify(uid, performed(), transaction, caller=PERFORMER).status == 0
    assert procedure.change_state(uid, "COMPLETED", transaction, caller=PERFORMER).status == 0


def told(steps: Steps, receiver: str = "WATCHER") -> list[tuple[int, str]]:
    """Take all that waits for a receiver; gives the types and states."""
    announcements = Announcements(steps.database, lease=LEASE, clock=steps.clock)
    taken = []
    while (each := announcements.claim(OWNER, UPS_FACE, receiver)) is not None:
        message = json.loads(each.payload)
        state = message.get("00741000", {"Value": [""]})["Value"][0]
        taken.append((message["00001002"]["Value"][0], state))
        announcements.record_acknowledged(each)
    return taken


def test_a_study_has_one_step_from_its_first_image(steps: Steps, procedure: ProcedureSteps) -> None:
    """With its patient, its request and its images as inputs; later images are added."""
    steps.index(STUDY)
    step = shown(procedure, OURS)
    assert (step.ProcedureStepState, step.ScheduledProcedureStepPriority) == ("SCHEDULED", "LOW")
    assert step.ScheduledWorkitemCodeSequence[0].CodeValue == "110005"
    assert step.StudyInstanceUID == step.ReferencedRequestSequence[0].StudyInstanceUID == STUDY
    assert step.PatientID == steps.listed(STUDY).header.patient_id
    steps.index(STUDY)
    inputs = shown(procedure, OURS).InputInformationSequence
    assert sum(len(item.ReferencedSOPSequence) for item in inputs) == 2
    assert {item.DICOMRetrievalSequence[0].RetrieveAETitle for item in inputs} == {"PACS"}
    assert [each.sop_instance_uid for each in StepLedger(steps.database).steps()] == [OURS]


@pytest.mark.parametrize(
    ("ordered", "priority", "raised"),
    [
        (Level.STAT, "HIGH", "HIGH"),
        (Level.HIGH, "MEDIUM", "MEDIUM"),
        (Level.ROUTINE, "LOW", "MEDIUM"),
        (Level.MEDIUM, "LOW", "MEDIUM"),
        (Level.LOW, "LOW", "MEDIUM"),
    ],
)
def test_findings_raise_to_medium_at_most(
    steps: Steps, procedure: ProcedureSteps, ordered: Level, priority: str, raised: str
) -> None:
    """HIGH is what was ordered STAT."""
    steps.reading_list.set_ordered(STUDY, ordered, actor="RIS", policy=steps.policy)
    steps.index(STUDY)
    assert shown(procedure, OURS).ScheduledProcedureStepPriority == priority
    steps.score(STUDY, finding("Pneumothorax", 0.9))
    assert shown(procedure, OURS).ScheduledProcedureStepPriority == raised


def test_claim_and_completion_are_the_studys(steps: Steps, procedure: ProcedureSteps) -> None:
    """Claimed by the performer, and off the list when the step is complete."""
    steps.index(STUDY)
    transaction = claim(procedure, OURS)
    assert steps.listed(STUDY).claimed_by == PERFORMER
    complete(procedure, OURS, transaction)
    assert steps.reading_list.studies() == []


def test_of_two_performers_at_once_one_gets_each_study(steps: Steps, procedure: ProcedureSteps) -> None:
    """Whatever the database: the claim of the step and of its study are one transaction."""
    uids = [f"1.{number}" for number in range(1, 7)]
    for uid in uids:
        steps.index(uid)
    start = threading.Barrier(2)

    def race(name: str) -> list[int]:
        start.wait()
        return [
            procedure.change_state(step_uid(uid, 1), "IN PROGRESS", generate_uid(), caller=name).status for uid in uids
        ]

    with ThreadPoolExecutor(2) as racers:
        first, second = racers.map(race, ["READER1", "READER2"])
    assert [sorted(each) for each in zip(first, second, strict=True)] == [[0, 0xC301]] * len(uids)
    won = {uid: "READER1" if status == 0 else "READER2" for uid, status in zip(uids, first, strict=True)}
    assert {study.study_instance_uid: study.claimed_by for study in steps.reading_list.studies()} == won


def test_a_performer_who_cancels_gives_the_study_back(steps: Steps, procedure: ProcedureSteps) -> None:
    """Nobody has read it: it waits as a new step, and the old one says that it was cancelled, and when."""
    steps.index(STUDY)
    transaction = claim(procedure, OURS)
    assert procedure.change_state(OURS, "CANCELED", transaction, caller=PERFORMER).status == 0
    assert steps.listed(STUDY).claimed_at is None
    assert (state_of(procedure, OURS), state_of(procedure, NEXT)) == ("CANCELED", "SCHEDULED")
    progress = shown(procedure, OURS).ProcedureStepProgressInformationSequence[0]
    assert progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"
    assert progress.ProcedureStepCancellationDateTime


def test_a_request_to_cancel_what_waits_ends_it(steps: Steps, procedure: ProcedureSteps) -> None:
    """The reading is not wanted any more; the trail says who said so."""
    steps.index(STUDY)
    request = Dataset()
    request.ReasonForCancellation = "sent twice"
    assert procedure.request_cancel(OURS, request, caller=CALLER).status == 0
    assert shown(procedure, OURS).ProcedureStepProgressInformationSequence[0].ReasonForCancellation == "sent twice"
    assert steps.reading_list.studies() == []
    last = steps.reading_list.history(STUDY)[-1]
    assert (last.event, last.actor) == ("finished", CALLER)


def test_a_reader_of_another_way_moves_the_step(steps: Steps, procedure: ProcedureSteps) -> None:
    """Claimed, it is IN PROGRESS and nobody else's; given back, a new one waits; read, that one is COMPLETED."""
    steps.index(STUDY)
    assert steps.reading_list.claim(STUDY, by="Dr. B", actor="web")
    assert procedure.change_state(OURS, "IN PROGRESS", generate_uid(), caller=PERFORMER).status == 0xC301
    assert procedure.request_cancel(OURS, Dataset(), caller=CALLER).status == 0xC312
    assert steps.reading_list.give_back(STUDY, actor="web")
    assert (state_of(procedure, OURS), state_of(procedure, NEXT)) == ("CANCELED", "SCHEDULED")
    assert steps.reading_list.claim(STUDY, by="Dr. B", actor="web")
    assert steps.reading_list.finish(STUDY, actor="web")
    step = shown(procedure, NEXT)
    assert step.ProcedureStepState == "COMPLETED"
    assert step.UnifiedProcedureStepPerformedProcedureSequence[0].PerformedProcedureStepEndDateTime


def test_a_study_read_elsewhere_ends_its_step(steps: Steps, procedure: ProcedureSteps) -> None:
    """An image after that is a new reading, and so a new step."""
    steps.index(STUDY)
    steps.clock.move(timedelta(minutes=1))
    assert steps.reading_list.finish(STUDY, actor="RIS")
    assert state_of(procedure, OURS) == "CANCELED"
    steps.clock.move(timedelta(minutes=1))
    steps.index(STUDY)
    assert (state_of(procedure, OURS), state_of(procedure, NEXT)) == ("CANCELED", "SCHEDULED")


def test_a_placed_step_takes_the_place_of_ours(steps: Steps, procedure: ProcedureSteps) -> None:
    """It orders the study, and is claimed for it; ours is cancelled."""
    steps.index(STUDY)
    step = placed(StudyInstanceUID=STUDY, ScheduledProcedureStepPriority="HIGH")
    assert procedure.create("1.2.3", step, caller=CALLER).status == 0
    assert state_of(procedure, OURS) == "CANCELED"
    assert steps.listed(STUDY).ordered is Level.STAT
    claim(procedure, "1.2.3")
    assert steps.listed(STUDY).claimed_by == PERFORMER


@pytest.mark.parametrize(("priority", "level"), [("HIGH", Level.STAT), ("MEDIUM", Level.HIGH), ("LOW", Level.ROUTINE)])
def test_a_step_placed_before_the_images_is_the_studys(
    steps: Steps, procedure: ProcedureSteps, priority: str, level: Level
) -> None:
    """No other one is made, and the study is ordered as placed."""
    step = placed(StudyInstanceUID=STUDY, ScheduledProcedureStepPriority=priority)
    assert procedure.create("1.2.3", step, caller=CALLER).status == 0
    steps.index(STUDY)
    assert [each.sop_instance_uid for each in StepLedger(steps.database).steps()] == ["1.2.3"]
    assert steps.listed(STUDY).ordered is level


def test_whoever_claimed_before_the_images_came_has_the_study(steps: Steps, procedure: ProcedureSteps) -> None:
    """No second reader is given it."""
    assert procedure.create("1.2.3", placed(StudyInstanceUID=STUDY), caller=CALLER).status == 0
    claim(procedure, "1.2.3")
    steps.index(STUDY)
    assert steps.listed(STUDY).claimed_by == PERFORMER
    assert not steps.reading_list.claim(STUDY, by="Dr. B", actor="web")


@pytest.mark.parametrize("ordered", list(Level))
@pytest.mark.parametrize("priority", ["HIGH", "MEDIUM", "LOW"])
def test_placing_never_lowers_and_setting_orders(
    steps: Steps, procedure: ProcedureSteps, ordered: Level, priority: str
) -> None:
    """Whoever places a step may not know of the other order; whoever changes the priority later says so."""
    order = Order(
        source=OrderSource.HL7,
        sender="RIS",
        message_id="1",
        at=steps.clock(),
        about=Identity(study_instance_uid=STUDY),
        level=ordered,
    )
    Orders(steps.database, clock=steps.clock).record(order, steps.policy)
    steps.clock.move(timedelta(seconds=1))
    level = {"HIGH": Level.STAT, "MEDIUM": Level.HIGH, "LOW": Level.ROUTINE}[priority]
    step = placed(StudyInstanceUID=STUDY, ScheduledProcedureStepPriority=priority)
    assert procedure.create("1.2.3", step, caller=CALLER).status == 0
    steps.index(STUDY)
    assert steps.listed(STUDY).ordered is min(ordered, level)
    steps.clock.move(timedelta(seconds=1))
    modification = Dataset()
    modification.ScheduledProcedureStepPriority = priority
    assert procedure.modify("1.2.3", modification, None, caller=CALLER).status == 0
    assert steps.listed(STUDY).ordered is level


def test_what_a_person_ordered_here_stands(steps: Steps, procedure: ProcedureSteps) -> None:
    """A system's step neither lowers nor raises it."""
    steps.index(STUDY)
    steps.reading_list.set_ordered(STUDY, Level.HIGH, actor="Dr. B", policy=steps.policy)
    steps.clock.move(timedelta(seconds=1))
    step = placed(StudyInstanceUID=STUDY, ScheduledProcedureStepPriority="HIGH")
    assert procedure.create("1.2.3", step, caller=CALLER).status == 0
    assert steps.listed(STUDY).ordered is Level.HIGH


def test_other_work_on_a_study_is_not_its_reading(steps: Steps, procedure: ProcedureSteps) -> None:
    """A detection step that is complete leaves the study on the list, in its place."""
    steps.index(STUDY)
    work = placed(StudyInstanceUID=STUDY, ScheduledProcedureStepPriority="HIGH")
    work.ScheduledWorkitemCodeSequence[0].CodeValue = "110004"
    assert procedure.create("1.2.3", work, caller=CALLER).status == 0
    complete(procedure, "1.2.3", claim(procedure, "1.2.3"))
    listed = steps.listed(STUDY)
    assert (listed.claimed_at, listed.ordered) == (None, Level.ROUTINE)
    assert state_of(procedure, OURS) == "SCHEDULED"


@pytest.mark.parametrize("before", [True, False])
def test_a_step_of_another_patient_is_not_the_studys(steps: Steps, procedure: ProcedureSteps, *, before: bool) -> None:
    """Placed before the images or after them: it moves nothing, and the study has a step of its own."""
    if not before:
        steps.index(STUDY)
    step = placed(StudyInstanceUID=STUDY, ScheduledProcedureStepPriority="HIGH", PatientID="SOMEBODY-ELSE")
    assert procedure.create("1.2.3", step, caller=CALLER).status == 0
    if before:
        steps.index(STUDY)
    assert (state_of(procedure, OURS), state_of(procedure, "1.2.3")) == ("SCHEDULED", "SCHEDULED")
    complete(procedure, "1.2.3", claim(procedure, "1.2.3"))
    listed = steps.listed(STUDY)
    assert (listed.ordered, listed.claimed_at) == (Level.ROUTINE, None)


def test_a_step_whose_study_another_reader_has_is_not_claimed(steps: Steps, procedure: ProcedureSteps) -> None:
    """Placed while a reader reads the study: that reader goes on alone."""
    steps.index(STUDY)
    claim(procedure, OURS)
    assert procedure.create("1.2.3", placed(StudyInstanceUID=STUDY), caller=CALLER).status == 0
    assert procedure.change_state("1.2.3", "IN PROGRESS", generate_uid(), caller="READER2").status == 0xC302
    assert state_of(procedure, "1.2.3") == "SCHEDULED"


@pytest.mark.parametrize(
    "keys",
    [
        {"StudyInstanceUID": "1.2.3"},
        {"PatientID": "PAT-0001"},
        {"ExpectedCompletionDateTime": "2026-"},
        {"ScheduledWorkitemCodeSequence": [{"CodeValue": "110005", "CodeMeaning": "Interpretation"}]},
    ],
)
def test_a_step_is_not_found_by_what_it_lacks(procedure: ProcedureSteps, keys: dict[str, object]) -> None:
    """A key with a value asks for that value; of an empty key every step is a match, and it is answered empty."""
    absent = dict.fromkeys(("StudyInstanceUID", "PatientID", "ExpectedCompletionDateTime"))
    step = placed(ScheduledWorkitemCodeSequence=[Dataset()], **{name: None for name in absent if name in placed()})
    assert procedure.create(None, step, caller=CALLER).done
    assert list(procedure.find(_keys(keys))) == []
    [found] = procedure.find(_keys(dict.fromkeys(keys, "" if "Sequence" not in next(iter(keys)) else [])))
    assert found.complete
    assert [not found.attributes[keyword].value for keyword in keys if "Sequence" not in keyword] in ([True], [])


def _keys(values: dict[str, object]) -> Dataset:
    identifier = Dataset()
    for keyword, value in values.items():
        setattr(identifier, keyword, [_keys(item) for item in value] if isinstance(value, list) else value)
    return identifier


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [(0x00400400, "US", 5), (0x00741002, "LO", "abc"), (0x00404025, "LO", "a")],
)
def test_an_attribute_of_another_vr_is_not_taken(
    steps: Steps, procedure: ProcedureSteps, tag: int, vr: str, value: object
) -> None:
    """0115: kept, it would break every answer that shows the step. Neither placed, nor set."""
    steps.index(STUDY)
    step, modifications = placed(), Dataset()
    for data in (step, modifications):
        data[tag] = DataElement(tag, vr, value)
    assert procedure.create(None, step, caller=CALLER).status == 0x0115
    assert procedure.modify(OURS, modifications, None, caller=CALLER).status == 0x0115
    assert shown(procedure, OURS).ProcedureStepState == "SCHEDULED"
    assert steps.reading_list.finish(STUDY, actor="reader")


def test_the_modification_time_changes_with_the_list(steps: Steps, procedure: ProcedureSteps) -> None:
    """So that whoever polls sees that the place may be another one; the place itself is in words."""
    steps.score(STUDY)
    before = shown(procedure, OURS)
    steps.clock.move(timedelta(minutes=1))
    steps.score("1.2", finding("Pneumothorax", 0.9))
    after = shown(procedure, OURS)
    assert before.ScheduledProcedureStepModificationDateTime < after.ScheduledProcedureStepModificationDateTime
    version = steps.reading_list.version()
    assert after.CommentsOnTheScheduledProcedureStep.startswith(f"Rank 2 of list version {version}.")


def test_a_global_subscriber_is_told_of_all_steps(steps: Steps, procedure: ProcedureSteps) -> None:
    """Of what is here, then of what comes; suspended, no more of what comes; ended, of nothing."""
    steps.index("1.1")
    assert procedure.subscribe(GLOBAL_SUBSCRIPTION, "WATCHER", deletion_lock=True, caller=CALLER).status == 0
    assert told(steps) == [(1, "SCHEDULED")]
    steps.index("1.2")
    assert told(steps) == [(1, "SCHEDULED")]
    assert procedure.suspend_global(GLOBAL_SUBSCRIPTION, "WATCHER", caller=CALLER).status == 0
    steps.index("1.3")
    assert told(steps) == []
    claim(procedure, step_uid("1.2", 1))
    assert told(steps) == [(1, "IN PROGRESS")]
    assert procedure.unsubscribe(GLOBAL_SUBSCRIPTION, "WATCHER", caller=CALLER).status == 0
    steps.reading_list.finish("1.1", actor="RIS")
    assert told(steps) == []


def test_a_step_that_is_being_changed_is_waited_for_alone(steps: Steps, procedure: ProcedureSteps) -> None:
    """A global subscription passes it by, comes back to it, and locks nothing else meanwhile."""
    steps.index("1.1")
    steps.index("1.2")
    with ThreadPoolExecutor(1) as other:
        with steps.database.transaction() as session:
            session.scalars(select(ProcedureStepRow).filter_by(sop_instance_uid=OURS).with_for_update()).one()
            subscribed = other.submit(
                procedure.subscribe, GLOBAL_SUBSCRIPTION, "WATCHER", deletion_lock=False, caller=CALLER
            )
        assert subscribed.result(PATIENCE_SECONDS).status == 0
    assert told(steps) == [(1, "SCHEDULED")] * 2


def test_a_filter_lets_through_what_matches(steps: Steps, procedure: ProcedureSteps) -> None:
    """Of steps that are here and of those that come, each once; it needs keys."""
    assert (
        procedure.subscribe(FILTERED_GLOBAL_SUBSCRIPTION, "WATCHER", deletion_lock=False, caller=CALLER).status
        == 0x0115
    )
    keys = Dataset()
    keys.WorklistLabel = "Their*"
    assert procedure.create("1.2.1", placed(), caller=CALLER).status == 0
    assert (
        procedure.subscribe(
            FILTERED_GLOBAL_SUBSCRIPTION, "WATCHER", deletion_lock=False, caller=CALLER, filter_keys=keys
        ).status
        == 0
    )
    assert procedure.create("1.2.2", placed(), caller=CALLER).status == 0
    assert procedure.create("1.2.3", placed(WorklistLabel="Ours"), caller=CALLER).status == 0
    steps.index(STUDY)
    procedure.consider()
    procedure.consider()
    assert told(steps) == [(1, "SCHEDULED")] * 2
    with steps.database.read() as session:
        mine = select(StepSubscriptionRow.sop_instance_uid).where(StepSubscriptionRow.receiver == "WATCHER")
        assert set(session.scalars(mine)) == {FILTERED_GLOBAL_SUBSCRIPTION, "1.2.1", "1.2.2"}


def test_one_message_is_the_same_at_each_attempt_and_nothing_overtakes_it(
    steps: Steps, procedure: ProcedureSteps
) -> None:
    """Same ID, same bytes; given up, the next one follows."""
    announcements = Announcements(steps.database, lease=LEASE, clock=steps.clock)

    def take() -> Announcement | None:
        return announcements.claim(OWNER, UPS_FACE, "WATCHER")

    steps.index(STUDY)
    procedure.subscribe(OURS, "WATCHER", deletion_lock=False, caller=CALLER)
    claim(procedure, OURS)
    first = take()
    assert first is not None
    assert take() is None  # one sends it
    announcements.record_failure(first, error="away", retry_at=steps.clock() + timedelta(minutes=1))
    assert take() is None  # not its time, and nothing goes before it
    with pytest.raises(StaleAttemptError):
        announcements.record_acknowledged(first)
    steps.clock.move(timedelta(minutes=1))
    again = take()
    assert again is not None
    assert (again.message_id, again.payload, again.attempt) == (first.message_id, first.payload, 2)
    announcements.record_failure(again, error="refused", retry_at=None)
    second = take()
    assert second is not None
    assert second.message_id != first.message_id
    assert announcements.receivers(UPS_FACE) == ["WATCHER"]


def test_how_messages_stand_is_counted_and_told_by_study(steps: Steps, procedure: ProcedureSteps) -> None:
    """Per receiver, with the last failure; what nobody comes for is given up after its time."""
    for receiver in sorted(RECEIVERS):
        assert procedure.subscribe(GLOBAL_SUBSCRIPTION, receiver, deletion_lock=False, caller=CALLER).done
    steps.score("1.1", finding())
    announcements = Announcements(steps.database, lease=LEASE, clock=steps.clock)
    refused = announcements.claim(OWNER, UPS_FACE, "READER1")
    assert refused is not None
    announcements.record_failure(refused, error="it refused", retry_at=None)
    counted = {each.receiver: (each.states, each.last_error) for each in announcements.counts()}
    assert counted["READER1"][0][AnnouncementState.DEAD] == 1
    assert (counted["READER1"][1], counted["WATCHER"][1]) == ("it refused", "")
    told = announcements.of_study("1.1")
    assert {each.receiver for each in told} == RECEIVERS
    assert [each.last_error for each in told if each.state is AnnouncementState.DEAD] == ["it refused"]
    assert announcements.of_study("1.2") == []
    assert announcements.give_up(steps.clock()) == 0
    steps.clock.move(timedelta(hours=1))
    waiting = sum(each.states[AnnouncementState.PENDING] for each in announcements.counts())
    assert (waiting > 0, announcements.give_up(steps.clock()), announcements.give_up(steps.clock())) == (
        True,
        waiting,
        0,
    )
    assert {each.state for each in announcements.of_study("1.1")} == {AnnouncementState.DEAD}
    assert {each.last_error for each in announcements.of_study("1.1")} == {"it refused", "nobody came for it"}


def test_a_dead_senders_message_is_sent_by_another(steps: Steps, procedure: ProcedureSteps) -> None:
    """Killed between the commit and the event, or in the middle of it: the event is in the ledger, and goes again."""
    announcements = Announcements(steps.database, lease=LEASE, clock=steps.clock)
    steps.index(STUDY)
    procedure.subscribe(OURS, "WATCHER", deletion_lock=False, caller=CALLER)
    before = announcements.claim("worklist-1-gone-1", UPS_FACE, "WATCHER")
    assert before is not None
    assert announcements.release_leases(lambda _owner: False, steps.clock()) == 1
    after = announcements.claim(OWNER, UPS_FACE, "WATCHER")
    assert after is not None
    assert (after.message_id, after.payload) == (before.message_id, before.payload)
    announcements.record_acknowledged(after)
    assert announcements.forget(steps.clock()) == 0
    assert announcements.forget(steps.clock() + timedelta(seconds=1)) == 1


def test_every_transition_leaves_a_trail(steps: Steps, procedure: ProcedureSteps) -> None:
    """Who, and what; nothing of the patient."""
    procedure.create("1.2.3", placed(), caller=CALLER)
    transaction = claim(procedure, "1.2.3")
    complete(procedure, "1.2.3", transaction)
    procedure.subscribe("1.2.3", "WATCHER", deletion_lock=False, caller="WATCHER")
    with steps.database.read() as session:
        trail = [(row.event, row.actor, row.detail) for row in session.scalars(select(AuditRow).order_by(AuditRow.id))]
    assert trail == [
        ("step_created", CALLER, "1.2.3"),
        ("step_changed", PERFORMER, "SCHEDULED -> IN PROGRESS: 1.2.3"),
        ("step_set", PERFORMER, "1.2.3"),
        ("step_changed", PERFORMER, "IN PROGRESS -> COMPLETED: 1.2.3"),
        ("step_subscribed", "WATCHER", "WATCHER to 1.2.3"),
    ]
