"""The Storage SCP that modalities push to: durable first, answer second (PS3.4 Annex B)."""

import hashlib
import re
import socket
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Final

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)
from pynetdicom import build_context, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

from cxr_triage.daemon.answers import Answered
from cxr_triage.daemon.commitment.port import CommitmentPort, commitment_port
from cxr_triage.daemon.dicom_server import VERIFICATION, DicomServer, Limits
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.roles import INFER
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.sockets import listening_socket
from cxr_triage.daemon.wakeup import ring
from cxr_triage.model.codecs import READABLE_TRANSFER_SYNTAXES
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import open_database
from cxr_triage.storage.image_records import Receipt, ReceivedInstance, StoredFile
from cxr_triage.storage.inbox import Inbox
from cxr_triage.storage.ledger import Intake
from cxr_triage.storage.service_clock import ServiceClock
from cxr_triage.storage.space import LowWater

log = get_logger(__name__)

#: Within the run folder: the associations of all receivers are counted in it.
PLACES_FILE: Final = "dicom.places"

#: What we take. Our own results are SR and SEG: a router that sends them back finds no context for them.
ACCEPTED_SOP_CLASSES: Final = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)

#: PS3.7 C.1.1.
SUCCESS: Final = 0x0000
#: PS3.4 Table B.2-1, "Refused: Out of Resources" (A7xx).
OUT_OF_RESOURCES: Final = 0xA700
#: PS3.4 Table B.2-1, "Error: Data Set does not match SOP Class" (A9xx).
DATA_SET_DOES_NOT_MATCH: Final = 0xA900
#: PS3.4 Table B.2-1, "Error: Cannot understand" (Cxxx).
CANNOT_UNDERSTAND: Final = 0xC000
#: All that a C-STORE is answered with.
ANSWERS: Final = {
    SUCCESS: Answered(
        "Success", "file and row are durably on disk; also for the same bytes sent again", "be content: it may forget"
    ),
    OUT_OF_RESOURCES: Answered(
        "Refused: Out of Resources",
        "disk or database refused, or less than `storage.minimum_free_megabytes` would stay free",
        "send it again later",
    ),
    DATA_SET_DOES_NOT_MATCH: Answered(
        "Error: Data Set does not match SOP Class",
        "the data set is of another instance or class than the command, or the class not that of the presentation "
        "context",
        "correct it",
    ),
    CANNOT_UNDERSTAND: Answered(
        "Error: Cannot understand",
        "not encoded in the agreed transfer syntax, or without valid SOP Class and SOP Instance UIDs",
        "correct it",
    ),
}

#: PS3.5 9.1, but for leading zeros, which real devices write and which harm nobody.
_UID_PATTERN: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH: Final = 64
#: SOP Class UID (0008,0016) and SOP Instance UID (0008,0018) stand within the first elements of a data set.
_SOP_CLASS_UID: Final = BaseTag(0x00080016)
_SOP_INSTANCE_UID: Final = BaseTag(0x00080018)
_DEFLATED_HEAD_BYTES: Final = 65536


