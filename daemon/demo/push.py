"""The demo's modality: sends files by C-STORE, compressed as they are stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.association import Association

from cxr_triage.model.errors import TriageError

AE_TITLE: Final = "DEMOMODALITY"
#: PS3.7 Annex C, C.1.1.
SUCCESS: Final = 0x0000


@dataclass(frozen=True, kw_only=True, slots=True)
class PushedFile:
    """One file that was offered to the daemon, and what the daemon answered."""

    path: Path
    sop_instance_uid: str
    study_instance_uid: str
    #: When its C-STORE began, UTC.
    started_at: datetime
    acknowledged: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Offer:
    path: Path
    sop_class_uid: UID
    transfer_syntax_uid: UID
    sop_instance_uid: str
    study_instance_uid: str


def push(
    files: Sequence[Path], *, port: int, called_ae_title: str, progress: Callable[[PushedFile], None]
) -> list[PushedFile]:
    """Send files over one association on loopback, in the given order.

    Raises:
        TriageError: The daemon does not accept the association.
    """
    offers = [_offer(path) for path in files]
    association = _associate(offers, port, called_ae_title)
    pushed = []
    try:
        for offer in offers:
            pushed.append(_send(association, offer))
            progress(pushed[-1])
    finally:
        association.release()
    return pushed


def study_instance_uid(path: Path) -> str:
    """Which study a file belongs to."""
    return _offer(path).study_instance_uid


def _offer(path: Path) -> _Offer:
    ds = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"], stop_before_pixels=True)
    return _Offer(
        path=path,
        sop_class_uid=ds.SOPClassUID,
        transfer_syntax_uid=ds.file_meta.TransferSyntaxUID,
        sop_instance_uid=str(ds.SOPInstanceUID),
        study_instance_uid=str(ds.StudyInstanceUID),
    )


def _associate(offers: Sequence[_Offer], port: int, called_ae_title: str) -> Association:
    ae = AE(ae_title=AE_TITLE)
    # One context per pair: with several syntaxes in one, the acceptor picks, and may pick another one (PS3.8 7.1.1.13).
    for sop_class, syntax in dict.fromkeys((offer.sop_class_uid, offer.transfer_syntax_uid) for offer in offers):
        ae.add_requested_context(sop_class, syntax)
    association = ae.associate("127.0.0.1", port, ae_title=called_ae_title)
    if not association.is_established:
        raise TriageError(f"no association with {called_ae_title} on 127.0.0.1:{port}: read the service's log")
    return association


def _send(association: Association, offer: _Offer) -> PushedFile:
    started_at = datetime.now(UTC)
    status = association.send_c_store(offer.path)
    return PushedFile(
        path=offer.path,
        sop_instance_uid=offer.sop_instance_uid,
        study_instance_uid=offer.study_instance_uid,
        started_at=started_at,
        acknowledged=status.get("Status") == SUCCESS,
    )
