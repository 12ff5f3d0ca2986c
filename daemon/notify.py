"""The protocol of sd_notify(3), both ends: a role says that it serves, the supervisor (or systemd) hears it."""

import contextlib
import os
import socket
import struct
from typing import Final

NOTIFY_VARIABLE: Final = "NOTIFY_SOCKET"
READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
#: struct ucred of unix(7): process, user, group.
_CREDENTIALS: Final = struct.Struct("3i")
_MESSAGE_BYTES: Final = 4096


def notify(message: str) -> None:
    """Tell whoever started us; nobody listening (any more) is fine."""
    address = os.environ.get(NOTIFY_VARIABLE, "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(message.encode())


class NotifyListener:
    """The receiving end, under an abstract address that needs no file."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # An empty name asks the kernel for a free abstract address (unix(7), autobind).
        self._socket.bind("")

    @property
    def address(self) -> str:
        """What children find in NOTIFY_SOCKET."""
        return "@" + bytes(self._socket.getsockname())[1:].decode("ascii")

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def receive(self) -> list[tuple[int, str]]:
        """Every waiting message with the process that the kernel says has sent it."""
        messages: list[tuple[int, str]] = []
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return messages
            for level, kind, payload in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    process, _, _ = _CREDENTIALS.unpack(payload)
                    messages.append((process, data.decode("utf-8", "replace")))

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
