"""What a person is told to look at, and how often."""

import io
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from builders import MORNING
from cxr_triage.daemon.alerts import Alert, AlertLog, AlertName, Situation, alerts, current_alerts, in_words
from cxr_triage.daemon.logs import configure_logs
from cxr_triage.daemon.setting_sections import LogSettings
from cxr_triage.daemon.settings import load_settings
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import Circuit, DeliveryState, Instead
from cxr_triage.storage.ledger import Circuits
from cxr_triage.storage.service_clock import Reading
from steps import OWNER, PACS, Steps

AGREED = Reading(wall=MORNING, now=MORNING, jumped=False)
STUDY = "1.2.840.1"


def found(steps: Steps, **changes: object) -> list[tuple[str, str]]:
    """Name and subject of each alert."""
    situation = Situation(counts=steps.housekeeping.counts(), clock=AGREED)
    return [(alert.name.value, alert.subject) for alert in alerts(replace(situation, **changes))]  # type: ignore[arg-type]


def test_nothing_to_look_at(steps: Steps) -> None:
    """An ordinary day."""
    steps.score(STUDY)
    steps.report(STUDY)
    assert found(steps) == []


def test_a_clock_that_jumped(steps: Steps) -> None:
    """How far, which way, and what to do."""
    clock = Reading(wall=MORNING + timedelta(days=3, hours=4, minutes=5), now=MORNING, jumped=True)
    [alert] = alerts(Situation(counts=steps.housekeeping.counts(), clock=clock))
    assert (alert.name, alert.subject) == (AlertName.CLOCK_JUMPED, "")
    assert "3 d 4 h ahead of the service's time" in alert.message
    assert "cxr-triage clock accept" in alert.message


def test_an_image_that_failed(steps: Steps) -> None:
    """Until it is brought back, or its study is read: then nobody needs its place on the list."""
    steps.index(STUDY)
    steps.scoring.record_failure(steps.claim_to_score(), error_class="x", explanation="x", retry_at=None)
    assert found(steps) == [("images_failed", "")]
    steps.reading_list.finish(STUDY, actor="reader")
    assert found(steps) == []


def test_an_image_that_failed_before_it_had_a_study(steps: Steps) -> None:
    """It is on no list at all."""
    image = steps.receive()
    steps.scoring.record_failure(steps.claim_to_index(), error_class="x", explanation="x", retry_at=None)
    assert found(steps) == [("images_failed", "")]
    steps.scoring.replay(image.sop_instance_uid)
    assert found(steps) == []


def test_a_destination_that_is_not_reached(database: Database) -> None:
    """From the third failure in a row until it answers."""
    steps, circuits = Steps(database), Circuits(database)
    before = Circuit()
    for failures in (1, 2, 3):
        assert found(steps) == []
        until = steps.clock() + timedelta(minutes=5)
        after = Circuit(failures=failures, open_until=until, reason="no answer", changed_at=steps.clock())
        circuits.record("pacs", before=before, after=after, actor="deliver")
        before = after
    assert found(steps) == [("destination_unreachable", "pacs")]
    circuits.record("pacs", before=before, after=Circuit(changed_at=steps.clock()), actor="deliver")
    assert found(steps) == []


def test_deliveries_that_were_given_up(steps: Steps) -> None:
    """By destination, until they are replayed."""
    steps.score(STUDY)
    steps.report(STUDY, PACS, ("archive", "air"))
    for name in ("archive", PACS[0]):
        for delivery in steps.dispatch.claim(OWNER, name, 9):
            steps.dispatch.record_dead(delivery, "refused")
    assert found(steps) == [("deliveries_dead", "archive"), ("deliveries_dead", "pacs")]
    assert steps.housekeeping.counts().deliveries["pacs"][DeliveryState.DEAD] == 1
    steps.dispatch.replay_dead("pacs")
    assert found(steps) == [("deliveries_dead", "archive")]


def test_results_that_a_destination_does_not_take(steps: Steps) -> None:
    """Only where nothing says the same: once a study is read, its reader needs them no more."""
    steps.score(STUDY)
    steps.report(STUDY, PACS)
    for delivery in steps.dispatch.claim(OWNER, PACS[0], 9):
        steps.dispatch.record_not_taken(delivery, error="not supported")
    assert found(steps) == []
    for untaken in steps.stand_ins.due([PACS[0]], 9):
        steps.stand_ins.record_without(untaken, Instead.NOTHING)
    assert found(steps) == [("results_not_taken", "pacs")]
    steps.reading_list.finish(STUDY, actor="reader")
    assert found(steps) == []


def test_a_full_disk(steps: Steps) -> None:
    """The folder is named."""
    assert found(steps, full_folders=[Path("/inbox")]) == [("disk_low", "/inbox")]


def test_the_disk_is_looked_at(steps: Steps, tmp_path: Path) -> None:
    """By the setting that also decides when images are refused; folders that are not made yet are not full."""
    file = tmp_path / "cxr-triage.toml"
    file.write_text("[storage]\nminimum_free_megabytes = 1000000000\n")
    settings = load_settings(file)
    counts = steps.housekeeping.counts()
    assert [alert.subject for alert in current_alerts(counts, steps.clock, settings)] == [str(tmp_path)]
    settings.prepare_folders()
    assert {alert.name for alert in current_alerts(counts, steps.clock, settings)} == {AlertName.DISK_LOW}
    file.write_text("[storage]\nminimum_free_megabytes = 0\n")
    assert current_alerts(counts, steps.clock, load_settings(file)) == []


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (timedelta(0), "0 s ahead of"),
        (timedelta(minutes=-20), "20 min behind"),
        (timedelta(hours=2, seconds=7), "2 h 7 s ahead of"),
        (timedelta(days=-3650, microseconds=-1), "3650 d behind"),
    ],
)
def test_a_difference_in_words(difference: timedelta, words: str) -> None:
    """Its two largest units."""
    assert in_words(difference) == words


def test_an_alert_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """When it appears and when it goes; while it lasts its message may change."""
    stream, told = io.StringIO(), AlertLog()
    dead = Alert(name=AlertName.DELIVERIES_DEAD, subject="pacs", message="1 object")
    configure_logs(LogSettings(), role="upkeep", stream=stream)
    for current in ([], [dead], [replace(dead, message="2 objects")], [dead, replace(dead, subject="archive")], []):
        told.tell(current)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["level"], line["alert"], line["subject"]) for line in lines] == [
        ("alert raised", "error", "deliveries_dead", "pacs"),
        ("alert raised", "error", "deliveries_dead", "archive"),
        ("alert cleared", "warning", "deliveries_dead", "pacs"),
        ("alert cleared", "warning", "deliveries_dead", "archive"),
    ]
    assert lines[0]["explanation"] == "1 object"
    assert capsys.readouterr().err == ""
