"""The machine's clock is set by years while the service works, or wrong after a restart: nothing waits or ages by it.

The real daemon under libfaketime: every process of it sees the clock jump while it runs.
"""

import json
import os
import signal
import sqlite3
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Housekeeping, ReadingList
from cxr_triage.storage.ledger.history import History
from cxr_triage.storage.service_clock import boottime_seconds
from cxr_triage.storage.upkeep_records import AuditEntry
from daemons import Daemon, RecordingPacs, another, chest_radiographs, send_by_dcmtk, wait_until
from journal import references
from wall_clock import WallClock

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1500)]

#: PS3.4 Table B.2-1, "Refused: Out of Resources".
OUT_OF_RESOURCES = 0xA700
YEAR = timedelta(days=365)
EXTRA = """
[deliver]
retry_first_seconds = 1
retry_longest_seconds = 15
maximum_refusals = 1000
[upkeep]
interval_seconds = 1
[service]
restart_first_seconds = 0.2
restart_longest_seconds = 1
"""


class Site:
    """A service whose machine's clock can be set, and a PACS that takes nothing until it is told to."""

    def __init__(self, folder: Path, pacs: RecordingPacs) -> None:
        self.folder = folder
        self.pacs = pacs
        self.wall_clock = WallClock(folder)
        self.daemon = Daemon(
            folder,
            destinations={"pacs": ("TESTPACS", pacs.port)},
            extra=EXTRA,
            environment=self.wall_clock.environment,
        )
        self.studies: list[str] = []
        self.images: set[str] = set()

    def push(self, number: int) -> None:
        """Send one of the demo's radiographs as a new study."""
        file = another(chest_radiographs()[number], self.folder)
        assert send_by_dcmtk(file, port=self.daemon.dicom_port)
        ds = dcmread(file, stop_before_pixels=True)
        self.studies.append(str(ds.StudyInstanceUID))
        self.images.add(str(ds.SOPInstanceUID))

    def ask(self, command: str) -> Any:
        """Run a command that prints JSON."""
        return json.loads(self.daemon.run(command, "--json"))

    def listed(self) -> list[dict[str, Any]]:
        """The reading list, in order."""
        listed = self.ask("worklist")["studies"]
        assert isinstance(listed, list)
        return listed

    def alerts(self) -> list[str]:
        """Names of the alerts that are raised, but for that of the PACS that has no room."""
        names = [alert["alert"] for alert in self.ask("status")["alerts"]]
        return [name for name in names if name != "destination_unreachable"]

    def told_of_the_jump(self, event: str) -> list[dict[str, Any]]:
        """Lines of the log that say that its alert was raised, or cleared."""
        lines = [json.loads(line) for line in self.daemon.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if (line["event"], line.get("alert")) == (event, "clock_jumped")]

    def metric(self, start: str) -> list[str]:
        """Lines of the metrics that start so, but for the alert of the PACS that has no room."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.daemon.web_port}/metrics", timeout=60) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line.startswith(start)]
        return [line for line in lines if "destination_unreachable" not in line]

    def history(self) -> list[AuditEntry]:
        """What happened to all studies."""
        with self._database() as database:
            return [entry for study in self.studies for entry in ReadingList(database).history(study)]

    def query(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database itself."""
        with closing(sqlite3.connect(self.folder / "triage.db")) as connection:
            return connection.execute(question, values).fetchall()

    def claims(self) -> int:
        """How many images somebody works on."""
        [(count,)] = self.query("SELECT count(*) FROM instance WHERE owner IS NOT NULL")
        assert isinstance(count, int)
        return count

    def freeze_readers(self) -> None:
        """Stop the processes that read images: what they are given from now on stays claimed until they are killed."""
        for pid in self.daemon.processes():
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGSTOP)

    def wait_until_scored(self) -> None:
        """Every image has its prediction, once."""
        with self._database() as database:
            counts = Housekeeping(database).counts

            def scored() -> bool:
                assert counts().instances[InstanceState.FAILED] == 0
                return counts().instances[InstanceState.SCORED] == len(self.images)

            wait_until(scored, seconds=240, what="every image is scored")
            predictions = Counter(image.sop_instance_uid for image in History(database).scored_images())
        assert predictions == Counter(self.images)

    def wait_until_put_off(self, seconds: float = 120) -> None:
        """The PACS was tried once more, had no room, and is left alone for a while."""

        def tries() -> int:
            return sum(entry.event == "delivery_retried" for entry in self.history())

        before = tries()
        wait_until(lambda: tries() > before, seconds=seconds, what="a SEG was refused once more")

    def wait_until_delivered(self, seconds: float = 120) -> None:
        """The PACS has a SEG and a report of every image, once and with the same bytes each time."""
        with self._database() as database:
            deliveries = Housekeeping(database).counts

            def delivered() -> bool:
                return deliveries().deliveries["pacs"][DeliveryState.STORED] == 2 * len(self.images)

            wait_until(delivered, seconds=seconds, what="SEG and SR of every image are stored")
        for sop_class in (SegmentationStorage, Comprehensive3DSRStorage):
            cited = Counter(uid for ds in self.pacs.of_class(sop_class) for uid in references(ds) & self.images)
            assert cited == Counter(self.images)
        assert set(map(len, self.pacs.contents.values())) == {1}

    def require_nobody_aged(self) -> None:
        """Every study is still on the list, and none is overdue."""
        assert [study["overdue"] for study in self.listed()] == [False] * len(self.studies)
        assert [entry for entry in self.history() if entry.event == "finished"] == []

    def _database(self) -> "closing[Database]":
        return closing(open_database(f"sqlite:///{self.folder / 'triage.db'}"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """One with a PACS that has no room."""
    with RecordingPacs().running() as pacs:
        pacs.answer = OUT_OF_RESOURCES
        made = Site(tmp_path, pacs)
        try:
            yield made
        finally:
            made.daemon.kill()


def order(listed: list[dict[str, Any]]) -> list[str]:
    """Which study is to be read when."""
    return [study["study"] for study in listed]


def test_the_clock_is_set_by_years_while_images_come(site: Site) -> None:
    """Five years forward, then ten back: everything is scored and delivered, nothing ages, and a person is told."""
    site.daemon.start()
    site.push(0)
    site.push(3)
    site.wait_until_scored()
    site.wait_until_put_off()
    before = site.listed()

    site.wall_clock.set(5 * YEAR)
    wait_until(lambda: len(site.told_of_the_jump("alert raised")) == 1, seconds=120, what="the jump is told")
    assert "1825 d ahead of" in site.told_of_the_jump("alert raised")[0]["explanation"]
    site.push(1)
    site.wait_until_scored()
    site.wait_until_put_off()
    assert order([study for study in site.listed() if study["study"] in site.studies[:2]]) == order(before)
    site.require_nobody_aged()

    site.wall_clock.set(-10 * YEAR)
    site.push(2)
    site.wait_until_scored()
    site.wait_until_put_off()
    site.require_nobody_aged()
    assert "clock_jumped" in site.alerts()
    assert 'cxr_triage_alert{alert="clock_jumped",subject=""} 1.0' in site.metric("cxr_triage_alert{")
    assert [line.split()[-1] for line in site.metric("cxr_triage_role_up{")] == ["1.0"] * 7

    site.pacs.answer = 0
    site.wait_until_delivered()
    site.require_nobody_aged()

    assert site.alerts() == ["clock_jumped"]
    assert len(site.told_of_the_jump("alert raised")) == 1

    accepted_order = order(site.listed())
    site.daemon.stop()
    waited = {study["study"]: study["waited_seconds"] for study in site.listed()}
    assert "behind" in site.daemon.run("clock")
    assert "start it again" in site.daemon.run("clock", "accept")
    listed = site.listed()
    assert order(listed) == accepted_order
    assert max(study["waited_seconds"] - waited[study["study"]] for study in listed) < 60
    assert min(study["waited_seconds"] - waited[study["study"]] for study in listed) >= 0
    year = str(datetime.fromisoformat(listed[0]["arrived_at"]).year)
    assert year in site.daemon.run("clock").splitlines()[0]

    site.daemon.start()
    site.push(4)
    site.wait_until_scored()
    site.wait_until_delivered()
    site.require_nobody_aged()
    assert (site.alerts(), site.metric("cxr_triage_alert{")) == ([], [])


def restart(site: Site, *, ahead: timedelta) -> None:
    """What a power cut and a restart of the machine leave: no process, the anchor of another boot, a clock set anew."""
    site.daemon.kill()
    anchor = site.folder / "run" / "clock.json"
    kept = json.loads(anchor.read_text())
    anchor.write_text(json.dumps({**kept, "boot_id": "00000000-0000-4000-8000-000000000000"}))
    site.wall_clock.set(ahead)


@pytest.mark.parametrize(
    ("wrong", "alerts"),
    [(0 * YEAR, []), (-10 * YEAR, ["clock_jumped"]), (5 * YEAR, ["clock_jumped"])],
    ids=["right", "years-back", "years-ahead"],
)
def test_a_restart(site: Site, wrong: timedelta, alerts: list[str]) -> None:
    """Claims of the boot before are given back, back-off goes on, time does not go back, whatever the clock says."""
    site.daemon.start()
    site.push(0)
    site.wait_until_scored()
    site.wait_until_put_off()
    site.freeze_readers()
    for number in (1, 2, 3):
        site.push(number)
    wait_until(lambda: site.claims() > 0, seconds=120, what="an image is claimed")
    # This machine was not restarted, so its CLOCK_BOOTTIME does not begin anew: the clock that is right afterwards says
    # that the machine was off, and on again for as long as it has really been on.
    restart(site, ahead=wrong + timedelta(seconds=boottime_seconds() + 120))
    assert site.claims() > 0
    [(last, latest)] = site.query("SELECT max(id), max(at) FROM audit")
    assert site.query("SELECT count(*) > 0 FROM delivery WHERE next_attempt_at IS NOT NULL") == [(1,)]
    site.daemon.start()
    site.wait_until_scored()
    site.wait_until_put_off()
    site.pacs.answer = 0
    site.wait_until_delivered()
    assert site.query("SELECT count(*) FROM audit WHERE id > ? AND at < ?", last, latest) == [(0,)]
    assert site.query("SELECT count(*) > 0 FROM audit WHERE id > ? AND event = 'released'", last) == [(1,)]
    assert [entry for entry in site.history() if entry.event == "finished"] == []
    assert len(site.listed()) == len(site.studies)
    assert site.alerts() == alerts
