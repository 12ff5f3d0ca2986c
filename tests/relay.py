"""A line to a PACS that a test can spoil, one way after the other, while the PACS behind it stays as it is."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Final

from peers import LOOPBACK, PATIENCE_SECONDS, free_port

#: PS3.8 Table 9-17 and Table 9-22: type, reserved, length; P-DATA-TF.
_HEADER: Final = struct.Struct(">BxL")
_P_DATA: Final = 0x04
#: PS3.8 Table 9-21.
_A_ASSOCIATE_RJ: Final = bytes([0x03, 0, 0, 0, 0, 4, 0, 1, 1, 1])
_CHUNK: Final = 65536


class Fault(StrEnum):
    """What becomes of a connection."""

    NONE = "none"
    #: Accepted, and closed at once.
    CLOSED = "closed at once"
    #: Nobody listens any more.
    REFUSED = "port closed"
    #: Accepted, then silence.
    SILENT = "silent"
    #: The association is rejected, for good (PS3.8 Table 9-21: rejected-permanent, no reason given).
    REJECTED = "rejected"
    #: Whatever is sent arrives; answers do not, after the association is set up, and nothing is closed.
    HANGING = "hanging"
    #: The same, but the connection is closed in place of the first answer: the object is stored.
    ANSWER_LOST = "answer lost"


class Relay:
    """Stands between a sender and a port; each new connection has the fault of the moment."""

    def __init__(self, port: int) -> None:
        """Use `relay`."""
        #: Connections so far, by what became of them.
        self.had = dict.fromkeys(Fault, 0)
        #: Answers that were swallowed with their connection.
        self.lost = 0
        self._fault = Fault.NONE
        self._to = port
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.port = free_port()
        self._listen()

    @property
    def fault(self) -> Fault:
        """What new connections have."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        if fault is Fault.REFUSED:
            self._stop_listening()
        elif self._listener is None:
            self._listen()

    def break_off(self) -> None:
        """End every connection, as when a cable is pulled and somebody notices."""
        for connection in list(self._open):
            self._close(connection)

    def close(self) -> None:
        """Stop listening, and end everything."""
        self._stop_listening()
        self.break_off()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    def _listen(self) -> None:
        self._listener = socket.create_server((LOOPBACK, self.port))
        self._start(self._accept, self._listener)

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # closed
            while True:
                sender, _ = listener.accept()
                fault = self._fault
                self.had[fault] += 1
                self._treat(sender, fault)

    def _treat(self, sender: socket.socket, fault: Fault) -> None:
        self._open.add(sender)
        if fault is Fault.CLOSED:
            self._close(sender)
        elif fault is Fault.REJECTED:
            self._start(self._reject, sender)
        elif fault is not Fault.SILENT:
            receiver = socket.create_connection((LOOPBACK, self._to))
            self._open.add(receiver)
            self._start(self._forward, sender, receiver)
            self._start(self._answer, sender, receiver, fault)

    def _forward(self, sender: socket.socket, receiver: socket.socket) -> None:
        with suppress(OSError):
            while chunk := sender.recv(_CHUNK):
                receiver.sendall(chunk)
        self._close(receiver)

    def _answer(self, sender: socket.socket, receiver: socket.socket, fault: Fault) -> None:
        with suppress(OSError, EOFError):
            while True:
                kind, pdu = _read_pdu(receiver)
                if kind == _P_DATA and fault is not Fault.NONE:
                    self.lost += 1
                    if fault is Fault.ANSWER_LOST:
                        break
                    continue
                sender.sendall(pdu)
        self._close(receiver)
        self._close(sender)

    def _reject(self, sender: socket.socket) -> None:
        with suppress(OSError, EOFError):
            _read_pdu(sender)
            sender.sendall(_A_ASSOCIATE_RJ)
            sender.recv(1)  # its end
        self._close(sender)

    def _close(self, connection: socket.socket) -> None:
        self._open.discard(connection)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _start(self, target: object, *arguments: object) -> None:
        assert callable(target)
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    """Run a line to a port."""
    made = Relay(port)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def full_backlog() -> Iterator[int]:
    """Give a port where a connection is neither accepted nor refused: its queue is full, and packets are dropped."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        try:
            for connection in waiting:
                connection.settimeout(0)
                with suppress(BlockingIOError):
                    connection.connect((LOOPBACK, port))
            yield port
        finally:
            for connection in waiting:
                connection.close()


def _read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    header = _read(connection, _HEADER.size)
    kind, length = _HEADER.unpack(header)
    return kind, header + _read(connection, length)


def _read(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        if not (chunk := connection.recv(count - len(content))):
            raise EOFError
        content += chunk
    return content
