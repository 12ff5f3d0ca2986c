"""What a destination is asked by DICOM: a C-ECHO, or to store a finished file as it lies on disk."""

import hashlib
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
)
from pynetdicom import AE, _config, build_context
from pynetdicom.association import Association
from pynetdicom.dsutils import split_dataset
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from cxr_triage.daemon import dicom_server
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.results.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from cxr_triage.daemon.setting_peers import Destination, Modality, UpsSubscriber
from cxr_triage.daemon.settings import Settings
from cxr_triage.model.errors import (
    DeclinedError,
    NotTakenError,
    OutOfResourcesError,
    RefusedError,
    ResultError,
    UnreachableError,
)

log = get_logger(__name__)

# Send the bytes of the file; otherwise they would be decoded and encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True

#: PS3.7 C.1.1.
SUCCESS = 0x0000
#: PS3.7 C.5.5: an object of this UID is there. Ours derive from content, so it is this one, sent before.
DUPLICATE_SOP_INSTANCE: Final = 0x0111
DUPLICATE_REJECTION_NOTE: Final = 0xA770
#: Largest P-DATA-TF PDU that we take on associations of ours (PS3.8 D.1): answers are small.
MAXIMUM_PDU_BYTES: Final = 16382


class Outcome(StrEnum):
    """What a C-STORE status means to us."""

    #: The destination has the object.
    STORED = "stored"
    #: Nothing against the object: it is tried again for as long as we have patience.
    LATER = "later"
    #: The destination does not support the class of the object: another one may go in its place.
    NOT_TAKEN = "not taken"
    #: About the object, or about what we may do: it would be the same tomorrow.
    REFUSED = "refused"


class StoreStatus(NamedTuple):
    """Statuses of a C-STORE response that mean the same to us."""

    statuses: Container[int]
    #: As a reader finds them in the standard.
    written: str
    meaning: str
    outcome: Outcome


#: PS3.4 Table B.2-1, PS3.7 9.1.1.1.9 and Annex C; the first that has a status decides.
STORE_STATUSES: Final = (
    StoreStatus({SUCCESS}, "0x0000", "Success", Outcome.STORED),
    StoreStatus(
        {0x0001, 0x0107, 0x0116},
        "0x0001, 0x0107, 0x0116",
        "Warning: requested optional attributes not supported, attribute list error, attribute value out of range",
        Outcome.STORED,
    ),
    StoreStatus(
        range(0xB000, 0xC000),
        "0xBxxx",
        "Warning: coercion (B000), elements discarded (B006), data set does not match SOP class (B007), others",
        Outcome.STORED,
    ),
    StoreStatus({DUPLICATE_SOP_INSTANCE}, "0x0111", "Duplicate SOP Instance", Outcome.STORED),
    StoreStatus(range(0xA700, 0xA800), "0xA7xx", "Refused: Out of Resources", Outcome.LATER),
    # A general failure, as when the database behind a PACS is down.
    StoreStatus({0x0110}, "0x0110", "Processing Failure", Outcome.LATER),
    StoreStatus({0x0213}, "0x0213", "Resource Limitation", Outcome.LATER),
    StoreStatus(range(0xA900, 0xAA00), "0xA9xx", "Error: Data Set does not match SOP Class", Outcome.REFUSED),
    StoreStatus(range(0xC000, 0xD000), "0xCxxx", "Error: Cannot understand", Outcome.REFUSED),
    StoreStatus({0x0122}, "0x0122", "Refused: SOP Class Not Supported", Outcome.NOT_TAKEN),
    StoreStatus(
        {0x0117, 0x0124, 0x0210, 0x0211, 0x0212},
        "0x0117, 0x0124, 0x0210, 0x0211, 0x0212",
        "Invalid Object Instance, Not Authorized, Duplicate Invocation, Unrecognized Operation, Mistyped Argument",
        Outcome.REFUSED,
    ),
    StoreStatus(range(0x10000), "any other", "unknown to us", Outcome.REFUSED),
)
#: What dcm4chee answers to a Key Object Selection where it acts on it as a rejection note (its StoreService.java), by
#: numbers that are "out of resources" in the standard: one note is not to have the whole destination left alone.
NOTE_STATUSES: Final = (
    StoreStatus({DUPLICATE_REJECTION_NOTE}, "0xA770", "Duplicate rejection note", Outcome.STORED),
    StoreStatus(
        range(0xA771, 0xA775),
        "0xA771 to 0xA774",
        "Note about an instance that is not there, is of another class, or was rejected before",
        Outcome.REFUSED,
    ),
)
#: Results of a presentation context (PS3.8 Table 9-18) that say what the peer can. The others, user rejection (1) and
#: no reason (2), may be a decision of the moment, and some software answers so for whatever it does not know.
UNSUPPORTED: Final = {3: "abstract syntax not supported", 4: "transfer syntaxes not supported"}
DECLINED: Final = {1: "user rejection", 2: "no reason given"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """Another DICOM application, and how long we wait for it."""

    #: Ours.
    calling_ae_title: str
    #: Its.
    ae_title: str
    host: str
    port: int
    #: Longest wait for the connection, and within association set-up, seconds.
    acse_timeout_seconds: float = 10
    #: Longest wait for an answer, seconds.
    dimse_timeout_seconds: float = 60
    #: Longest silence, seconds.
    network_timeout_seconds: float = 60

    def __str__(self) -> str:
        """Name it for messages."""
        return f"{self.ae_title} at {self.host} port {self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part10File:
    """A finished DICOM file, by its file meta information (PS3.10 section 7.1)."""

    path: Path
    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID

    @classmethod
    def read(cls, path: Path) -> "Part10File":
        """Look at the head of a file.

        Raises:
            OSError: the file cannot be read.
            ResultError: it is no DICOM file.
        """
        try:
            meta = read_file_meta_info(path)
            return cls(
                path=path,
                sop_class_uid=meta.MediaStorageSOPClassUID,
                sop_instance_uid=meta.MediaStorageSOPInstanceUID,
                transfer_syntax_uid=meta.TransferSyntaxUID,
            )
        except OSError:
            raise
        # A disk may give back anything, and pydicom fails at it in as many ways.
        except Exception as error:
            raise ResultError(f"it is no DICOM file ({type(error).__name__})") from error

    def holds(self, *, sop_class_uid: str, sop_instance_uid: str, sha256: str) -> bool:
        """Whether `store` would send this: an instance, and the SHA-256 of its data set.

        Raises:
            OSError: the file cannot be read.
        """
        meta, offset = split_dataset(self.path)
        with self.path.open("rb") as file:
            file.seek(offset)
            found = hashlib.file_digest(file, "sha256").hexdigest()
        told = (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID)
        return (*told, found) == (sop_class_uid, sop_instance_uid, sha256)


def peer(address: Destination | Modality | UpsSubscriber, settings: Settings, *, calling_ae_title: str = "") -> Peer:
    """Give the DICOM application behind a table of the configuration; it is called by our AE title, or that one."""
    deliver = settings.deliver
    return Peer(
        calling_ae_title=calling_ae_title or settings.dicom.ae_title,
        ae_title=address.ae_title,
        host=address.host,
        port=address.port,
        acse_timeout_seconds=deliver.acse_timeout_seconds,
        dimse_timeout_seconds=deliver.dimse_timeout_seconds,
        network_timeout_seconds=deliver.network_timeout_seconds,
    )


class NothingAgreedError(UnreachableError):
    """A peer takes no presentation context that it was offered; the association says why."""

    def __init__(self, message: str, association: Association) -> None:
        super().__init__(message)
        self.association = association


class StorageSession:
    """An association on which objects are stored; also one that came to nothing since the peer takes none of them."""

    def __init__(self, association: Association, peer: Peer, *, nothing_agreed: bool = False) -> None:
        self._association = association
        self._peer = peer
        self._nothing_agreed = nothing_agreed

    @property
    def is_open(self) -> bool:
        """Whether there is something to say to another object."""
        return self._nothing_agreed or self._association.is_established

    def store(self, file: Part10File) -> int:
        """Store a file as `store` does."""
        return store(self._association, file, self._peer)


@dataclass(frozen=True, slots=True)
class DicomTransport:
    """A destination that is sent to by C-STORE (PS3.4 Annex B)."""

    peer: Peer

    def verify(self) -> None:
        """Ask for a C-ECHO as `verify` does."""
        verify(self.peer)

    @contextmanager
    def session(self, files: Sequence[Part10File]) -> Iterator[StorageSession]:
        """Hold an association for storing these files.

        Raises:
            UnreachableError: there is none, and why.
        """
        with ExitStack() as held:
            try:
                session = StorageSession(held.enter_context(associated(self.peer, files)), self.peer)
            except NothingAgreedError as error:
                session = StorageSession(error.association, self.peer, nothing_agreed=True)
            yield session


@contextmanager
def associated(peer: Peer, files: Iterable[Part10File] = ()) -> Iterator[Association]:
    """Hold an association for Verification, and for storing these files.

    Each is offered in the transfer syntax that it is in, and an uncompressed one also in the default one (PS3.5 10.1).

    Raises:
        UnreachableError: there is none, and why.
    """
    with connected(peer, _contexts(files)) as association:
        yield association


@contextmanager
def connected(
    peer: Peer,
    contexts: list[PresentationContext],
    *,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[EventHandlerType] = (),
) -> Iterator[Association]:
    """Hold an association for these contexts; what the peer sends on it goes to the handlers.

    Raises:
        UnreachableError: there is none, and why.
    """
    entity = AE(peer.calling_ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = MAXIMUM_PDU_BYTES
    entity.acse_timeout = peer.acse_timeout_seconds
    entity.connection_timeout = peer.acse_timeout_seconds
    entity.dimse_timeout = peer.dimse_timeout_seconds
    entity.network_timeout = peer.network_timeout_seconds
    try:
        association = entity.associate(
            peer.host,
            peer.port,
            contexts=contexts,
            ae_title=peer.ae_title,
            ext_neg=list(roles),
            evt_handlers=[dicom_server.silence_limit(peer.network_timeout_seconds), *handlers],
        )
    except OSError as error:
        raise UnreachableError(f"{peer} has no address: check the host name") from error
    if not association.is_established and _says_what_it_can(association):
        raise NothingAgreedError(f"{peer} took none of the offered presentation contexts", association)
    if not association.is_established:
        raise UnreachableError(_why_not(association, peer))
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def verify(peer: Peer) -> None:
    """Ask for a C-ECHO (PS3.4 Annex A).

    Raises:
        UnreachableError: no association, or no answer.
        RefusedError: an association, but not for this.
    """
    with associated(peer) as association:
        if not association.accepted_contexts:
            raise RefusedError(f"{peer} does not offer Verification: ask its administrator whether it should")
        answer = association.send_c_echo()
    if "Status" not in answer:
        raise UnreachableError(f"{peer} gave no answer to C-ECHO")
    if answer.Status != SUCCESS:
        raise RefusedError(f"{peer} answered C-ECHO with status 0x{answer.Status:04X}")


def store(association: Association, file: Part10File, peer: Peer) -> int:
    """Send a file's data set, and wait for the answer: byte by byte as it is, unless the peer takes only Implicit VR.

    Returns:
        The status under which it was stored: success or a warning.

    Raises:
        UnreachableError: no answer, or (OutOfResourcesError) one that may be another one later.
        RefusedError: the destination does not take it: not its class (NotTakenError, DeclinedError), or not this one.
        ResultError: the file cannot be read; the association is ended.
    """
    agreed = _agreed(association, file, peer)
    if not association.is_established:
        raise UnreachableError(f"{peer} ended the association before the object was sent")
    if agreed != file.transfer_syntax_uid:
        log.info("object encoded anew", transfer_syntax=agreed.name, sop_class=file.sop_class_uid.name, peer=str(peer))
    try:
        # Of a data set that was read, pynetdicom writes what the context asks for.
        answer = association.send_c_store(file.path if agreed == file.transfer_syntax_uid else dcmread(file.path))
    except RuntimeError as error:
        # pynetdicom's word for an association that ended between our look and its own.
        raise UnreachableError(f"{peer} ended the association before the object was sent") from error
    except OSError as error:
        association.abort()
        raise ResultError(f"{file.path.name} cannot be read ({error.strerror})") from error
    if "Status" not in answer:
        raise UnreachableError(f"{peer} gave no answer to C-STORE")
    status = int(answer.Status)
    outcome = outcome_of(status, file.sop_class_uid)
    if outcome is Outcome.STORED:
        return status
    if outcome is Outcome.LATER:
        raise OutOfResourcesError(f"{peer} cannot store now (status 0x{status:04X})")
    if outcome is Outcome.NOT_TAKEN:
        raise NotTakenError(f"{peer} answered C-STORE with status 0x{status:04X} (SOP class not supported)")
    raise RefusedError(f"{peer} answered C-STORE with status 0x{status:04X}")


def outcome_of(status: int, sop_class_uid: str = "") -> Outcome:
    """Say what a C-STORE status means to us, given to an object of that class."""
    is_key_object = sop_class_uid == KeyObjectSelectionDocumentStorage
    known: tuple[StoreStatus, ...] = (*NOTE_STATUSES, *STORE_STATUSES) if is_key_object else STORE_STATUSES
    return next(each.outcome for each in known if status in each.statuses)


def _contexts(files: Iterable[Part10File]) -> list[PresentationContext]:
    """One context per class and transfer syntax, so that each file can go as it is where the peer takes that."""
    wanted = dict.fromkeys(
        (file.sop_class_uid, syntax) for file in files for syntax in offered_syntaxes(file.transfer_syntax_uid)
    )
    return [
        build_context(dicom_server.VERIFICATION),
        *(build_context(sop_class, transfer_syntax) for sop_class, transfer_syntax in wanted),
    ]


def offered_syntaxes(own: UID) -> list[UID]:
    """What a file of a transfer syntax may be sent in, each in a presentation context of its own: as it is first."""
    return [own, ImplicitVRLittleEndian] if own == ExplicitVRLittleEndian else [own]


def _agreed(association: Association, file: Part10File, peer: Peer) -> UID:
    """Give the transfer syntax that a file is to be sent in.

    Raises:
        RefusedError: there is none, and why.
    """
    accepted = {(context.abstract_syntax, context.transfer_syntax[0]) for context in association.accepted_contexts}
    for syntax in offered_syntaxes(file.transfer_syntax_uid):
        if (file.sop_class_uid, syntax) in accepted:
            return syntax
    rejected = [each for each in association.rejected_contexts if each.abstract_syntax == file.sop_class_uid]
    results = {each.result for each in rejected if each.result is not None}
    told = f"{peer} does not take {file.sop_class_uid.name}"
    if results and results <= UNSUPPORTED.keys():
        raise NotTakenError(f"{told}: {', '.join(UNSUPPORTED[result] for result in sorted(results))}")
    reasons = [DECLINED[result] for result in sorted(results & DECLINED.keys())]
    raise DeclinedError(f"{told}: {', '.join(reasons) or 'it was not offered'}")


def _says_what_it_can(association: Association) -> bool:
    """Whether a peer that takes no context says so of what it supports.

    One that declines Verification, too, without saying that it does not support it, is not ready for anything: it is
    left alone like one that does not answer.
    """
    rejected = association.rejected_contexts
    declined = any(each.abstract_syntax == dicom_server.VERIFICATION and each.result in DECLINED for each in rejected)
    return bool(rejected) and not declined


def _why_not(association: Association, peer: Peer) -> str:
    # Where the peer rejects at once and closes, pynetdicom takes its connection for one that never was, and leaves the
    # answer unread.
    answer = association.acceptor.primitive or association.dul.peek_next_pdu()
    if isinstance(answer, A_ASSOCIATE) and answer.result:
        return f"{peer} rejected the association ({answer.reason_str}): check the AE titles on both sides"
    if association.rejected_contexts:
        return f"{peer} took none of the offered presentation contexts, Verification included"
    return f"{peer} gave no DICOM answer: check host and port, and that a DICOM service listens there"
