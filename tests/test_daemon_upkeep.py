"""What happens by the clock, on both kinds of databases."""

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builders import finding, received_instance, result_object, store_file
from cxr_triage.daemon import breaker
from cxr_triage.daemon.alerts import AlertName, current_alerts
from cxr_triage.daemon.logs import configure_logs
from cxr_triage.daemon.setting_sections import LogSettings
from cxr_triage.daemon.settings import Settings, load_settings
from cxr_triage.daemon.upkeep import Upkeep, UpkeepRole
from cxr_triage.daemon.wakeup import Doorbell
from cxr_triage.model.errors import StorageError
from cxr_triage.model.priority import Level, Policy
from cxr_triage.storage import waiting
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.delivery_records import Circuit
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.inbox import Inbox, Outbox
from cxr_triage.storage.ledger import Circuits
from cxr_triage.storage.locks import FILES, lock
from cxr_triage.storage.owners import Owner
from cxr_triage.storage.result_records import ObjectKind
from ordering import Desk, order
from peers import eventually, running
from steps import LEASE, PACS, Steps

STUDY = "1.2.840.1"


class House:
    """A folder, a ledger under a clock of ours, and the jobs."""

    def __init__(self, folder: Path, database: Database) -> None:
        file = folder / "cxr-triage.toml"
        file.write_text(
            "[upkeep]\nfinish_after_hours = 48\nkeep_files_hours = 72\n[worklist]\nkeep_orders_hours = 240\n"
        )
        self.settings = load_settings(file)
        self.settings.prepare_folders()
        self.steps = Steps(database)
        self.upkeep = Upkeep(self.settings, database, clock=self.steps.clock)
        self.inbox = Inbox(self.settings.inbox_folder, clock=self.steps.clock)
        self.outbox = Outbox(self.settings.outbox_folder, clock=self.steps.clock)

    def score(self, study: str) -> Path:
        """Receive and score an image with a real file; where that is."""
        image = received_instance(received_at=self.steps.clock())
        stored = store_file(self.inbox, b"pixels", sop_instance_uid=image.sop_instance_uid)
        image = received_instance(
            sop_instance_uid=image.sop_instance_uid, path=stored.path, received_at=self.steps.clock()
        )
        self.steps.score(study, finding(), image=image)
        return self.inbox.absolute(stored.path)

    def report(self, study: str, *, deliver: bool) -> Path:
        """Report with one real file; where that is."""
        steps = self.steps
        revision = steps.reporting.open_revision(study, steps.policy.digest())
        stored = store_file(self.outbox, b"report", sop_instance_uid="1.2.3")
        report = result_object(ObjectKind.SR, study_instance_uid=study, path=stored.path)
        steps.reporting.complete_revision(revision, [report], [PACS])
        if deliver:
            (delivery,) = steps.dispatch.claim("deliver-1-host-1", PACS[0], 10)
            steps.dispatch.record_stored(delivery)
        return self.outbox.absolute(stored.path)


@pytest.fixture
def house(tmp_path: Path, database: Database) -> House:
    """An empty house."""
    return House(tmp_path, database)


def test_what_the_dead_held_goes_back(house: House) -> None:
    """A claim of a process that has ended is free at once, and the worker is woken; one of a live process stays."""
    settings, steps = house.settings, house.steps
    living = Owner.take(settings.run_folder, "infer")
    dead = Owner.take(settings.run_folder, "infer")
    dead.release()
    steps.receive()
    steps.scoring.claim_to_index(living.id, 1)
    steps.receive()
    (claim,) = steps.scoring.claim_to_index(dead.id, 1)
    with Doorbell.listen(settings.run_folder, "infer") as bell:
        house.upkeep.release_leases()
        assert bell.wait(0)
    assert [claim.sop_instance_uid] == [each.sop_instance_uid for each in steps.scoring.claim_to_index(living.id, 9)]
    living.release()


def test_deliveries_of_the_dead_go_back(house: House) -> None:
    """As images do."""
    house.score(STUDY)
    house.report(STUDY, deliver=False)
    dead = Owner.take(house.settings.run_folder, "deliver")
    dead.release()
    assert len(house.steps.dispatch.claim(dead.id, PACS[0], 9)) == 1
    house.upkeep.release_leases()
    assert len(house.steps.dispatch.claim("deliver-2-host-2", PACS[0], 9)) == 1


def test_questions_of_the_dead_go_back(house: House, database: Database) -> None:
    """Another daemon asks the RIS about the study."""
    desk = Desk(database)
    desk.image(STUDY)
    dead = Owner.take(house.settings.run_folder, "orders")
    dead.release()
    assert desk.inquiries.claim(dead.id) is not None
    house.upkeep.release_leases()
    assert desk.inquiries.claim("orders-2-host-2") is not None


