"""Orders: which study they are about, which of them counts, and that they wait for their images."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from backed_up import old_ledger
from builders import finding, instance_header, prediction
from cxr_triage.model.errors import OrderRefusedError
from cxr_triage.model.priority import Level
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.ledger import Orders, StepLedger, ordering
from cxr_triage.storage.migrate import migrate
from cxr_triage.storage.order_records import (
    EndReason,
    Identity,
    Verdict,
    verdict,
)
from cxr_triage.storage.schema import OrderRow, StudyRow
from ordering import OTHER, PATIENT, RIS, STUDY, Desk, ending, identity, order
from peers import eventually
from steps import Steps


@pytest.fixture
def desk(database: Database) -> Desk:
    """Give the inlet on a fresh database: the test runs once per kind."""
    return Desk(database)


def test_an_order_of_a_study_that_is_there_reranks_it_at_once(desk: Desk) -> None:
    """Also when it has been scored: in the transaction of the order, up to what was ordered, and audited."""
    desk.image()
    desk.steps.scoring.record_scored(desk.steps.claim_to_score(), prediction(findings=(finding("Mass"),)), desk.policy)
    before = desk.steps.reading_list.version()
    recorded = desk.orders.record(order(Level.STAT), desk.policy)
    assert (recorded.is_new, recorded.verdicts) == (True, {STUDY: Verdict.AGREES})
    listed = desk.steps.listed(STUDY)
    assert (listed.ordered, listed.priority.effective) == (Level.STAT, Level.STAT)
    assert desk.steps.reading_list.version() > before
    assert (RIS, "ordered", "ROUTINE -> STAT") in desk.events()
    assert desk.events()[-1][:2] == (RIS, "prioritised")


def test_an_order_before_its_images_waits_and_applies_as_they_come(desk: Desk) -> None:
    """The study is listed as ordered: it never stands anywhere else, and its image is scored in that order."""
    recorded = desk.orders.record(order(Level.HIGH), desk.policy)
    assert (recorded.is_new, recorded.verdicts, desk.steps.reading_list.studies()) == (True, {}, [])
    assert desk.orders.counts().unmatched == 1
    desk.image()
    assert desk.level() is Level.HIGH
    assert [change.priority.ordered for change in desk.steps.reading_list.changes_of(STUDY)] == [Level.HIGH]
    assert desk.orders.counts().unmatched == 0


def test_images_of_an_urgent_order_are_scored_first(desk: Desk) -> None:
    """An order moves the images that wait for the network, too."""
    desk.image(OTHER, accession_number="ACC-0002")
    desk.steps.clock.move(timedelta(minutes=1))
    desk.image(STUDY)
    desk.orders.record(order(Level.STAT), desk.policy)
    assert desk.steps.claim_to_score().study_instance_uid == STUDY


def test_the_same_message_again_changes_nothing(desk: Desk, database: Database) -> None:
    """Its sender had no answer and says it once more: one row, one entry in the trail, the same answer but for new."""
    desk.image()
    message = order(Level.STAT)
    first = desk.orders.record(message, desk.policy)
    told, version = desk.events(), desk.steps.reading_list.version()
    again = desk.orders.record(message, desk.policy)
    assert again == replace(first, is_new=False)
    assert (desk.events(), desk.steps.reading_list.version()) == (told, version)
    with database.read() as session:
        assert len(session.scalars(select(OrderRow)).all()) == 1


def test_the_newest_order_of_a_ris_counts(desk: Desk) -> None:
    """It may lower what it ordered itself; what comes late and was said before changes nothing, and is kept."""
    desk.image()
    desk.steps.clock.move(timedelta(hours=1))
    desk.orders.record(order(Level.STAT, minutes=10), desk.policy)
    desk.orders.record(order(Level.LOW, minutes=20), desk.policy)
    assert desk.level() is Level.LOW
    desk.orders.record(order(Level.HIGH, minutes=15), desk.policy)
    assert desk.level() is Level.LOW
    assert (RIS, "ordered", "HIGH by hl7: LOW stands") in desk.events()


def test_findings_stay_above_a_lowered_order(desk: Desk) -> None:
    """An order is a person's word, and may go down; what was found is not lost by it."""
    desk.image()
    desk.steps.scoring.record_scored(desk.steps.claim_to_score(), prediction(), desk.policy)
    desk.orders.record(order(Level.LOW), desk.policy)
    listed = desk.steps.listed(STUDY)
    assert (listed.ordered, listed.priority.effective) == (Level.LOW, Level.HIGH)


def test_a_person_counts_before_the_ris(desk: Desk) -> None:
    """Whatever it says later; until that person orders otherwise."""
    desk.image()
    desk.steps.reading_list.set_ordered(STUDY, Level.HIGH, actor="reader", policy=desk.policy)
    desk.steps.clock.move(timedelta(hours=1))
    for level in (Level.STAT, Level.LOW):
        desk.orders.record(order(level, minutes=30), desk.policy)
        assert desk.level() is Level.HIGH
    desk.steps.reading_list.set_ordered(STUDY, Level.MEDIUM, actor="reader", policy=desk.policy)
    assert desk.level() is Level.MEDIUM


def test_a_sender_whose_clock_is_ahead_does_not_count_for_ever(desk: Desk) -> None:
    """What it says counts as said when it was heard."""
    desk.image()
    desk.orders.record(order(Level.LOW, minutes=60 * 24 * 365), desk.policy)
    desk.steps.clock.move(timedelta(minutes=1))
    desk.orders.record(order(Level.STAT, minutes=1), desk.policy)
    assert desk.level() is Level.STAT


@pytest.mark.parametrize(
    "wrong",
    [
        {"patient_id": "PAT-0002"},
        {"issuer_of_patient_id": "ELSEWHERE"},
        {"patient_birth_date": "19640813"},
        {"patient_id": "PAT-0002", "study_instance_uid": STUDY},
    ],
)
@pytest.mark.parametrize("first", ["order", "image"])
def test_an_order_that_names_another_patient_moves_nothing(desk: Desk, wrong: dict[str, str], first: str) -> None:
    """Whichever comes first; it is kept, in the trail, on the list for the reader to see, and counted."""
    message = order(Level.STAT, about=identity(**wrong))
    if first == "image":
        desk.image()
    desk.orders.record(message, desk.policy)
    if first == "order":
        desk.image()
    listed = desk.steps.listed(STUDY)
    by = "Study Instance UID" if "study_instance_uid" in wrong else "accession number"
    assert listed.ordered is listed.priority.effective is Level.ROUTINE
    assert f"An order with the {by} names another patient." in listed.remarks
    refused = [detail for _, event, detail in desk.events() if event == "order_not_counted"]
    assert refused == ["STAT by hl7 does not count: it names another patient"]
    assert desk.orders.counts().not_counted == 1
    assert not any(secret in str(desk.events()) for secret in (PATIENT, "PAT-0002", "ACC-0001", "1964"))


def test_an_order_by_accession_number_needs_a_patient_on_both_sides(desk: Desk) -> None:
    """Accession numbers are given out by more than one department: alone, one proves nothing."""
    desk.image(patient_id="", issuer_of_patient_id="", patient_birth_date="")
    desk.orders.record(order(Level.LOW), desk.policy)
    assert desk.level() is Level.ROUTINE
    said = "An order with the accession number is not followed: nothing says that it is this patient's."
    assert said in desk.steps.listed(STUDY).remarks
    desk.orders.record(order(Level.HIGH, about=Identity(study_instance_uid=STUDY, patient_id=PATIENT)), desk.policy)
    assert desk.level() is Level.HIGH


def test_a_later_image_may_confirm_an_order(desk: Desk) -> None:
    """An image without a patient came first; the next one says whose the study is."""
    desk.image(patient_id="", issuer_of_patient_id="", patient_birth_date="")
    desk.orders.record(order(Level.STAT), desk.policy)
    desk.image()
    assert desk.level() is Level.STAT
    assert "not followed" not in str(desk.steps.listed(STUDY).remarks)


def test_spaces_mean_nothing(desk: Desk) -> None:
    """A RIS may pad what it sends (PS3.5 6.2)."""
    desk.image()
    about = Identity(accession_number=" ACC-0001 ", patient_id=f"{PATIENT}  ", issuer_of_patient_id=" HOSPITAL")
    desk.orders.record(order(Level.STAT, about=about), desk.policy)
    assert desk.level() is Level.STAT


def test_of_two_studies_of_one_accession_number_each_has_its_own_order(desk: Desk) -> None:
    """One request, two procedures; an order that names no study is about both."""
    desk.image(STUDY)
    desk.image(OTHER)
    desk.steps.clock.move(timedelta(hours=1))
    desk.orders.record(order(Level.HIGH), desk.policy)
    assert (desk.level(STUDY), desk.level(OTHER)) == (Level.HIGH, Level.HIGH)
    desk.orders.record(order(Level.STAT, minutes=1, about=identity(study_instance_uid=STUDY)), desk.policy)
    desk.orders.record(order(Level.LOW, minutes=2, about=identity(study_instance_uid=OTHER)), desk.policy)
    assert (desk.level(STUDY), desk.level(OTHER)) == (Level.STAT, Level.LOW)


