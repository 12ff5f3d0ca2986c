"""A process that crashes leaves no core: it would hold images and names."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

CRASH = """
import os, resource, signal, sys
_, hard = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
from cxr_triage.daemon.core_dumps import forbid_core_dumps
if sys.argv[1] == "forbidden":
    forbid_core_dumps()
os.kill(os.getpid(), signal.SIGSEGV)
"""


def crash(folder: Path, what: str) -> int:
    """Crash a process in a folder; its wait status (waitpid(2))."""
    process = subprocess.Popen([sys.executable, "-c", CRASH, what], cwd=folder)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return status


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    """Whatever the limits were before."""
    assert not os.WCOREDUMP(crash(tmp_path, "forbidden"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, reason="this machine lets nobody leave a core")
def test_the_crash_would_leave_one(tmp_path: Path) -> None:
    """The test above is about something."""
    assert os.WCOREDUMP(crash(tmp_path, "allowed"))