def test_orders_of_studies_that_never_came_go(house: House, database: Database) -> None:
    """They hold patients' numbers; by an age of their own: images may be made weeks later."""
    desk = Desk(database)
    desk.orders.record(order(), desk.policy)
    desk.steps.reading_list.set_ordered(STUDY, Level.STAT, actor="reader", policy=desk.policy)
    house.steps.clock.move(timedelta(hours=239))
    house.upkeep.forget_orders()
    assert desk.orders.counts().unmatched == 2
    house.steps.clock.move(timedelta(hours=2))
    house.upkeep.forget_orders()
    assert desk.orders.counts().unmatched == 0


def test_old_studies_leave_the_list(house: House) -> None:
    """By the configured age, not before."""
    house.score(STUDY)
    house.steps.clock.move(timedelta(hours=47))
    house.upkeep.finish_aged()
    assert len(house.steps.reading_list.studies()) == 1
    house.steps.clock.move(timedelta(hours=2))
    house.upkeep.finish_aged()
    assert house.steps.reading_list.studies() == []


def test_files_go_when_nothing_needs_them_and_they_are_old(house: House) -> None:
    """Of a finished study with delivered results; the row stays and says so."""
    image = house.score(STUDY)
    report = house.report(STUDY, deliver=True)
    house.steps.reading_list.finish(STUDY, actor="test")
    house.upkeep.forget_files()
    assert (image.exists(), report.exists()) == (True, True)
    house.steps.clock.move(timedelta(hours=73))
    house.upkeep.forget_files()
    assert (image.exists(), report.exists()) == (False, False)
    assert house.steps.housekeeping.counts().instances[InstanceState.SCORED] == 1


def test_images_stay_only_for_destinations_that_are_configured(house: House, database: Database) -> None:
    """Of what is on its way there a stand-in may have to be made; an object's own file stays in any case."""
    image = house.score(STUDY)
    report = house.report(STUDY, deliver=False)
    house.steps.reading_list.finish(STUDY, actor="test")
    house.steps.clock.move(timedelta(hours=73))
    file = house.settings.run_folder.parent / "with-destination.toml"
    file.write_text(f'[[destination]]\nname = "{PACS[0]}"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n')
    there = house.settings.model_copy(update={"destination": load_settings(file).destination})
    Upkeep(there, database, clock=house.steps.clock).forget_files()
    assert (image.exists(), report.exists()) == (True, True)
    house.upkeep.forget_files()
    assert (image.exists(), report.exists()) == (False, True)


def test_files_stay_while_a_backup_is_made(house: House, database: Database) -> None:
    """It has still to copy them; the next run removes them."""
    image = house.score(STUDY)
    house.report(STUDY, deliver=True)
    house.steps.reading_list.finish(STUDY, actor="test")
    house.steps.clock.move(timedelta(hours=73))
    with lock(database, FILES):
        house.upkeep.forget_files()
        assert image.exists()
    house.upkeep.forget_files()
    assert not image.exists()


def test_files_with_work_left_stay(house: House) -> None:
    """However old: an unread study, an object that its destination has not got."""
    image = house.score(STUDY)
    report = house.report(STUDY, deliver=False)
    house.steps.clock.move(timedelta(days=365))
    house.upkeep.forget_files()
    assert (image.exists(), report.exists()) == (True, True)


def test_nothing_ages_while_the_clock_is_not_believed(house: House) -> None:
    """A person decides which time it is; then everything goes on."""
    image = house.score(STUDY)
    house.report(STUDY, deliver=True)
    house.steps.clock.move(timedelta(days=365))
    house.steps.clock.jump = timedelta(days=365)
    lock = house.settings.run_folder / "infer-1-host-1.lock"
    lock.touch()
    jobs = (house.upkeep.finish_aged, house.upkeep.forget_files, house.upkeep.remove_dead_locks)
    for job in jobs:
        job()
    assert (len(house.steps.reading_list.studies()), image.exists(), lock.exists()) == (1, True, True)
    house.steps.clock.jump = timedelta(0)
    house.steps.clock.move(datetime.now(UTC) - house.steps.clock() + timedelta(days=2))
    for job in jobs:
        job()
    assert (house.steps.reading_list.studies(), image.exists(), lock.exists()) == ([], False, False)


def test_leases_are_given_back_while_the_clock_is_not_believed(house: House) -> None:
    """By the service's own time: work goes on."""
    house.steps.receive()
    house.steps.claim_to_index()
    house.steps.clock.jump = timedelta(days=365)
    house.upkeep.release_leases()
    assert house.steps.scoring.claim_to_index("infer-2-host-2", 9) == []
    house.steps.clock.move(LEASE + timedelta(seconds=1))
    house.upkeep.release_leases()
    assert len(house.steps.scoring.claim_to_index("infer-2-host-2", 9)) == 1


