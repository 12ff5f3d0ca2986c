"""The wake-up beside the database."""

import threading
from pathlib import Path

from cxr_triage.daemon.wakeup import Doorbell, ring


def test_a_ring_wakes_the_listener(tmp_path: Path) -> None:
    """A ring from another thread ends the wait long before its time."""
    with Doorbell.listen(tmp_path, "infer") as bell:
        ringer = threading.Thread(target=ring, args=(tmp_path, "infer"))
        ringer.start()
        assert bell.wait(60) is True
        ringer.join()


def test_many_rings_are_one_wake_up(tmp_path: Path) -> None:
    """Rings while the listener works cost one look, not one each."""
    with Doorbell.listen(tmp_path, "infer") as bell:
        for _ in range(5):
            ring(tmp_path, "infer")
        assert [bell.wait(60), bell.wait(0)] == [True, False]


def test_ringing_where_nobody_listens_is_harmless(tmp_path: Path) -> None:
    """No folder, no bell, a dead listener, a full queue: polling is the fallback."""
    ring(tmp_path / "missing", "infer")
    ring(tmp_path, "infer")
    Doorbell.listen(tmp_path, "infer").close()
    ring(tmp_path, "infer")
    with Doorbell.listen(tmp_path, "infer") as bell:
        for _ in range(5000):
            ring(tmp_path, "infer")
        assert bell.wait(60) is True


def test_a_successor_takes_the_bell(tmp_path: Path) -> None:
    """After a restart the newest process is rung."""
    with Doorbell.listen(tmp_path, "infer") as old, Doorbell.listen(tmp_path, "infer") as new:
        ring(tmp_path, "infer")
        assert (old.wait(0), new.wait(60)) == (False, True)


def test_a_deep_folder_is_no_obstacle(tmp_path: Path) -> None:
    """Folders longer than the 107 bytes of a socket address work."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    with Doorbell.listen(deep, "report") as bell:
        ring(deep, "report")
        assert bell.wait(60) is True