@dataclass(frozen=True, kw_only=True, slots=True)
class Incoming:
    """One C-STORE request, its data set encoded as it came."""

    #: Affected SOP Class UID (0000,0002) and Affected SOP Instance UID (0000,1000) of the command.
    sop_class_uid: str
    sop_instance_uid: str
    #: What the presentation context was agreed for.
    abstract_syntax_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    called_ae_title: str
    encoded: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the sender is told."""

    #: Status (0000,0900): one of ANSWERS.
    status: int
    #: Error Comment (0000,0902), at most 64 characters; empty with success.
    comment: str = ""

    def __post_init__(self) -> None:
        assert self.status in ANSWERS

    def as_dataset(self) -> Dataset:
        """The answer as elements of the C-STORE response."""
        elements = Dataset()
        elements.Status = self.status
        if self.comment:
            elements.ErrorComment = self.comment
        return elements


class Receiver:
    """Stores what comes in; several associations call it at the same time."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        intake: Intake,
        low_water: LowWater,
        on_received: Callable[[], None],
        clock: Clock = utc_now,
    ) -> None:
        self._inbox = inbox
        self._intake = intake
        self._low_water = low_water
        self._on_received = on_received
        self._clock = clock

    def take(self, incoming: Incoming) -> Answer:
        """Store one instance. Success means: the bytes and the row have reached the disk."""
        answer = refusal(incoming)
        if answer is not None:
            log.warning("image refused", reason=answer.comment, calling_ae_title=incoming.calling_ae_title)
            return answer
        try:
            receipt = self._store(incoming)
        except StorageError as error:
            log.exception("image not stored", sop_instance_uid=incoming.sop_instance_uid, exc_info=error)
            return Answer(status=OUT_OF_RESOURCES, comment="The image could not be stored: send it again")
        if receipt is not Receipt.SAME_BYTES:
            self._on_received()
        return Answer(status=SUCCESS)

    def _store(self, incoming: Incoming) -> Receipt:
        """Durably keep the bytes, then the row.

        A resend is answered from the ledger, if its file is still there. Asking the ledger first also means that
        without a database nothing is written: the disk would fill with files that no row knows.
        """
        digest = hashlib.sha256(incoming.encoded).hexdigest()
        known = self._intake.known(incoming.sop_instance_uid, digest)
        lost = self._inbox.lost(known)
        if known and not lost:
            log.info("image received again", sop_instance_uid=incoming.sop_instance_uid)
            return Receipt.SAME_BYTES
        self._low_water.require(len(incoming.encoded))
        with self._inbox.storing(
            incoming.encoded, sop_instance_uid=incoming.sop_instance_uid, meta=part_10_head(incoming)
        ) as file:
            instance = received_instance(incoming, file, received_at=self._clock())
            # Should this fail, the file stays: a commit whose answer got lost may have happened, and then the row
            # needs it. Upkeep sees to files that no row knows.
            receipt = self._intake.record_received(instance, lost=lost)
        log.info("image received", receipt=receipt, **instance.log_context())
        if receipt is Receipt.SAME_BYTES:
            self._inbox.discard(file.path)
        return receipt


class ReceiveRole:
    """The receiver as a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop` is set, then drain."""
        settings = self._settings
        listener = listening_socket(settings.dicom.host, settings.dicom.port, name="dicom")
        database = open_database(settings.database_url)
        clock = ServiceClock.of(settings.run_folder)
        inbox = Inbox(settings.inbox_folder, clock=clock)
        inbox.remove_incomplete()
        receiver = Receiver(
            inbox=inbox,
            intake=Intake(database),
            low_water=settings.low_water(),
            on_received=lambda: ring(settings.run_folder, INFER),
            clock=clock,
        )
        try:
            with commitment_port(settings, database) as commitment:
                receiving_server(
                    receiver,
                    listener=listener,
                    ae_title=settings.dicom.ae_title,
                    limits=_limits(settings),
                    allowed_ae_titles=settings.dicom.allowed_ae_titles,
                    require_called_ae_title=settings.dicom.require_called_ae_title,
                    commitment=commitment,
                ).serve(stop, ready)
        finally:
            database.close()


def receiving_server(
    receiver: Receiver,
    *,
    listener: socket.socket,
    ae_title: str,
    limits: Limits,
    allowed_ae_titles: tuple[str, ...] = (),
    require_called_ae_title: bool = False,
    commitment: CommitmentPort | None = None,
) -> DicomServer:
    """Put a receiver behind a listening socket: Storage and Verification as SCP, and Storage Commitment if wanted."""
    return DicomServer(
        ae_title=ae_title,
        listener=listener,
        contexts=storage_contexts(),
        handlers=[(evt.EVT_C_STORE, _answer_store, [receiver]), *(commitment.handlers if commitment else ())],
        limits=limits,
        allowed_ae_titles=commitment.calling_ae_titles if commitment else allowed_ae_titles,
        require_called_ae_title=require_called_ae_title,
    )


def storage_contexts() -> list[PresentationContext]:
    """Every image class in every transfer syntax that can be decoded; the first that a sender offers too is taken."""
    syntaxes = list(READABLE_TRANSFER_SYNTAXES)
    return [build_context(VERIFICATION), *(build_context(uid, syntaxes) for uid in ACCEPTED_SOP_CLASSES)]


def refusal(incoming: Incoming) -> Answer | None:
    """Say what is wrong with a request, as far as its first elements tell; None: nothing."""
    if not is_uid(incoming.sop_instance_uid):
        return Answer(status=CANNOT_UNDERSTAND, comment="Affected SOP Instance UID is not a UID")
    if incoming.sop_class_uid != incoming.abstract_syntax_uid:
        return Answer(status=DATA_SET_DOES_NOT_MATCH, comment="SOP class is not that of the presentation context")
    declared = declared_uids(incoming.encoded, UID(incoming.transfer_syntax_uid))
    if declared is None:
        return Answer(status=CANNOT_UNDERSTAND, comment="Data set is not encoded in the agreed transfer syntax")
    if not all(is_uid(uid) for uid in declared):
        return Answer(status=CANNOT_UNDERSTAND, comment="Data set has no valid SOP Class or SOP Instance UID")
    if declared != (incoming.sop_class_uid, incoming.sop_instance_uid):
        return Answer(status=DATA_SET_DOES_NOT_MATCH, comment="Data set is of another SOP instance than the command")
    return None


def is_uid(text: str) -> bool:
    """Whether a text can serve as a UID (PS3.5 9.1)."""
    return len(text) <= _UID_LENGTH and _UID_PATTERN.fullmatch(text) is not None


def declared_uids(encoded: bytes, transfer_syntax: UID) -> tuple[str, str] | None:
    """Read SOP Class UID and SOP Instance UID from a data set's first elements.

    Returns:
        Both, "" for one that is missing; None when the bytes are no data set in that transfer syntax.
    """
    head = BytesIO(_inflated_head(encoded) if transfer_syntax.is_deflated else encoded)
    try:
        elements = read_dataset(
            head,
            transfer_syntax.is_implicit_VR,
            transfer_syntax.is_little_endian,
            stop_when=lambda tag, _vr, _length: tag > _SOP_INSTANCE_UID,
            specific_tags=[_SOP_CLASS_UID, _SOP_INSTANCE_UID],
        )
        return str(elements.get("SOPClassUID") or ""), str(elements.get("SOPInstanceUID") or "")
    except Exception:  # noqa: BLE001 - whatever pydicom raises on hostile bytes (struct, key, recursion errors)
        return None


def received_instance(incoming: Incoming, file: StoredFile, *, received_at: datetime) -> ReceivedInstance:
    """What the ledger is told of a request whose data set is on disk."""
    return ReceivedInstance(
        sop_instance_uid=incoming.sop_instance_uid,
        sop_class_uid=incoming.sop_class_uid,
        transfer_syntax_uid=incoming.transfer_syntax_uid,
        calling_ae_title=incoming.calling_ae_title,
        called_ae_title=incoming.called_ae_title,
        path=file.path,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        received_at=received_at,
    )


def part_10_head(incoming: Incoming) -> bytes:
    """Preamble, prefix and file meta information for a data set, with both AE titles (PS3.10 Table 7.1-1)."""
    meta = create_file_meta(
        sop_class_uid=UID(incoming.sop_class_uid),
        sop_instance_uid=UID(incoming.sop_instance_uid),
        transfer_syntax=UID(incoming.transfer_syntax_uid),
    )
    meta.SendingApplicationEntityTitle = incoming.calling_ae_title
    meta.ReceivingApplicationEntityTitle = incoming.called_ae_title
    return bytes(128) + b"DICM" + encode_file_meta(meta)


def _inflated_head(encoded: bytes) -> bytes:
    """The first bytes of a deflated data set, PS3.5 A.5: never all of it, which may be a thousand times larger."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, _DEFLATED_HEAD_BYTES)
    except zlib.error:
        return b""


def _answer_store(event: Event, receiver: Receiver) -> Dataset:
    return receiver.take(_incoming(event)).as_dataset()


def _incoming(event: Event) -> Incoming:
    request = event.request
    requestor = event.assoc.requestor
    assert isinstance(request, C_STORE)
    assert requestor.primitive is not None
    return Incoming(
        sop_class_uid=str(request.AffectedSOPClassUID or ""),
        sop_instance_uid=str(request.AffectedSOPInstanceUID or ""),
        abstract_syntax_uid=str(event.context.abstract_syntax),
        transfer_syntax_uid=str(event.context.transfer_syntax),
        calling_ae_title=requestor.primitive.calling_ae_title,
        called_ae_title=requestor.primitive.called_ae_title,
        encoded=event.encoded_dataset(include_meta=False),
    )


def _limits(settings: Settings) -> Limits:
    dicom = settings.dicom
    return Limits(
        maximum_associations=dicom.maximum_associations,
        places_file=settings.run_folder / PLACES_FILE,
        maximum_pdu_bytes=dicom.maximum_pdu_bytes,
        acse_timeout_seconds=dicom.acse_timeout_seconds,
        dimse_timeout_seconds=dicom.dimse_timeout_seconds,
        network_timeout_seconds=dicom.network_timeout_seconds,
        drain_seconds=settings.service.drain_seconds / 2,
    )