def test_alerts_are_told(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """In the log, once."""
    house.steps.clock.jump = timedelta(days=365)
    configure_logs(LogSettings(), role="upkeep")
    for _ in range(3):
        house.upkeep.tell_alerts()
    assert capsys.readouterr().err.count("clock_jumped") == 1


def test_a_changed_policy_reaches_the_open_studies(house: House, database: Database) -> None:
    """Priorities were computed under the policy of their day."""
    house.score(STUDY)
    before = house.steps.listed(STUDY).priority
    muted = house.settings.model_copy(
        update={"worklist": house.settings.worklist.model_copy(update={"severity": {"Pneumothorax": 0.0}})}
    )
    Upkeep(muted, database, clock=house.steps.clock).apply_policy()
    after = house.steps.listed(STUDY).priority
    assert (before.utility > 0, after.utility) == (True, 0)
    assert muted.policy() != Policy()


@pytest.fixture
def sqlite_settings(tmp_path: Path, sqlite_url: str) -> Settings:
    """A house of the role's own."""
    return house_settings(tmp_path, sqlite_url)


def house_settings(tmp_path: Path, url: str) -> Settings:
    """Give the settings of a house in which everything happens often."""
    file = tmp_path / "cxr-triage.toml"
    file.write_text(f'[storage]\ndatabase = "{url}"\n[upkeep]\ninterval_seconds = 0.05\nleftover_seconds = 0.05\n')
    settings = load_settings(file)
    settings.prepare_folders()
    return settings


def test_the_role_runs_the_jobs_until_it_is_stopped(sqlite_settings: Settings) -> None:
    """APScheduler does, at once and then by the clock."""
    part = sqlite_settings.inbox_folder / "incoming" / "dead.part"
    part.parent.mkdir()
    part.write_bytes(b"half")
    with running(UpkeepRole(sqlite_settings).run):
        eventually(lambda: not part.exists())


def test_the_role_keeps_the_time(sqlite_settings: Settings) -> None:
    """In the run folder, for the other roles and for after a restart of the machine."""
    with running(UpkeepRole(sqlite_settings).run):
        eventually((sqlite_settings.run_folder / "clock.json").exists)


def test_daemons_on_one_postgres_take_turns(tmp_path: Path, postgres_url: str) -> None:
    """While another one is at a job, it is left out; it is done as soon as nobody is."""
    settings = house_settings(tmp_path, postgres_url)
    part = settings.inbox_folder / "incoming" / "dead.part"
    part.parent.mkdir()
    part.write_bytes(b"half")
    with closing(open_database(postgres_url)) as other, running(UpkeepRole(settings).run):
        eventually(lambda: not part.exists())
        with lock(other, "upkeep-put_leftovers_away", wait_seconds=60) as alone:
            assert alone is not None
            part.write_bytes(b"half")
            time.sleep(1)
            assert part.exists()
        eventually(lambda: not part.exists())


def test_the_role_outlives_a_silent_database(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at its start: it goes on when the database answers again."""
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 0.1)
    settings = house_settings(tmp_path, sqlite_url)
    part = settings.inbox_folder / "incoming" / "dead.part"
    part.parent.mkdir()
    part.write_bytes(b"half")
    database, hidden = (tmp_path / name for name in ("triage.db", "hidden.db"))
    database.rename(hidden)
    database.mkdir()
    with running(UpkeepRole(settings).run):
        time.sleep(1)
        assert part.exists()
        database.rmdir()
        hidden.rename(database)
        eventually(lambda: not part.exists())


def test_a_file_that_cannot_be_removed_keeps_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again at the next time."""
    image = house.score(STUDY)
    report = house.report(STUDY, deliver=True)
    house.steps.reading_list.finish(STUDY, actor="test")
    house.steps.clock.move(timedelta(hours=73))

    def refuse(_: Inbox, path: Path) -> None:
        raise StorageError(f"cannot remove {path}")

    with monkeypatch.context() as broken:
        broken.setattr(Inbox, "discard", refuse)
        house.upkeep.forget_files()
        assert (image.exists(), report.exists()) == (True, False)
    house.upkeep.forget_files()
    assert not image.exists()


def test_a_ris_that_is_not_asked_any_more_keeps_no_alert(house: House, database: Database) -> None:
    """Its table was removed while it was being left alone."""
    circuits = Circuits(database)
    opened = Circuit(failures=3, open_until=house.steps.clock(), reason="no answer", changed_at=house.steps.clock())
    for name in (breaker.RIS, "pacs"):
        circuits.record(name, before=Circuit(), after=opened, actor="test")
    house.upkeep.end_waiting()
    told = current_alerts(house.steps.housekeeping.counts(), house.steps.clock, house.settings)
    assert [each.subject for each in told if each.name is AlertName.DESTINATION_UNREACHABLE] == ["pacs"]
