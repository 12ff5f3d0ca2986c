"""Studies without an order: asked for in turn, again after a while, and given up when that has lasted."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from builders import MORNING
from cxr_triage.daemon.alerts import FAILURES_TOLD
from cxr_triage.daemon.breaker import RIS as CIRCUIT
from cxr_triage.daemon.orders.role import Ask, Inquirer, OrdersRole, patience
from cxr_triage.daemon.patience import Patience
from cxr_triage.daemon.settings import Settings
from cxr_triage.model.errors import OutOfResourcesError, StaleAttemptError, UnreachableError
from cxr_triage.model.priority import Level
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import Circuits
from cxr_triage.storage.order_records import Identity, Order, OrderSource
from cxr_triage.storage.schema import OrderRow
from ordering import OTHER, RIS, STUDY, Desk, entry, identity, order
from peers import eventually, running, wlmscpfs
from steps import LEASE, OWNER

MINUTE, QUARTER = timedelta(minutes=1), timedelta(minutes=15)
PATIENCE = Patience(first=MINUTE, longest=4 * MINUTE, give_up_after=timedelta(hours=1))


@pytest.fixture
def desk(database: Database) -> Desk:
    """Give the inlet on a fresh database: the test runs once per kind."""
    return Desk(database)


class Ris:
    """A RIS that knows some studies, and remembers what it was asked."""

    def __init__(self, *known: Order) -> None:
        self.known = {each.about.study_instance_uid: each for each in known}
        self.asked: list[Identity] = []
        #: Raised instead of an answer.
        self.error: Exception | None = None

    def __call__(self, about: Identity) -> Sequence[Order]:
        """Answer."""
        self.asked.append(about)
        if self.error is not None:
            raise self.error
        found = self.known.get(about.study_instance_uid)
        return [] if found is None else [found]

    @property
    def studies(self) -> list[str]:
        """Studies that it was asked about, in order."""
        return [each.study_instance_uid for each in self.asked]


def said(level: Level, study: str = STUDY, **about: str) -> Order:
    """Give what a RIS answers about a study."""
    return order(level, source=OrderSource.MWL, about=identity(study_instance_uid=study, **about))


def inquirer(
    desk: Desk, database: Database, ask: Ask, owner_id: str = OWNER, again: timedelta = timedelta(0)
) -> Inquirer:
    """Give one who asks that RIS."""
    return Inquirer(
        ask=ask,
        inquiries=desk.inquiries,
        circuits=Circuits(database, clock=desk.steps.clock),
        policy=desk.policy,
        owner_id=owner_id,
        patience=replace(PATIENCE, again=again),
        clock=desk.steps.clock,
    )


def ask_all(asking: Inquirer) -> int:
    """Ask for whatever is due; how often that was."""
    count = 0
    while asking.ask_next():
        count += 1
    return count


def test_a_study_without_an_order_is_asked_for_once_it_came(desk: Desk, database: Database) -> None:
    """It stands as ROUTINE until then, and is moved in the transaction that takes the answer."""
    ris = Ris(said(Level.STAT))
    asking = inquirer(desk, database, ris)
    assert ask_all(asking) == 0
    desk.image()
    assert desk.level() is Level.ROUTINE
    assert ask_all(asking) == 1
    assert (ris.asked[0].accession_number, ris.asked[0].patient_id) == ("ACC-0001", "PAT-0001")
    assert desk.level() is Level.STAT
    assert (RIS, "ordered", "ROUTINE -> STAT") in desk.events()
    desk.steps.clock.move(timedelta(hours=1))
    assert ask_all(asking) == 0
    assert desk.orders.counts().waiting == 0


def answer(level: Level, study: str = STUDY) -> Order:
    """Give what a RIS answers as it is read from an entry: the same content is the same message."""
    return replace(said(level, study), message_id=f"{study} {level.name}")


def ask_in(desk: Desk, asking: Inquirer, ris: Ris, *levels: Level) -> list[Level]:
    """Ask every quarter of an hour while the RIS says one after the other; what the list says each time."""
    found = []
    for level in levels:
        ris.known[STUDY] = replace(answer(level), at=desk.steps.clock())
        asking.ask_next()
        found.append(desk.level())
        desk.steps.clock.move(QUARTER)
    return found


def test_an_answered_study_is_asked_for_again_while_it_waits(desk: Desk, database: Database) -> None:
    """The RIS may make it more urgent, and less, and what it was before: its last word counts, and is kept once."""
    ris = Ris()
    asking = inquirer(desk, database, ris, again=QUARTER)
    desk.image()
    levels = [Level.ROUTINE, Level.STAT, Level.STAT, Level.ROUTINE, Level.ROUTINE, Level.STAT, Level.LOW]
    assert ask_in(desk, asking, ris, *levels) == levels
    with database.read() as session:
        kept = session.scalars(select(OrderRow.level).order_by(OrderRow.id)).all()
    assert kept == [Level.ROUTINE, Level.STAT, Level.ROUTINE, Level.STAT, Level.LOW]
    assert len(ris.asked) == len(levels)


def test_a_study_that_is_read_or_gone_is_not_asked_for_again(desk: Desk, database: Database) -> None:
    """Nor before its time, nor where the site does not want it."""
    ris = Ris(*(answer(Level.HIGH, study) for study in (STUDY, OTHER, "1.2.3")))
    asking = inquirer(desk, database, ris, again=QUARTER)
    for study in (STUDY, OTHER, "1.2.3"):
        desk.image(study)
    ask_all(asking)
    desk.steps.reading_list.claim(STUDY, by="reader", actor="reader")
    desk.steps.reading_list.finish(OTHER, actor="reader")
    desk.steps.clock.move(QUARTER - MINUTE)
    asking.ask_next()
    assert len(ris.asked) == 3
    desk.steps.clock.move(MINUTE)
    never = inquirer(desk, database, ris)
    for _ in range(3):
        never.ask_next()
        desk.steps.clock.move(QUARTER)
    assert ris.studies[3:] == ["1.2.3"]


@pytest.mark.parametrize("error", [None, UnreachableError("down")])
def test_an_answer_that_is_missing_later_takes_nothing_back(
    desk: Desk, database: Database, error: Exception | None
) -> None:
    """The RIS is down, or has taken what was acquired off its worklist; it is asked again all the same."""
    ris = Ris(answer(Level.HIGH))
    asking = inquirer(desk, database, ris, again=QUARTER)
    desk.image()
    ask_all(asking)
    ris.known, ris.error = {}, error
    for _ in range(10):
        desk.steps.clock.move(QUARTER)
        asking.ask_next()
        assert (desk.level(), desk.orders.counts().waiting, desk.orders.counts().given_up) == (Level.HIGH, 0, 0)
    ris.error = None
    desk.steps.clock.move(QUARTER)
    assert ask_in(desk, asking, ris, Level.STAT) == [Level.STAT]


def test_asking_again_gives_way_to_what_is_not_known_yet_and_is_paced(desk: Desk, database: Database) -> None:
    """A long list costs the RIS one question per look of the role for work."""
    studies = [f"1.2.{number}" for number in range(5)]
    ris = Ris(*(answer(Level.HIGH, study) for study in studies))
    asking = inquirer(desk, database, ris, again=QUARTER)
    for study in studies[:4]:
        desk.image(study, accession_number=study)
    assert ask_all(asking) == 4
    desk.steps.clock.move(QUARTER)
    desk.image(studies[4], accession_number=studies[4])
    assert (asking.ask_next(), asking.ask_next()) == (True, False)
    assert ris.studies[4:] == [studies[4], studies[0]]
    assert [asking.ask_next() for _ in range(5)] == [False] * 5
    assert ris.studies[6:] == studies[1:4]


def test_two_entries_about_a_study_are_one_answer(desk: Desk, database: Database) -> None:
    """The most urgent counts, of what is said now: one that is changed does not outweigh one that still stands."""
    asked = [
        [answer(Level.STAT), replace(said(Level.ROUTINE, patient_birth_date="19640812"), message_id="other")],
        [answer(Level.STAT), replace(said(Level.HIGH, patient_birth_date="19640812"), message_id="other high")],
        [answer(Level.STAT), answer(Level.LOW)],
    ]
    now = desk.steps.clock
    told = iter(asked)
    asking = inquirer(desk, database, lambda _about: [replace(each, at=now()) for each in next(told)], again=QUARTER)
    desk.image(patient_birth_date="19640812")
    for _ in asked:
        asking.ask_next()
        assert desk.level() is Level.STAT
        desk.steps.clock.move(QUARTER)


def test_what_a_dead_asker_was_asking_again_is_asked_by_another(desk: Desk, database: Database) -> None:
    """Its turn is not lost."""
    ris = Ris(answer(Level.HIGH))
    asking = inquirer(desk, database, ris, again=QUARTER)
    desk.image()
    ask_all(asking)
    desk.steps.clock.move(QUARTER)
    assert desk.inquiries.claim("orders-dead") is not None
    assert desk.inquiries.release_leases(lambda _owner: False, desk.steps.clock()) == 1
    assert ask_in(desk, asking, ris, Level.STAT) == [Level.STAT]


def test_a_study_whose_order_is_known_is_not_asked_for(desk: Desk, database: Database) -> None:
    """Whoever said it; nor one that left the list."""
    ris = Ris()
    asking = inquirer(desk, database, ris)
    for study, number in ((STUDY, "A"), (OTHER, "B"), ("1.2.3", "C")):
        desk.image(study, accession_number=number)
    desk.orders.record(order(Level.HIGH, about=identity(accession_number="A")), desk.policy)
    desk.steps.reading_list.set_ordered(OTHER, Level.ROUTINE, actor="reader", policy=desk.policy)
    desk.steps.reading_list.finish("1.2.3", actor="reader")
    assert ask_all(asking) == 0
    assert ris.asked == []


def test_another_study_of_the_accession_number_is_asked_for_itself(desk: Desk, database: Database) -> None:
    """What was ordered for the one counts for the other only until that has its own; both are told by one answer."""
    ris = Ris(said(Level.STAT), said(Level.LOW, OTHER))
    asking = inquirer(desk, database, ris)
    for study in (STUDY, OTHER, "1.2.3"):
        desk.image(study)
    ris.known["1.2.3"] = ris.known[STUDY]
    assert ask_all(asking) == 2
    assert ris.studies == ["1.2.3", OTHER]
    desk.steps.clock.move(timedelta(hours=1))
    assert ask_all(asking) == 0
    assert [desk.level(study) for study in (STUDY, OTHER, "1.2.3")] == [Level.STAT, Level.LOW, Level.STAT]


def test_no_answer_is_no_change_and_is_asked_for_again(desk: Desk, database: Database) -> None:
    """After a wait that doubles; when that has lasted for long enough, no more: it stays ROUTINE."""
    ris = Ris()
    asking = inquirer(desk, database, ris)
    desk.image()
    asked_at = []
    while not desk.orders.counts().given_up:
        if ask_all(asking):
            asked_at.append((desk.steps.clock() - MORNING) / MINUTE)
            assert desk.orders.counts().last_error == "the RIS has no entry with a priority for it"
        desk.steps.clock.move(MINUTE)
    assert asked_at[:6] == [0, 1, 3, 7, 11, 15]
    assert asked_at[-1] == 63
    assert ask_all(asking) == 0
    assert (desk.level(), desk.orders.counts().waiting) == (Level.ROUTINE, 0)


def test_an_answer_that_comes_later_by_another_way_ends_the_asking(desk: Desk, database: Database) -> None:
    """HL7 was quicker than the next question."""
    asking = inquirer(desk, database, Ris())
    desk.image()
    assert ask_all(asking) == 1
    desk.orders.record(order(Level.HIGH), desk.policy)
    desk.steps.clock.move(timedelta(hours=1))
    assert ask_all(asking) == 0
    assert (desk.orders.counts().waiting, desk.orders.counts().last_error) == (0, "")


def test_an_answer_that_names_another_patient_moves_nothing(desk: Desk, database: Database) -> None:
    """It is told on the list once, however often it is said, and asked for again: the RIS may correct it."""
    ris = Ris(said(Level.STAT, patient_id="PAT-0002"))
    asking = inquirer(desk, database, ris)
    desk.image()
    for _ in range(3):
        assert ask_all(asking) == 1
        desk.steps.clock.move(timedelta(minutes=5))
    listed = desk.steps.listed(STUDY)
    assert listed.ordered is Level.ROUTINE
    told = [remark for remark in listed.remarks if "names another patient" in remark]
    assert told == ["An order with the Study Instance UID names another patient."]
    assert desk.orders.counts().last_error == "the RIS names another patient"
    ris.known[STUDY] = said(Level.STAT)
    assert ask_all(asking) == 1
    assert desk.level() is Level.STAT


@pytest.mark.parametrize(
    "error",
    [UnreachableError("RIS at ris port 104 gave no DICOM answer"), OutOfResourcesError("full"), ValueError("x")],
)
def test_a_ris_that_fails_is_left_alone(desk: Desk, database: Database, error: Exception) -> None:
    """Not asked for the others either until its pause is over; then by one study; and all is done when it is back."""
    ris = Ris(said(Level.STAT), said(Level.HIGH, OTHER))
    ris.error = error
    asking = inquirer(desk, database, ris)
    for study in (STUDY, OTHER):
        desk.image(study)
    assert ask_all(asking) == 1
    circuit = Circuits(database, clock=desk.steps.clock).of(CIRCUIT)
    assert (circuit.failures, circuit.is_open) == (1, True)
    desk.steps.clock.move(MINUTE)
    assert ask_all(asking) == 1
    assert sorted(ris.studies) == [STUDY, OTHER]
    assert desk.orders.counts().waiting == 2
    ris.error = None
    desk.steps.clock.move(10 * MINUTE)
    assert ask_all(asking) == 2
    assert (desk.level(STUDY), desk.level(OTHER)) == (Level.STAT, Level.HIGH)
    assert not Circuits(database, clock=desk.steps.clock).of(CIRCUIT).is_open


def test_a_ris_that_was_down_for_long_is_asked_for_all_when_it_is_back(desk: Desk, database: Database) -> None:
    """Only what was tried for as long is given up: time alone ends nothing."""
    ris = Ris(*(said(Level.STAT, f"1.2.{number}") for number in range(5)))
    ris.error = UnreachableError("down")
    asking = inquirer(desk, database, ris)
    for number in range(5):
        desk.image(f"1.2.{number}")
    desk.steps.clock.move(timedelta(hours=5))
    for _ in range(FAILURES_TOLD):
        assert ask_all(asking) == 1
        desk.steps.clock.move(5 * MINUTE)
    ris.error = None
    assert ask_all(asking) == 5
    assert {each.ordered for each in desk.steps.reading_list.studies()} == {Level.STAT}


def test_several_daemons_take_turns(desk: Desk, database: Database) -> None:
    """On one database each study is asked for once."""
    studies = [f"1.2.{number}" for number in range(12)]
    for study in studies:
        desk.image(study)
    ris = Ris(*(said(Level.HIGH, study) for study in studies))
    with ThreadPoolExecutor(3) as threads:
        askers = [inquirer(desk, database, ris, owner_id=f"orders-{number}") for number in range(3)]
        counts = list(threads.map(ask_all, askers))
    assert sum(counts) == len(studies)
    assert sorted(ris.studies) == sorted(studies)
    assert {each.ordered for each in desk.steps.reading_list.studies()} == {Level.HIGH}


def test_what_a_dead_asker_held_is_asked_for_by_another(desk: Desk) -> None:
    """The late one records nothing."""
    desk.image()
    claimed = desk.inquiries.claim("orders-dead")
    assert claimed is not None
    assert desk.inquiries.claim(OWNER) is None
    assert desk.inquiries.release_leases(lambda _owner: False, desk.steps.clock()) == 1
    again = desk.inquiries.claim(OWNER)
    assert again is not None
    with pytest.raises(StaleAttemptError):
        desk.inquiries.record_answer(claimed, [said(Level.STAT)], desk.policy, retry_at=None)
    assert desk.level() is Level.ROUTINE
    assert desk.inquiries.record_answer(again, [said(Level.STAT)], desk.policy, retry_at=None)


def test_a_lease_that_ran_out_is_given_back(desk: Desk) -> None:
    """Its owner lives, and hangs."""
    desk.image()
    assert desk.inquiries.claim(OWNER) is not None
    assert desk.inquiries.release_leases(lambda _owner: True, desk.steps.clock()) == 0
    assert desk.inquiries.release_leases(lambda _owner: True, desk.steps.clock() + LEASE) == 1


def test_the_role_asks_a_real_ris(tmp_path: Path, database_url: str, database: Database) -> None:
    """From the settings to the list: DCMTK's worklist, by accession number, since the study has a UID of its own."""
    desk = Desk(database)
    desk.image(OTHER)
    with wlmscpfs(tmp_path / "ris", [entry(STUDY, "HIGH")]) as port:
        settings = ris_settings(tmp_path, database_url, port)
        with running(OrdersRole(settings).run):
            eventually(lambda: desk.level(OTHER) is Level.HIGH)
    assert (RIS, "ordered", "ROUTINE -> HIGH") in desk.events(OTHER)


def test_the_role_outlives_a_ris_that_is_down(tmp_path: Path, database_url: str, database: Database) -> None:
    """The study stays on the list as ROUTINE; why it is not known is told."""
    desk = Desk(database)
    desk.image()
    settings = ris_settings(tmp_path, database_url, 1)
    with running(OrdersRole(settings).run):
        eventually(lambda: "gave no DICOM answer" in desk.orders.counts().last_error)
    assert desk.level() is Level.ROUTINE
    assert desk.orders.counts().waiting == 1
    assert patience(settings).first == MINUTE


def ris_settings(folder: Path, database_url: str, port: int) -> Settings:
    """Give the settings of a daemon whose RIS is at a port of this machine."""
    settings = Settings.model_validate(
        {
            "storage": {"root": folder, "database": database_url},
            "ris": {"host": "127.0.0.1", "port": port, "ae_title": RIS, "poll_seconds": 0.05},
        }
    )
    settings.prepare_folders()
    return settings
