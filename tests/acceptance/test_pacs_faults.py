"""A PACS that fails in every way in turn while images come in: nothing is lost, and receiving never notices."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from chaos.echo import echo
from cxr_triage.storage.database import open_database
from cxr_triage.storage.delivery_records import Circuit, DeliveryState
from cxr_triage.storage.ledger import Housekeeping
from cxr_triage.storage.upkeep_records import Counts
from daemons import SUCCESS, Daemon, RecordingPacs, another, chest_radiographs, kill_process, send, wait_until
from invariants import PLANTED, Folders, at_rest, check_rest, check_said
from journal import Arrival, Sent
from relay import Fault, Relay, relay

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1500)]

PATIENCE_SECONDS: Final = 240
EXTRA: Final = """
[deliver]
acse_timeout_seconds = 2
dimse_timeout_seconds = 3
retry_first_seconds = 0.3
retry_longest_seconds = 1
poll_seconds = 0.3
[upkeep]
interval_seconds = 1
[service]
restart_first_seconds = 0.2
restart_longest_seconds = 1
"""


class FaultyPacs(RecordingPacs):
    """A PACS that keeps a journal of what it stored, and answers as a test decides."""

    def __init__(self) -> None:
        super().__init__()
        self.journal: list[Arrival] = []
        #: What it does with an object.
        self.treat: Callable[[Event], int] = self.keep
        #: How often it did something else than keep it.
        self.faults = 0

    def keep(self, event: Event) -> int:
        """Store it."""
        arrival = Arrival.of(event.dataset, event.encoded_dataset(include_meta=False))
        with self._lock:
            self.journal.append(arrival)
        return SUCCESS

    def refuse(self, status: int) -> int:
        """Answer with a failure, and store nothing."""
        self.faults += 1
        return status

    def abort(self, event: Event) -> int:
        """End the association in place of an answer, and store nothing."""
        self.faults += 1
        event.assoc.abort()
        return SUCCESS

    def dawdle(self, event: Event) -> int:
        """Take two seconds."""
        time.sleep(2)
        self.faults += 1
        return self.keep(event)

    def _store(self, event: Event) -> int:
        assert isinstance(event.request, C_STORE)
        return self.treat(event)


class Ward:
    """The daemon with its two destinations, and the modality's own notes."""

    def __init__(self, daemon: Daemon, pacs: FaultyPacs, line: Relay, beside: FaultyPacs) -> None:
        self.daemon = daemon
        self.pacs = pacs
        self.line = line
        self.beside = beside
        self.sent: list[Sent] = []
        self.url = f"sqlite:///{daemon.folder / 'triage.db'}"

    def push(self) -> None:
        """Send an image of a new study: it is acknowledged, and another peer is answered, whatever the PACS does."""
        sources = chest_radiographs()
        image = another(sources[len(self.sent) % len(sources)], self.daemon.folder, **PLANTED)
        assert send(image, port=self.daemon.dicom_port)
        self.sent.append(Sent.file(image))
        assert echo(self.daemon.dicom_port)

    def counts(self) -> Counts:
        """Count everything."""
        with closing(open_database(self.url)) as database:
            return Housekeeping(database).counts()

    def dead(self) -> int:
        """How much was given up for the PACS."""
        return self.counts().deliveries.get("pacs", {}).get(DeliveryState.DEAD, 0)

    def failures(self) -> int:
        """Of the PACS, in a row."""
        return self.counts().circuits.get("pacs", Circuit()).failures

    def kill_sender(self) -> None:
        """Kill the role that delivers, in the middle of whatever it does."""
        victims = [pid for pid in self.daemon.processes() if "deliver" in arguments(pid)]
        assert len(victims) == 1
        kill_process(victims[0])

    def wait(self, reached: Callable[[], bool], what: str) -> None:
        """Return once it is so."""
        wait_until(reached, seconds=PATIENCE_SECONDS, what=what)


