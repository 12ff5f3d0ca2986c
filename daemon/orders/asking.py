"""Modality Worklist as SCU: a RIS is asked about one study (PS3.4 Annex K)."""

import time
from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from cxr_triage.daemon.dicom_client import Peer, connected, verify
from cxr_triage.daemon.dicom_server import VERIFICATION
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.orders.questions import orders, questions
from cxr_triage.daemon.results.uids import IMPLEMENTATION_CLASS_UID
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.worklist.c_find import (
    MODALITY_WORKLIST_FIND,
    OUT_OF_RESOURCES,
    PENDING,
    PENDING_WITHOUT_SOME_KEYS,
    SUCCESS,
    TRANSFER_SYNTAXES,
)
from cxr_triage.model.errors import OutOfResourcesError, RefusedError, UnreachableError
from cxr_triage.storage.clock import Clock
from cxr_triage.storage.order_records import Identity, Order

log = get_logger(__name__)

#: Each comes with an entry.
_ANSWERS: Final = (PENDING, PENDING_WITHOUT_SOME_KEYS)
#: Entries read of one answer: a study has a few; a RIS that sends its whole list does not match by this key.
MAXIMUM_ENTRIES: Final = 200


def ask(peer: Peer, about: Identity, clock: Clock) -> list[Order]:
    """Ask a RIS what was ordered for a study; empty: it does not say.

    Raises:
        UnreachableError: it gave no answer, or one that may be another one later.
        RefusedError: it does not answer such questions, or is this service itself.
    """
    refusal: RefusedError | None = None
    for question in questions(about):
        try:
            found = orders(_find(peer, question), about, ris=peer.ae_title, at=clock())
        except RefusedError as error:
            # It may not take the one key, and take the other.
            refusal = error
            continue
        if found:
            return found
        refusal = None
    if refusal is not None:
        raise refusal
    return []


def ris(settings: Settings) -> Peer:
    """Give the RIS that the settings name."""
    named, deliver = settings.ris, settings.deliver
    assert named.host is not None
    assert named.port is not None
    assert named.ae_title is not None
    return Peer(
        calling_ae_title=named.calling_ae_title or settings.dicom.ae_title,
        ae_title=named.ae_title,
        host=named.host,
        port=named.port,
        acse_timeout_seconds=deliver.acse_timeout_seconds,
        dimse_timeout_seconds=deliver.dimse_timeout_seconds,
        network_timeout_seconds=deliver.network_timeout_seconds,
    )


def verify_ris(peer: Peer) -> None:
    """Look whether a RIS answers C-ECHO and offers its modality worklist, and is not this service itself.

    Raises:
        UnreachableError: no association.
        RefusedError: an association, but not for this.
    """
    with connected(peer, query_contexts()) as association:
        _require_another(association, peer)
        _require_offer(association, peer)
    verify(peer)


def query_contexts() -> list[PresentationContext]:
    """Verification beside it, which every application has: so an association says what is not offered."""
    return [build_context(VERIFICATION), build_context(MODALITY_WORKLIST_FIND, list(TRANSFER_SYNTAXES))]


def _find(peer: Peer, question: Dataset) -> list[Dataset]:
    with connected(peer, query_contexts()) as association:
        _require_another(association, peer)
        _require_offer(association, peer)
        return list(_entries(association, question, peer))


def _entries(association: Association, question: Dataset, peer: Peer) -> Iterator[Dataset]:
    """Read entries as they come, for so long and so many only; what cannot be decoded is left out."""
    until = time.monotonic() + peer.dimse_timeout_seconds
    count = 0
    for status, entry in _answers(association, question, peer):
        if "Status" not in status:
            raise UnreachableError(f"{peer} gave no answer to C-FIND")
        if status.Status in _ANSWERS:
            count += 1
            if entry is not None:
                yield entry
            if count >= MAXIMUM_ENTRIES:
                log.warning("RIS answers with too much: it does not match by this key", peer=str(peer), entries=count)
                association.abort()
                return
            if time.monotonic() > until:
                association.abort()
                raise UnreachableError(f"{peer} did not come to the end of its answer to C-FIND")
        elif status.Status == OUT_OF_RESOURCES:
            raise OutOfResourcesError(f"{peer} is out of resources (status 0x{status.Status:04X})")
        elif status.Status != SUCCESS:
            raise RefusedError(f"{peer} answered C-FIND with status 0x{status.Status:04X}")


def _answers(association: Association, question: Dataset, peer: Peer) -> Iterator[tuple[Dataset, Dataset | None]]:
    try:
        return association.send_c_find(question, MODALITY_WORKLIST_FIND)
    except RuntimeError as error:
        # pynetdicom's word for an association that ended between our look and its own.
        raise UnreachableError(f"{peer} ended the association before it was asked") from error


def _require_another(association: Association, peer: Peer) -> None:
    """Insist that a RIS is not this product: its list is made from orders and findings, and must not become orders."""
    # PS3.7 D.3.3.2: Implementation Class UID, in the user information of the association.
    if association.acceptor.implementation_class_uid == IMPLEMENTATION_CLASS_UID:
        raise RefusedError(
            f"{peer} is cxr-triage itself, and its list must not come back to it as orders: name the RIS in [ris]"
        )


def _require_offer(association: Association, peer: Peer) -> None:
    if not any(context.abstract_syntax == MODALITY_WORKLIST_FIND for context in association.accepted_contexts):
        raise RefusedError(f"{peer} does not offer a modality worklist: have it switched on there, or correct [ris]")
