"""Listening sockets: inherited where somebody above us holds the port, bound by us otherwise.

The protocol is systemd's, sd_listen_fds(3): file descriptors 3, 4, ... are open, LISTEN_PID says for whom, LISTEN_FDS
how many, LISTEN_FDNAMES what they are. A port that is held above its server loses no waiting connection when the
server restarts.
"""

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from cxr_triage.model.errors import ConfigurationError

#: sd_listen_fds(3): SD_LISTEN_FDS_START.
FIRST_INHERITED: Final = 3
#: Connections that the kernel completes before anybody accepts them.
BACKLOG: Final = 128


def listening_socket(host: str, port: int, *, name: str) -> socket.socket:
    """Give the listening socket of that name: the inherited one if there is one, else a new one on host and port.

    Args:
        host: name or address, IPv4 or IPv6; used only when nothing was inherited, like `port`.
        port: 0 lets the kernel choose.
        name: FileDescriptorName= of the socket unit: "dicom", "worklist" or "web".

    Raises:
        ConfigurationError: the address cannot be listened on, or what was inherited is no listening socket.
    """
    inherited = _inherited(name)
    if inherited is not None:
        return inherited
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "unknown host"
        raise ConfigurationError(
            f"{name}: cannot listen on {host} port {port} ({reason}): {_what_to_do(error)}"
        ) from error


def _what_to_do(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "end the program that uses it, or set another port"
        case errno.EACCES:
            return "set a port above 1023, or let systemd open it (docs/how-to/systemd.md)"
        case _:
            return "set an address of this machine; 0.0.0.0 for all"


def handed_over(sockets: Mapping[str, socket.socket], command: Sequence[str]) -> tuple[list[str], tuple[int, ...]]:
    """Give the command line, and the `pass_fds` for `subprocess.Popen`, that runs `command` with these sockets.

    LISTEN_PID must name a process that does not exist yet, and descriptors must start at 3: so a helper runs first,
    under the process id that the command keeps.
    """
    pairs = [f"{name}={each.fileno()}" for name, each in sockets.items()]
    descriptors = tuple(each.fileno() for each in sockets.values())
    return [sys.executable, "-m", "cxr_triage.daemon.sockets", *pairs, "--", *command], descriptors


def _inherited(name: str) -> socket.socket | None:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")[: int(os.environ.get("LISTEN_FDS", "0"))]
    if name not in names:
        return None
    descriptor = FIRST_INHERITED + names.index(name)
    fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    listener = socket.socket(fileno=descriptor)
    if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return listener
    listener.detach()
    raise ConfigurationError(
        f"{name}: descriptor {descriptor} was inherited but does not listen: check its .socket unit"
    )


def _become(pairs: Sequence[str], command: Sequence[str]) -> None:
    """Move the descriptors to their places and become the command."""
    names, given = zip(*(pair.split("=") for pair in pairs), strict=True)
    end = FIRST_INHERITED + len(names)
    # Out of the way first: a descriptor may stand where another one belongs.
    parked = [fcntl.fcntl(int(descriptor), fcntl.F_DUPFD_CLOEXEC, end) for descriptor in given]
    for place, descriptor in enumerate(parked, start=FIRST_INHERITED):
        os.dup2(descriptor, place, inheritable=True)
    for descriptor in map(int, given):
        if descriptor >= end:
            os.close(descriptor)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names))
    os.execvp(command[0], list(command))  # noqa: S606 - the supervisor's own command, no shell


if __name__ == "__main__":
    separator = sys.argv.index("--")
    _become(sys.argv[1:separator], sys.argv[separator + 1 :])