def arguments(pid: int) -> list[str]:
    """Of a process; none when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def line_is(fault: Fault) -> Callable[[Ward], Callable[[], int]]:
    """Spoil the line; gives how often that was met."""

    def spoil(ward: Ward) -> Callable[[], int]:
        ward.line.fault = fault
        return ward.failures if fault is Fault.REFUSED else lambda: ward.line.had[fault]

    return spoil


def pacs_does(treat: Callable[[FaultyPacs, Event], int]) -> Callable[[Ward], Callable[[], int]]:
    """Let the PACS fail; gives how often that was met."""

    def spoil(ward: Ward) -> Callable[[], int]:
        before = ward.pacs.faults
        ward.pacs.treat = lambda event: treat(ward.pacs, event)
        return lambda: ward.pacs.faults - before

    return spoil


def pacs_refuses(status: int) -> Callable[[Ward], Callable[[], int]]:
    """Let the PACS refuse; gives how many objects were given up for that."""

    def spoil(ward: Ward) -> Callable[[], int]:
        before = ward.dead()
        ward.pacs.treat = lambda _: ward.pacs.refuse(status)
        return lambda: ward.dead() - before

    return spoil


FAULTS: Final = {
    "port closed": line_is(Fault.REFUSED),
    "closed at once": line_is(Fault.CLOSED),
    "silent": line_is(Fault.SILENT),
    "rejected": line_is(Fault.REJECTED),
    "out of resources": pacs_does(lambda pacs, _: pacs.refuse(0xA700)),
    "aborts": pacs_does(FaultyPacs.abort),
    "slow": pacs_does(FaultyPacs.dawdle),
    "hanging": line_is(Fault.HANGING),
    "answer lost": line_is(Fault.ANSWER_LOST),
    "cannot understand": pacs_refuses(0xC000),
    "does not match": pacs_refuses(0xA900),
}


def test_a_pacs_that_fails_in_every_way_loses_nothing(tmp_path: Path) -> None:
    """Every image is acknowledged meanwhile; in the end both destinations have what they must have, once."""
    with (
        FaultyPacs().running() as pacs,
        FaultyPacs().running() as beside,
        relay(pacs.port) as line,
        Daemon(
            tmp_path,
            destinations={"pacs": ("TESTPACS", line.port), "beside": ("TESTPACS", beside.port)},
            extra=EXTRA,
        ) as daemon,
    ):
        ward = Ward(daemon, pacs, line, beside)
        for name, spoil in FAULTS.items():
            go_through(ward, name, spoil)
        line.fault, pacs.treat = Fault.NONE, pacs.keep
        ward.wait(lambda: ward.counts().deliveries["pacs"][DeliveryState.PENDING] == sum(held_back(ward)), "all sent")
        assert ward.dead() >= 4
        daemon.run("replay", "--dead", "pacs")
        ward.wait(lambda: at_rest(ward.url), "all sent, and what was given up")
    assert ward.dead() == 0
    for destination in (pacs, beside):
        assert (
            check_rest(
                ward.url,
                Folders.below(tmp_path),
                acknowledged=ward.sent,
                offered=ward.sent,
                arrivals=destination.journal,
            )
            == []
        )
    # What the line swallowed was stored, and came again.
    assert len(pacs.journal) > 2 * len(ward.sent)
    assert check_said({"log": daemon.log.read_text()}) == []


def go_through(ward: Ward, name: str, spoil: Callable[[Ward], Callable[[], int]]) -> None:
    """Let the PACS fail one way, push, kill the sender in the middle, and wait until the next one has met it too."""
    ward.line.fault, ward.pacs.treat = Fault.NONE, ward.pacs.keep
    met = spoil(ward)
    ward.push()
    ward.wait(lambda: met() >= 1, f"{name}: met")
    ward.kill_sender()
    at_kill = met()
    ward.push()
    ward.wait(lambda: met() > at_kill, f"{name}: met again")
    ward.wait(lambda: len(ward.beside.journal) >= 2 * len(ward.sent), f"{name}: the other destination is served")


def held_back(ward: Ward) -> list[int]:
    """SRs that wait for a SEG that was given up."""
    return list(ward.counts().held_back.values())
