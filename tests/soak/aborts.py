"""Associations that end badly: at every moment of their life, and in every way that a peer has (PS3.8 section 9)."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from itertools import product
from typing import Final

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

#: PDU types, PS3.8 9.3.1.
A_ASSOCIATE_AC: Final = 0x02
A_ASSOCIATE_RJ: Final = 0x03
P_DATA: Final = 0x04
#: PS3.8 Table 9-26: an A-ABORT of the service-user.
A_ABORT: Final = bytes.fromhex("07 00 00 00 00 04 00 00 00 00")
#: PS3.8 A.2.1.
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
PDU_BYTES: Final = 16384
ECHO_CONTEXT: Final = 1
IMAGE_CONTEXT: Final = 3
#: SO_LINGER with no time: close(2) sends RST (socket(7)).
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
#: Only so that a daemon that hangs fails the run.
PATIENCE_SECONDS: Final = 120


class Moment(StrEnum):
    """How far an association comes."""

    CONNECTED = "connected, not a word said"
    #: The daemon itself hangs up, when `dicom.acse_timeout_seconds` are over.
    SILENT = "connected, silent until the daemon hangs up"
    ACCEPTED = "A-ASSOCIATE-AC read"
    ECHOED = "C-ECHO answered"
    BETWEEN_PDUS = "half of the data set's P-DATA-TF PDUs sent"
    WITHIN_PDU = "half of a P-DATA-TF PDU of the data set sent"


class Ending(StrEnum):
    """How it is broken off."""

    ABORT = "A-ABORT"
    CLOSE = "connection closed"
    RESET = "connection reset"


#: Every pair that makes sense: an A-ABORT within a PDU would be read as a part of it, and who hangs up is us or them.
BREAKS: Final = tuple(
    (moment, ending)
    for moment, ending in product(Moment, Ending)
    if (moment, ending) != (Moment.WITHIN_PDU, Ending.ABORT) and moment is not Moment.SILENT
)
#: One in so many is silent: each takes a sender, and one of the daemon's associations, for half a minute.
SILENT_EVERY: Final = 100


class RejectedError(Exception):
    """The daemon did not take the association."""


@dataclass(frozen=True, kw_only=True)
class BadAssociation:
    """One association that will be broken off."""

    moment: Moment
    ending: Ending
    #: Never sent as a whole.
    image: Dataset
    port: int

    @classmethod
    def numbered(cls, number: int, image: Dataset, port: int) -> "BadAssociation":
        """Give the one whose turn it is."""
        silent = number % SILENT_EVERY == SILENT_EVERY // 2
        moment, ending = (Moment.SILENT, Ending.CLOSE) if silent else BREAKS[number % len(BREAKS)]
        return cls(moment=moment, ending=ending, image=image, port=port)

    def run(self) -> None:
        """Connect, come as far as `moment`, and break off. The daemon may hang up first: that is its right.

        Raises:
            RejectedError: it did not come that far.
        """
        with _connection(self.port) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if self.moment is Moment.SILENT:
                _read_to_end(connection)
                return
            if self.moment is not Moment.CONNECTED:
                connection.sendall(_request(self.image.SOPClassUID))
                _read_pdu(connection, A_ASSOCIATE_AC)
            self._speak(connection)
            if self.ending is Ending.ABORT:
                connection.sendall(A_ABORT)
            elif self.ending is Ending.RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)

    def _speak(self, connection: socket.socket) -> None:
        if self.moment is Moment.ECHOED:
            connection.sendall(b"".join(_echo()))
            _read_pdu(connection, P_DATA)
        elif self.moment is Moment.BETWEEN_PDUS:
            pdus = list(_store(self.image))
            connection.sendall(b"".join(pdus[: len(pdus) // 2]))
        elif self.moment is Moment.WITHIN_PDU:
            command, first, *_ = _store(self.image)
            connection.sendall(command + first[: len(first) // 2])


def _connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)


def _request(sop_class: UID) -> bytes:
    """An A-ASSOCIATE-RQ for C-ECHO and for an image of that class (PS3.8 9.3.2)."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT
    primitive.calling_ae_title, primitive.called_ae_title = "BADMODALITY", "CXRTRIAGE"
    verification, image = build_context(Verification), build_context(sop_class, ExplicitVRLittleEndian)
    verification.context_id, image.context_id = ECHO_CONTEXT, IMAGE_CONTEXT
    primitive.presentation_context_definition_list = [verification, image]
    largest, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    largest.maximum_length_received = PDU_BYTES
    implementation.implementation_class_uid = UID("2.25.1")
    primitive.user_information = [largest, implementation]
    return A_ASSOCIATE_RQ(primitive).encode()


def _echo() -> Iterator[bytes]:
    request = C_ECHO()
    request.MessageID = 1
    request.AffectedSOPClassUID = Verification
    message = C_ECHO_RQ()
    message.primitive_to_message(request)
    return _pdus(message, ECHO_CONTEXT)


def _store(image: Dataset) -> Iterator[bytes]:
    """The command, and then the data set in pieces."""
    encoded = encode(image, is_implicit_vr=False, is_little_endian=True)
    assert encoded is not None
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = image.SOPClassUID
    request.AffectedSOPInstanceUID = image.SOPInstanceUID
    request.Priority = 2
    request.DataSet = BytesIO(encoded)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    return _pdus(message, IMAGE_CONTEXT)


def _pdus(message: DIMSEMessage, context: int) -> Iterator[bytes]:
    return (P_DATA_TF(piece).encode() for piece in message.encode_msg(context, PDU_BYTES))


def _read_pdu(connection: socket.socket, kind: int) -> None:
    """Read one PDU, which must be of that type (PS3.8 9.3.1)."""
    head = _read(connection, 6)
    if head[0] == A_ASSOCIATE_RJ:
        raise RejectedError
    assert head[0] == kind, f"PDU of type {head[0]:#04x} in place of {kind:#04x}"
    _read(connection, int.from_bytes(head[2:], "big"))


def _read(connection: socket.socket, count: int) -> bytes:
    read = b""
    while len(read) < count:
        piece = connection.recv(count - len(read))
        if not piece:
            raise ConnectionResetError
        read += piece
    return read


def _read_to_end(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass
