"""Owners: alive as long as their process, whatever ends it."""

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.owners import Owner, owner_is_alive, remove_dead_locks


def test_owner_lives_until_it_is_released(tmp_path: Path) -> None:
    """Its name says what it does."""
    owner = Owner.take(tmp_path / "run", "infer")
    assert owner.id.startswith("infer-")
    assert owner_is_alive(tmp_path / "run", owner.id)
    owner.release()
    assert not owner_is_alive(tmp_path / "run", owner.id)


def test_every_owner_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Also in one process."""
    first, second = (Owner.take(tmp_path, "infer") for _ in range(2))
    first.release()
    assert (owner_is_alive(tmp_path, first.id), owner_is_alive(tmp_path, second.id)) == (False, True)
    second.release()


def test_killed_process_is_known_to_be_dead(tmp_path: Path) -> None:
    """Its lock file stays, its lock does not; a program that it had started does not keep it alive."""
    program = """
import subprocess, sys
from pathlib import Path
from cxr_triage.storage.owners import Owner
owner = Owner.take(Path(sys.argv[1]), "infer")
child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, close_fds=False)
print(owner.id, child.pid, flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    owner_id, child = process.stdout.readline().split()
    assert owner_is_alive(tmp_path, owner_id)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not owner_is_alive(tmp_path, owner_id)
    subprocess.run(["kill", child], check=True)


def test_owner_of_another_host_counts_as_alive(tmp_path: Path) -> None:
    """It cannot be asked, so its leases decide."""
    assert owner_is_alive(tmp_path, "infer-12-0123456789ab-89abcdef")


def test_owner_of_another_folder_of_this_host_counts_as_alive(tmp_path: Path) -> None:
    """Containers share the host's boot but not the folder."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    owner = Owner.take(tmp_path / "one", "infer")
    owner.release()
    assert (owner_is_alive(tmp_path / "one", owner.id), owner_is_alive(tmp_path / "two", owner.id)) == (False, True)


def test_locks_of_the_dead_are_removed(tmp_path: Path) -> None:
    """Those that are old enough; the living keep theirs, and the dead stay dead."""
    owner = Owner.take(tmp_path, "infer")
    dead = owner.id.replace("infer", "deliver")
    (tmp_path / f"{dead}.lock").touch()
    (tmp_path / "upkeep.lock").touch()
    now = datetime.now(UTC)
    assert remove_dead_locks(tmp_path, before=now - timedelta(hours=1)) == 0
    assert remove_dead_locks(tmp_path, before=now + timedelta(hours=1)) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"{owner.id}.lock", "upkeep.lock"]
    assert (owner_is_alive(tmp_path, owner.id), owner_is_alive(tmp_path, dead)) == (True, False)
    owner.release()


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "run").write_text("not a folder")
    with pytest.raises(StorageError, match="run"):
        Owner.take(tmp_path / "run", "infer")
