"""What a chaos run keeps on disk, so that a run that was interrupted goes on where it stopped."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from journal import Sent
from vitals import Vitals


class JsonLines:
    """A file of one JSON value per line, each on the disk before `append` returns."""

    def __init__(self, path: Path) -> None:
        """Look only; a last line that was cut off is dropped: nobody was told that it was there."""
        self._path = path
        if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
            path.write_bytes(content[: content.rfind(b"\n") + 1])

    def append(self, value: Any) -> None:
        """Write a line."""
        with self._path.open("a") as file:
            file.write(json.dumps(value) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def __iter__(self) -> Iterator[Any]:
        """Read every line; one that is being written is left out."""
        if not self._path.exists():
            return
        with self._path.open() as file:
            yield from (json.loads(line) for line in file if line.endswith("\n"))


@dataclass(kw_only=True)
class State:
    """How far a run has come."""

    seed: int
    #: Rounds that were begun.
    rounds: int = 0
    #: Kills so far: by point, and at random by role.
    at_points: dict[str, int] = field(default_factory=dict)
    at_random: dict[str, int] = field(default_factory=dict)
    #: Images acknowledged, objects at the PACS and how often any came.
    acknowledged: int = 0
    objects: int = 0
    arrivals: int = 0
    #: Threads, handles and memory by role, before the first kill.
    baseline: dict[str, Vitals] = field(default_factory=dict)
    #: C-ECHO: how many, how many of them later than a second, and the slowest.
    echoes: int = 0
    late_echoes: int = 0
    slowest_echo_seconds: float = 0.0
    #: Each once, in the order in which they were found.
    violations: list[str] = field(default_factory=list)
    #: Seconds that the run has taken, interruptions left out.
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """All of them."""
        return sum(self.at_points.values()) + sum(self.at_random.values())

    def blame(self, found: list[str]) -> list[str]:
        """Keep violations; those that are new."""
        new = [what for what in dict.fromkeys(found) if what not in self.violations]
        self.violations += new
        return new


class World:
    """The folder of one database's run."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        """Go on with what is there, or begin."""
        self.folder = folder
        #: The daemon's own: its database, files, configuration and log.
        self.data = folder / "daemon"
        #: Images that are being sent.
        self.images = folder / "images"
        self.tokens = folder / "tokens"
        self.pacs = folder / "pacs"
        self.echo_log = folder / "echoes.jsonl"
        #: Kept, for people.
        self.log_file = folder / "chaos.log"
        self._state_file = folder / "state.json"
        for each in (self.data, self.tokens, self.pacs):
            each.mkdir(parents=True, exist_ok=True)
        self.clear_images()
        #: What was answered with success, and what the modality ever began to send: [SOP Instance UID, SHA-256].
        self.acknowledged = JsonLines(folder / "acknowledged.jsonl")
        self.offered = JsonLines(folder / "offered.jsonl")
        self.state = _read_state(self._state_file) or State(seed=seed)
        self._began = time.monotonic() - self.state.seconds

    def sent(self, lines: JsonLines) -> set[Sent]:
        """What one of the two ledgers of the modality says."""
        return {Sent(*line) for line in lines}

    def clear_images(self) -> None:
        """Remove the images that were sent."""
        shutil.rmtree(self.images, ignore_errors=True)
        self.images.mkdir()

    def save(self) -> None:
        """Bring the state to the disk."""
        self.state.seconds = time.monotonic() - self._began
        new = self._state_file.with_suffix(".new")
        with new.open("w") as file:
            json.dump(asdict(self.state), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._state_file)

    def log(self, text: str) -> None:
        """Write a line for people."""
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} round {self.state.rounds} kill {self.state.kills} {text}\n"
        with self.log_file.open("a") as file:
            file.write(line)


def _read_state(file: Path) -> State | None:
    if not file.exists():
        return None
    values = json.loads(file.read_text())
    values["baseline"] = {role: Vitals(**each) for role, each in values["baseline"].items()}
    return State(**values)
