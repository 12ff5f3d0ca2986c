"""What a person brings back: counted, signed, and gone on with at once."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from builders import instance_header
from cxr_triage.daemon.breaker import Stage, stage
from cxr_triage.daemon.replay import replay_dead, replay_failed, replay_uid
from cxr_triage.daemon.roles import DELIVER, INFER
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import Doorbell
from cxr_triage.model.errors import TriageError
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import Circuit, DeliveryState
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Circuits
from cxr_triage.storage.result_records import ResultObject
from steps import Steps

STUDY = "1.2.840.1"
ACTOR = "command line, user 1000"
OWNER = "deliver-1-host-1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Configure two destinations."""
    pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    destinations = [{"name": "pacs", **pacs}, {"name": "archive", **pacs}]
    return Settings.model_validate({"storage": {"root": tmp_path}, "destination": destinations})


@pytest.fixture
def bells(settings: Settings) -> Iterator[dict[str, Doorbell]]:
    """Listen as the two roles do."""
    with Doorbell.listen(settings.run_folder, INFER) as infer, Doorbell.listen(settings.run_folder, DELIVER) as deliver:
        yield {INFER: infer, DELIVER: deliver}


def failed(steps: Steps, *, indexed: bool) -> str:
    """Give up an image; its UID."""
    image = steps.receive()
    claim = steps.claim_to_index()
    if indexed:
        steps.scoring.record_indexed(claim, instance_header(), steps.policy)
        claim = steps.claim_to_score()
    steps.scoring.record_failure(claim, error_class="crash", explanation="it crashed", retry_at=None)
    return image.sop_instance_uid


def given_up(steps: Steps, *destinations: str) -> ResultObject:
    """Report a study, whose SEG all these destinations refuse; the SEG."""
    steps.score(STUDY)
    _, (seg, _) = steps.report(STUDY, *((name, "air") for name in destinations))
    for name in destinations:
        for delivery in steps.dispatch.claim(OWNER, name, 9):
            steps.dispatch.record_dead(delivery, "refused")
    return seg


def rung(bells: dict[str, Doorbell]) -> set[str]:
    """Which roles were woken."""
    return {role for role, bell in bells.items() if bell.wait(0)}


def test_every_failed_image_comes_back(
    steps: Steps, settings: Settings, database: Database, bells: dict[str, Doorbell]
) -> None:
    """Wherever it stopped; once."""
    failed(steps, indexed=False)
    failed(steps, indexed=True)
    assert replay_failed(settings, database, actor=ACTOR) == "2 images are tried again"
    images = steps.housekeeping.counts().instances
    states = (InstanceState.FAILED, InstanceState.RECEIVED, InstanceState.INDEXED)
    assert [images[state] for state in states] == [0, 1, 1]
    assert rung(bells) == {INFER}
    with pytest.raises(TriageError, match="no image has failed"):
        replay_failed(settings, database, actor=ACTOR)


def test_an_image_comes_back_by_its_uid(
    steps: Steps, settings: Settings, database: Database, bells: dict[str, Doorbell]
) -> None:
    """That one only."""
    uid, _ = failed(steps, indexed=True), failed(steps, indexed=False)
    assert replay_uid(uid, settings, database, actor=ACTOR) == f"{uid} is tried again"
    assert steps.housekeeping.counts().instances[InstanceState.FAILED] == 1
    assert rung(bells) == {INFER}


def test_a_result_comes_back_by_its_uid(
    steps: Steps, settings: Settings, database: Database, bells: dict[str, Doorbell]
) -> None:
    """At every destination that is configured; who did it is in the study's history."""
    seg = given_up(steps, "pacs", "archive", "removed")
    said = replay_uid(seg.sop_instance_uid, settings, database, actor=ACTOR)
    assert said == f"{seg.sop_instance_uid} is sent again to pacs, archive"
    dead = {name: states[DeliveryState.DEAD] for name, states in steps.housekeeping.counts().deliveries.items()}
    assert dead == {"archive": 0, "pacs": 0, "removed": 1}
    replayed = [entry for entry in steps.reading_list.history(STUDY) if entry.event == "replayed"]
    assert [(entry.actor, entry.sop_instance_uid) for entry in replayed] == [(ACTOR, seg.sop_instance_uid)] * 2
    assert rung(bells) == {DELIVER}
    with pytest.raises(TriageError, match="no result of this UID was given up"):
        replay_uid(seg.sop_instance_uid, settings, database, actor=ACTOR)


def test_a_destination_gets_what_was_given_up(
    steps: Steps, settings: Settings, database: Database, bells: dict[str, Doorbell]
) -> None:
    """That destination only, and the SR that was held back is no longer."""
    given_up(steps, "pacs", "archive")
    assert steps.housekeeping.counts().held_back == {"pacs": 1, "archive": 1}
    assert replay_dead("pacs", settings, database, actor=ACTOR) == "1 object is sent again to pacs"
    assert steps.housekeeping.counts().held_back == {"archive": 1}
    assert rung(bells) == {DELIVER}
    with pytest.raises(TriageError, match="nothing was given up for destination 'pacs'"):
        replay_dead("pacs", settings, database, actor=ACTOR)


def test_a_destination_that_is_not_configured_is_named(steps: Steps, settings: Settings, database: Database) -> None:
    """Nobody would send, so nothing changes, and it says what to do."""
    given_up(steps, "removed")
    with pytest.raises(TriageError, match=r"not configured, .*: add a \[\[destination\]\] of this name"):
        replay_dead("removed", settings, database, actor=ACTOR)
    assert steps.housekeeping.counts().deliveries["removed"][DeliveryState.DEAD] == 1


@pytest.mark.usefixtures("bells")
def test_a_replay_ends_the_pause_of_its_destination(steps: Steps, settings: Settings, database: Database) -> None:
    """It is probed at once; another one is left alone as before."""
    given_up(steps, "pacs", "archive")
    now = utc_now()
    opened = Circuit(failures=9, open_until=now + timedelta(minutes=9), reason="no answer", changed_at=now)
    circuits = Circuits(database)
    for name in ("pacs", "archive"):
        circuits.record(name, before=Circuit(), after=opened, actor=OWNER)
    replay_dead("pacs", settings, database, actor=ACTOR)
    longest = timedelta(minutes=10)
    assert circuits.of("archive") == opened
    assert replace(circuits.of("pacs"), open_until=None) == replace(opened, open_until=None)
    assert stage(circuits.of("pacs"), now=utc_now(), longest=longest) is Stage.HALF_OPEN