@pytest.mark.parametrize("reason", list(EndReason))
def test_the_end_of_an_order_takes_the_study_off_the_list(desk: Desk, reason: EndReason) -> None:
    """Whoever reads it; once. A new image brings it back as it was ordered."""
    desk.image()
    desk.orders.record(order(Level.HIGH), desk.policy)
    desk.steps.reading_list.claim(STUDY, by="reader", actor="reader")
    desk.steps.clock.move(timedelta(minutes=1))
    message = ending(reason)
    assert desk.orders.end(message, desk.policy).verdicts == {STUDY: Verdict.AGREES}
    assert desk.steps.reading_list.studies() == []
    assert desk.events()[-1] == (RIS, "finished", reason.value.replace("_", " "))
    desk.steps.clock.move(timedelta(minutes=1))
    desk.image()
    assert desk.level() is Level.HIGH
    assert not desk.orders.end(message, desk.policy).is_new
    assert desk.level() is Level.HIGH


def test_an_end_before_the_images_covers_those_that_were_received_before_it(desk: Desk) -> None:
    """They were indexed late. One received after it has to be read."""
    received_at = desk.steps.clock()
    desk.steps.clock.move(timedelta(minutes=1))
    desk.orders.end(ending(), desk.policy)
    desk.steps.clock.move(timedelta(minutes=1))
    desk.image(received_at=received_at)
    assert desk.steps.reading_list.studies() == []
    desk.image(received_at=desk.steps.clock())
    assert desk.level() is Level.ROUTINE


def test_the_end_of_another_patients_order_ends_nothing(desk: Desk) -> None:
    """A study that nobody read stays on the list."""
    desk.image()
    recorded = desk.orders.end(ending(about=identity(patient_id="PAT-0002")), desk.policy)
    assert recorded.verdicts == {STUDY: Verdict.OTHER_PATIENT}
    assert desk.level() is Level.ROUTINE


@pytest.mark.parametrize("first", ["end", "images"])
def test_the_end_of_one_of_two_studies_of_an_accession_number_leaves_the_other(desk: Desk, first: str) -> None:
    """It names the study that was read; one that names none is about both."""
    received_at = desk.steps.clock()
    desk.steps.clock.move(timedelta(minutes=1))
    if first == "end":
        desk.orders.end(ending(about=identity(study_instance_uid=STUDY)), desk.policy)
    for study in (STUDY, OTHER):
        desk.image(study, received_at=received_at)
    if first == "images":
        desk.orders.end(ending(about=identity(study_instance_uid=STUDY)), desk.policy)
    assert [each.study_instance_uid for each in desk.steps.reading_list.studies()] == [OTHER]
    assert not [event for event in desk.events(OTHER) if event[1] in ("order_ended", "finished")]
    desk.orders.end(ending(), desk.policy)
    assert desk.steps.reading_list.studies() == []


@pytest.mark.parametrize("sender", ["CXRTRIAGE", "CXRLIST"])
def test_what_we_say_ourselves_is_no_order(desk: Desk, sender: str) -> None:
    """Our own list that comes back would feed itself."""
    desk.image()
    with pytest.raises(OrderRefusedError, match="is this service itself"):
        desk.orders.record(order(Level.STAT, sender=sender), desk.policy)
    with pytest.raises(OrderRefusedError, match="is this service itself"):
        desk.orders.end(ending(sender=sender), desk.policy)
    assert desk.level() is Level.ROUTINE


def test_an_order_of_no_study_is_refused() -> None:
    """The sender is told, and can correct it."""
    with pytest.raises(OrderRefusedError, match="neither Study Instance UID nor accession number"):
        order(about=Identity(accession_number="  ", patient_id=PATIENT))


def test_orders_whose_images_never_come_are_forgotten(desk: Desk) -> None:
    """Those of the studies that came stay, however old."""
    desk.image()
    desk.orders.record(order(Level.HIGH), desk.policy)
    desk.orders.record(order(about=identity(accession_number="ACC-0009")), desk.policy)
    desk.orders.record(order(about=Identity(study_instance_uid="9.9")), desk.policy)
    desk.steps.clock.move(timedelta(days=30))
    assert desk.orders.forget_unmatched(desk.steps.clock() - timedelta(days=31)) == 0
    assert desk.orders.forget_unmatched(desk.steps.clock() - timedelta(days=1)) == 2
    assert desk.orders.forget_unmatched(desk.steps.clock() - timedelta(days=1)) == 0
    desk.image(OTHER, accession_number="ACC-0009")
    assert (desk.level(STUDY), desk.level(OTHER)) == (Level.HIGH, Level.ROUTINE)


