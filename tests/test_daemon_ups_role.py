"""The worklist role as a process: what it answered outlives it, and subscribers are told all the same."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from cxr_triage.daemon.settings import load_settings
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import Announcements
from cxr_triage.storage.owners import owner_is_alive
from cxr_triage.storage.step_records import GLOBAL_SUBSCRIPTION
from daemons import lives, wait_until
from peers import PATIENCE_SECONDS, free_port
from placing import placed
from steps import LEASE
from upsclient import Watcher, answers, client, watching

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@contextmanager
def role(config: Path, port: int) -> Iterator[int]:
    """Run the role as systemd does; gives its process."""
    command = [sys.executable, "-m", "cxr_triage.daemon", "serve", "--role", "worklist", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: answers(port), seconds=PATIENCE_SECONDS, what="it answers")
            yield process.pid
        finally:
            process.kill()


def configure(folder: Path, url: str, port: int, watched: int) -> Path:
    """Procedure steps alone, told without long pauses."""
    path = folder / "triage.toml"
    path.write_text(
        f"""
        [storage]
        root = "{folder}"
        database = "{url}"
        [worklist]
        ups = true
        port = {port}
        [deliver]
        poll_seconds = 0.05
        retry_first_seconds = 0.05
        retry_longest_seconds = 0.2
        [[ups_subscriber]]
        ae_title = "WATCHER"
        host = "127.0.0.1"
        port = {watched}
        """,
        encoding="utf-8",
    )
    return path


def release(config: Path, database: Database) -> None:
    """Give back what the dead process held, as upkeep does."""
    folder = load_settings(config).run_folder
    Announcements(database, lease=LEASE).release_leases(partial(owner_is_alive, folder), utc_now())


def test_killed_before_the_event_it_tells_nevertheless(
    tmp_path: Path, sqlite_url: str, sqlite_database: Database
) -> None:
    """The subscriber is away when the step is placed, and the role is killed: what it answered is in the ledger.

    That it was started again is told too (PS3.4 CC.2.4.3), of two starts that the subscriber missed once.
    """
    port, watched = free_port(), free_port()
    config = configure(tmp_path, sqlite_url, port, watched)
    with role(config, port) as pid, client(port) as reader:
        assert reader.act(GLOBAL_SUBSCRIPTION, 3, ReceivingAE="WATCHER", DeletionLock="FALSE") == 0
        assert reader.create(placed(), "1.2.3")[0] == 0
        os.kill(pid, signal.SIGKILL)
    release(config, sqlite_database)
    watcher = Watcher()
    with watching(watcher, watched), role(config, port), client(port) as reader:
        assert watcher.wait(2) == [(4, ""), (1, "SCHEDULED")]
        assert reader.state("1.2.3") == "SCHEDULED"


def test_killed_in_the_middle_of_an_event_it_tells_the_same_again(
    tmp_path: Path, sqlite_url: str, sqlite_database: Database
) -> None:
    """At least once: the same message ID, so that a subscriber that looks sees it once."""
    port, watched = free_port(), free_port()
    config = configure(tmp_path, sqlite_url, port, watched)
    victims: list[int] = []

    def kill_once() -> int:
        while victims:
            os.kill(victims.pop(), signal.SIGKILL)
        return 0

    watcher = Watcher(answer=kill_once)
    with watching(watcher, watched):
        with role(config, port) as pid, client(port) as reader:
            assert reader.act(GLOBAL_SUBSCRIPTION, 3, ReceivingAE="WATCHER", DeletionLock="FALSE") == 0
            assert watcher.wait(1) == [(4, "")]
            victims.append(pid)
            assert reader.create(placed(), "1.2.3")[0] == 0
            watcher.wait(2)
            wait_until(lambda: not lives(pid), seconds=PATIENCE_SECONDS, what="it is dead")
        release(config, sqlite_database)
        with role(config, port):
            watcher.wait(3)
    assert watcher.events[1] == watcher.events[2]
