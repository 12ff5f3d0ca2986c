"""A whole run on one database: rounds of kills, and after each the invariants."""

import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import invariants
from chaos.databases import running_database
from chaos.killing import Killer
from chaos.modality import Modality
from chaos.pacs import DiskPacs
from chaos.points.kill_points import AT_PACS, AT_RETENTION, POINTS, Tokens, require_points
from chaos.service import RETENTION, Service
from chaos.world import State, World
from cxr_triage.daemon.setting_peers import DicomSettings
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import open_database
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Housekeeping
from vitals import by_role

ECHO = Path(__file__).with_name("echo.py")
MODALITIES = 2
#: Images that make the baseline of I4, seconds of pushing them.
WARM_UP_SECONDS = 20.0
#: Work that is left when nobody kills any more must come to its end, on a machine that is busy with other things.
REST_SECONDS = 900.0
#: The invariants must hold so long after that at the latest.
SETTLE_SECONDS = 60.0
LOOK_SECONDS = 1.0
#: Every so many rounds, files that are done with are removed, and somebody dies over it.
RETENTION_ROUNDS = 3
#: A database pool keeps up to five connections, of two handles on SQLite, and how many were ever needed at a time is
#: chance. A leak of the killed would show in nobody: `make soak` looks for those of the living.
POOL_HANDLES = 10
#: Whether a second process listens on the DICOM port while the first one is dead. Without it I6 is measured only.
SHARED_PORT = "receivers" in DicomSettings.model_fields


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run is to do."""

    database: str
    #: Kills until it is done, whole rounds.
    kills: int = 500
    #: Kills at random in each round, besides one at each point.
    at_random: int = 36
    seed: int = 20240304


class Campaign:
    """One run: `run` may be called again after any interruption."""

    def __init__(self, plan: Plan, folder: Path, *, say: Callable[[str], None]) -> None:
        """Take up what is in the folder, or begin.

        Args:
            plan: what to do.
            folder: of this run alone.
            say: told how far it is.
        """
        self._plan = plan
        self._world = World(folder.absolute(), seed=plan.seed)
        self._say = say
        self._echoes_read = 0
        self._tokens = Tokens(self._world.tokens)
        self._tokens.prepare()
        require_points()
        for point in (*POINTS, AT_RETENTION):
            self._tokens.disarm(point)

    def run(self) -> State:
        """Go on until enough was killed."""
        state = self._world.state
        if state.kills >= self._plan.kills:
            return state
        with ExitStack() as stack:
            self._database_url = stack.enter_context(running_database(self._plan.database, self._world.folder))
            self._pacs = DiskPacs(self._world.pacs, before_answer=self._kill_the_sender)
            stack.enter_context(self._pacs.running())
            self._service = Service(self._world, pacs_port=self._pacs.port, database_url=self._database_url)
            stack.enter_context(self._service.running())
            stack.enter_context(_echoing(self._service.daemon.dicom_port, self._world.echo_log))
            self._killer = Killer(self._world, self._service, self._tokens, random.Random(state.seed + state.rounds))
            self._killer.collect()
            self._measure_baseline()
            while state.kills < self._plan.kills:
                self._round()
        return state

    def _round(self) -> None:
        state = self._world.state
        state.rounds += 1
        with self._pushing(random.Random(state.seed + state.rounds)):
            self._killer.kill_at_points()
            self._killer.kill_at_random(self._plan.at_random)
        self._settle()
        if state.rounds % RETENTION_ROUNDS == 1:
            self._forget_files()
            self._settle()
        self._world.clear_images()

    @contextmanager
    def _pushing(self, chance: random.Random) -> Iterator[None]:
        """Push images until the end of the block, and then until the last is acknowledged."""
        modalities = [
            Modality(
                self._world,
                port=self._service.daemon.dicom_port,
                chance=random.Random(chance.random()),
                backlog=self._backlog,
            )
            for _ in range(MODALITIES)
        ]
        try:
            yield
        finally:
            for modality in modalities:
                modality.stop()

    def _measure_baseline(self) -> None:
        """Bring everything into use once, and note what each role then holds."""
        state = self._world.state
        if state.baseline:
            return
        with self._pushing(random.Random(state.seed)):
            time.sleep(WARM_UP_SECONDS)
        self._wait_for_rest()
        assert self._service.daemon.process is not None
        state.baseline = by_role(self._service.daemon.process.pid)
        self._world.save()
        self._world.log(f"baseline: {state.baseline}")

    def _forget_files(self) -> None:
        """Have files removed that are done with, and whoever does it killed before it can say so."""
        self._tokens.arm(AT_RETENTION)
        self._service.restart(RETENTION)
        deadline = time.monotonic() + SETTLE_SECONDS
        while AT_RETENTION.name not in self._killer.collect() and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        if self._tokens.disarm(AT_RETENTION):
            self._world.log(f"not reached: {AT_RETENTION.name}")
        # What was removed and not recorded is the next run's: under other settings it would have to wait for its time.
        while self._forgettable() and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        self._service.restart()

    def _settle(self) -> None:
        """Wait until the daemon rests, and check everything for up to a minute; what is then wrong is wrong."""
        found = self._wait_for_rest()
        deadline = time.monotonic() + SETTLE_SECONDS
        while not found and (left := self._wrong_at_rest()) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            found = [] if invariants.at_rest(self._database_url) else self._wait_for_rest()
        found += left if not found else []
        found += [*self._wrong_in_words(), *self._late_echoes(), *self._service.odd_ends]
        self._conclude(found)

    def _conclude(self, found: list[str]) -> None:
        """Keep what was found, and say how far the run is."""
        state = self._world.state
        state.acknowledged = len({sent.sop_instance_uid for sent in self._world.sent(self._world.acknowledged)})
        state.arrivals = len(self._pacs.journal)
        state.objects = len({arrival.sop_instance_uid for arrival in self._pacs.journal})
        new = state.blame(found)
        self._world.save()
        for what in new:
            self._world.log(f"VIOLATION {what}")
        self._world.log(f"checked, new violations: {len(new)}")
        self._say(
            f"{self._plan.database}: round {state.rounds}, {state.kills} kills, {state.acknowledged} images "
            f"acknowledged, {state.objects} objects at the PACS, {len(state.violations)} violations, "
            f"{state.seconds / 60:.0f} min"
        )

    def _wait_for_rest(self) -> list[str]:
        """Wait until no work is left; what is wrong when that does not come."""
        self._service.wait_until_ready()
        deadline = time.monotonic() + REST_SECONDS
        while not invariants.at_rest(self._database_url):
            if time.monotonic() > deadline:
                return [f"I1 work is left {REST_SECONDS:.0f} s after the last kill"]
            time.sleep(LOOK_SECONDS)
        return []

    def _wrong_at_rest(self) -> list[str]:
        """I1 to I4."""
        assert self._service.daemon.process is not None
        return [
            *invariants.check_rest(
                self._database_url,
                invariants.Folders.below(self._world.data),
                acknowledged=self._world.sent(self._world.acknowledged),
                offered=self._world.sent(self._world.offered),
                arrivals=self._pacs.journal,
            ),
            *invariants.check_vitals(
                self._world.state.baseline, by_role(self._service.daemon.process.pid), handles=POOL_HANDLES
            ),
        ]

    def _wrong_in_words(self) -> list[str]:
        """I5."""
        said = {
            "the log": self._service.daemon.log.read_text(errors="replace"),
            "standard output": "".join(self._service.daemon.said),
            "metrics": _get(f"http://127.0.0.1:{self._service.daemon.web_port}/metrics"),
            "status": self._service.daemon.run("status", "--json"),
        }
        return [*invariants.check_said(said), *invariants.check_core_files(Path.cwd(), self._world.data)]

    def _late_echoes(self) -> list[str]:
        """I6; what was measured since the last time is counted."""
        state = self._world.state
        echoes = invariants.measured(self._new_echoes(), self._service.down())
        late = invariants.check_echoes(echoes)
        state.echoes += len(echoes)
        state.late_echoes += len(late)
        state.slowest_echo_seconds = max([state.slowest_echo_seconds, *(echo.seconds for echo in echoes)])
        return late if SHARED_PORT else []

    def _new_echoes(self) -> Iterator[invariants.Echo]:
        """Lines that the other peer has written since the last time."""
        with self._world.echo_log.open() as file:
            file.seek(self._echoes_read)
            while (line := file.readline()).endswith("\n"):
                self._echoes_read = file.tell()
                yield invariants.Echo(*json.loads(line))

    def _forgettable(self) -> bool:
        with closing(open_database(self._database_url)) as database:
            return bool(Housekeeping(database).forgettable_files(utc_now()))

    def _backlog(self) -> int:
        with closing(open_database(self._database_url)) as database:
            images = Housekeeping(database).counts().instances
        return images[InstanceState.RECEIVED] + images[InstanceState.INDEXED]

    def _kill_the_sender(self) -> None:
        """In the PACS, when it has stored an object: kill who sent it, if that is due."""
        for pid, role in self._service.processes():
            if role == AT_PACS.role and self._tokens.take(AT_PACS, pid):
                self._service.kill(pid)


@contextmanager
def _echoing(port: int, file: Path) -> Iterator[None]:
    """Have another peer ask C-ECHO all the time."""
    file.write_text("")
    with subprocess.Popen([sys.executable, str(ECHO), str(port), str(file)]) as peer:
        try:
            yield
        finally:
            peer.kill()


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())
