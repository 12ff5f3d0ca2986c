"""The DICOM port answers while its receivers are killed, one after the other."""

import json
import random
import sys
import threading
from contextlib import closing
from pathlib import Path
from statistics import median

import pytest

from cxr_triage.storage.database import open_database
from cxr_triage.storage.ledger import Housekeeping
from daemons import Daemon, another, chest_radiographs, descendants, kill_process, send_by_dcmtk, wait_until
from echoes import echoing

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

KILLS = 10
ECHO_EVERY_SECONDS = 0.25
#: Clearly too late, on a machine that is busy with other things as well.
LATE_SECONDS = 5.0
SEED = 20240305


def test_killed_receivers_are_not_noticed(tmp_path: Path) -> None:
    """Ten kills, an echo four times a second: each is answered; images pushed meanwhile are there once each."""
    chance = random.Random(SEED)
    sources = chest_radiographs()
    acknowledged: list[str] = []
    done = threading.Event()

    def push() -> None:
        while not done.is_set():
            image = another(sources[len(acknowledged) % len(sources)], tmp_path)
            while not send_by_dcmtk(image, port=daemon.dicom_port):
                pass
            acknowledged.append(image.stem)

    with (
        Daemon(tmp_path, destinations={}) as daemon,
        echoing(daemon.dicom_port, every_seconds=ECHO_EVERY_SECONDS) as stop,
    ):
        pusher = threading.Thread(target=push)
        pusher.start()
        for _ in range(KILLS):
            replace_one(daemon, chance)
        done.set()
        pusher.join()
        echoes = stop()
        with closing(open_database(f"sqlite:///{tmp_path / 'triage.db'}")) as database:
            counts = Housekeeping(database).counts()
            inbox = {path.relative_to(tmp_path / "inbox") for path in (tmp_path / "inbox").rglob("*.dcm")}
            # A receiver that is killed between file and row leaves a file that no row owns: upkeep's business.
            inbox -= set(Housekeeping(database).unowned("inbox", map(str, inbox)))
    seconds = sorted(echo.seconds for echo in echoes)
    # For `pytest -rP`.
    sys.stdout.write(f"{len(seconds)} echoes: median {median(seconds):.3f} s, longest {seconds[-1]:.3f} s\n")
    assert [echo for echo in echoes if echo.tries == 0 or echo.seconds > LATE_SECONDS] == []
    assert (sum(counts.instances.values()), counts.other_bytes) == (len(acknowledged), 0)
    assert sorted(path.name.partition("-")[0] for path in inbox) == sorted(acknowledged)


def replace_one(daemon: Daemon, chance: random.Random) -> None:
    """Kill one receiver, and wait until another process serves in its place."""
    ready = served(daemon)
    wait_until(lambda: len(receiver_processes(daemon)) == 2, seconds=60, what="two receivers")
    kill_process(chance.choice(receiver_processes(daemon)))
    wait_until(lambda: served(daemon) > ready, seconds=60, what="the killed receiver is back")


def served(daemon: Daemon) -> int:
    """How many receivers have said so far that they serve."""
    lines = (json.loads(line) for line in daemon.log.read_text().splitlines())
    return sum(line["event"] == "role ready" and line["role"].startswith("receive-") for line in lines)


def receiver_processes(daemon: Daemon) -> list[int]:
    """Those that run now."""
    assert daemon.process is not None
    return [process for process in descendants(daemon.process.pid) if b"\0receive\0" in command_line(process)]


def command_line(process: int) -> bytes:
    """As proc(5) has it; nothing of a process that has just ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