def test_what_only_a_forgotten_order_had_made_goes_with_it(desk: Desk, database: Database) -> None:
    """The row of its study too; not while another order or a procedure step is about that."""
    desk.orders.record(order(about=Identity(study_instance_uid=STUDY)), desk.policy)
    desk.orders.record(order(about=Identity(study_instance_uid=OTHER)), desk.policy)
    steps = StepLedger(database, clock=desk.steps.clock)
    steps.create(
        "1.2.3",
        {},
        about=Identity(study_instance_uid="9.9"),
        ordered=Level.LOW,
        told=(),
        policy=desk.policy,
        actor="READER",
    )
    desk.orders.record(order(about=Identity(study_instance_uid="9.9")), desk.policy)
    desk.steps.clock.move(timedelta(days=2))
    desk.steps.reading_list.set_ordered(OTHER, Level.HIGH, actor="reader", policy=desk.policy)
    assert desk.orders.forget_unmatched(desk.steps.clock() - timedelta(days=1)) == 3
    with database.read() as session:
        assert set(session.scalars(select(StudyRow.study_instance_uid))) == {OTHER, "9.9"}
    for study, level in ((STUDY, Level.ROUTINE), (OTHER, Level.HIGH), ("9.9", Level.ROUTINE)):
        desk.image(study, accession_number="")
        assert desk.level(study) is level


def test_more_orders_than_at_once_are_forgotten_in_turn(desk: Desk) -> None:
    """No transaction holds the locks of a month's orders."""
    for number in range(5):
        desk.orders.record(order(about=identity(accession_number=f"ACC-{number}")), desk.policy)
    desk.steps.clock.move(timedelta(days=2))
    before = desk.steps.clock() - timedelta(days=1)
    assert [desk.orders.forget_unmatched(before, limit=2) for _ in range(4)] == [2, 2, 1, 0]


@pytest.mark.parametrize("about", [identity(), Identity(study_instance_uid=STUDY)])
def test_an_order_is_not_forgotten_while_its_first_image_comes_in(
    postgres_url: str, about: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Postgres, from two connections: whoever forgets waits for the image that is looking for its orders."""
    with closing(open_database(postgres_url)) as database, closing(open_database(postgres_url)) as other:
        desk = Desk(database)
        desk.orders.record(order(Level.STAT, about=about), desk.policy)
        desk.steps.clock.move(timedelta(days=2))
        forgetting = Orders(other, clock=desk.steps.clock)
        with ThreadPoolExecutor(1) as thread:
            forgotten: list[Future[int]] = []

            def look_slowly(*given: Any) -> Verdict | None:
                if not forgotten:
                    before = desk.steps.clock() - timedelta(days=1)
                    forgotten.append(thread.submit(forgetting.forget_unmatched, before))
                    eventually(lambda: forgotten[0].done() or waits_for_a_lock(database))
                return verdict(*given)

            monkeypatch.setattr(ordering, "verdict", look_slowly)
            desk.image()
            assert forgotten[0].result() == 0
        assert desk.level() is Level.STAT


def waits_for_a_lock(database: Database) -> bool:
    """Whether somebody on a database of Postgres waits for somebody else."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with database.read() as session:
        return bool(session.scalar(text(waiting)))


def test_orders_and_images_at_the_same_time_find_each_other(desk: Desk) -> None:
    """Neither passes the other unseen: whatever the moment, every study ends as it was ordered."""
    headers = [instance_header(accession_number=f"ACC-{number}") for number in range(12)]
    for _ in headers:
        desk.steps.receive()
    claims = desk.steps.scoring.claim_to_index("owner", len(headers))
    with ThreadPoolExecutor(4) as threads:
        done: list[Future[object]] = []
        for claim, header in zip(claims, headers, strict=True):
            said = order(about=identity(accession_number=header.accession_number))
            done.append(threads.submit(desk.steps.scoring.record_indexed, claim, header, desk.policy))
            done.append(threads.submit(desk.orders.record, said, desk.policy))
        for each in done:
            each.result()
    assert [each.ordered for each in desk.steps.reading_list.studies()] == [Level.STAT] * len(headers)


def test_what_was_ordered_by_command_before_is_a_persons_order(database: Database, empty_database_url: str) -> None:
    """After an upgrade, no RIS takes it back; of what nobody ordered, it may say what it likes."""
    steps = Steps(database)
    steps.index(STUDY)
    steps.index(OTHER)
    for level in (Level.STAT, Level.LOW):
        steps.reading_list.set_ordered(STUDY, level, actor="reader", policy=steps.policy)
    old_ledger(database, empty_database_url, "0008")
    migrate(empty_database_url)
    upgraded = open_database(empty_database_url)
    desk = Desk(upgraded)
    desk.steps.clock.move(timedelta(hours=1))
    for study in (STUDY, OTHER):
        desk.orders.record(order(Level.HIGH, minutes=30, about=identity(study_instance_uid=study)), desk.policy)
    assert (desk.level(STUDY), desk.level(OTHER)) == (Level.LOW, Level.HIGH)
    upgraded.close()
