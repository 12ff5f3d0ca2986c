"""Start one child that inherits listening sockets, reports to our notify socket, and dies with us."""

import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from cxr_triage.daemon.notify import NOTIFY_VARIABLE
from cxr_triage.daemon.sockets import handed_over

#: PR_SET_PDEATHSIG of prctl(2).
PARENT_DEATH_SIGNAL: Final = 1
STANDARD_ERROR: Final = 2


def spawn(
    command: Sequence[str], sockets: Mapping[str, socket.socket], *, notify_address: str
) -> "subprocess.Popen[bytes]":
    """Run `command`; its standard output is our standard error, so that ours says one thing only.

    It leads a session of its own: Ctrl-C at the terminal reaches the supervisor alone, which stops the roles in order.
    The caller has no other threads, as `preexec_fn` demands.
    """
    command, descriptors = handed_over(sockets, command) if sockets else (list(command), ())
    libc, parent = ctypes.CDLL(None), os.getpid()

    def die_with_parent() -> None:
        libc.prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return subprocess.Popen(  # noqa: S603 - our own interpreter and command line
        command,
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        stdout=STANDARD_ERROR,
        env={**os.environ, NOTIFY_VARIABLE: notify_address},
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - see above: no threads
    )


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill the child and whatever it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
