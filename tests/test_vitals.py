"""What processes hold is read right: a test that watches a daemon can rely on it."""

import mmap
import multiprocessing
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from vitals import by_role, vitals_of

MEGABYTE = 1024 * 1024
#: Stands for a supervisor: a "role" that has a child of its own, which holds 64 MB.
CHILD = "held = bytearray(64 << 20); print(len(held), flush=True); input()"
ROLE = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ROLE!r}, 'serve', '--role', 'infer'])"


def test_threads_and_handles_are_counted(tmp_path: Path) -> None:
    """Three more threads and five more files are three and five more; and none when they are gone."""
    before, end = vitals_of(os.getpid()), threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(3)]
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
        for number in range(5):
            stack.enter_context((tmp_path / str(number)).open("wb"))
        during = vitals_of(os.getpid())
        end.set()
    for thread in threads:
        thread.join()
    after = vitals_of(os.getpid())
    assert (during.threads - before.threads, during.handles - before.handles) == (3, 5)
    assert (after.threads, after.handles) == (before.threads, before.handles)


def test_own_memory_is_counted_and_that_of_files_is_not(tmp_path: Path) -> None:
    """64 MB that a process fills count; 64 MB of a file that it reads by mapping do not."""
    before = vitals_of(os.getpid()).resident_bytes
    path = tmp_path / "mapped"
    path.write_bytes(bytes(64 * MEGABYTE))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) == 0
        assert vitals_of(os.getpid()).resident_bytes - before < 16 * MEGABYTE
    # Pages of its own: an allocator may hand out again what earlier tests have filled.
    held = mmap.mmap(-1, 64 * MEGABYTE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held[:: mmap.PAGESIZE] = b"\1" * (64 * MEGABYTE // mmap.PAGESIZE)
    assert vitals_of(os.getpid()).resident_bytes - before > 60 * MEGABYTE
    del held


def test_what_a_role_starts_counts_as_the_roles() -> None:
    """A role's child is summed into the role; the supervisor is a key of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline()) == 64 * MEGABYTE
        found = by_role(parent.pid)
        assert set(found) == {"supervisor", "infer"}
        assert found["infer"].resident_bytes > 64 * MEGABYTE > found["supervisor"].resident_bytes
        assert found["infer"].threads == 2
        parent.communicate("\n")


def test_an_ended_process_holds_nothing() -> None:
    """Who has ended is no error among the roles, also while its parent has not asked how it ended."""
    child = multiprocessing.get_context("spawn").Process(target=int)
    child.start()
    assert child.pid is not None
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert by_role(child.pid) == {}
    with pytest.raises(ProcessLookupError):
        vitals_of(child.pid)
    child.join()
    assert by_role(child.pid) == {}
