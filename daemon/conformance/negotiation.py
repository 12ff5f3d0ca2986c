"""What is offered and accepted in associations, read from what the services really negotiate with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom.presentation import PresentationContext

from cxr_triage.daemon.commitment.asking import request_contexts
from cxr_triage.daemon.commitment.messages import commitment_context
from cxr_triage.daemon.commitment.reporting import REPORTING_ROLE, report_contexts
from cxr_triage.daemon.conformance.markdown import named, table
from cxr_triage.daemon.dicom_client import offered_syntaxes
from cxr_triage.daemon.orders.asking import query_contexts
from cxr_triage.daemon.receive import storage_contexts
from cxr_triage.daemon.results.finishing import TRANSFER_SYNTAX
from cxr_triage.daemon.results.profiles import SOP_CLASSES
from cxr_triage.daemon.ups.announcing import REPORTING_ROLE as EVENT_ROLE
from cxr_triage.daemon.ups.announcing import event_contexts
from cxr_triage.daemon.ups.port import ups_contexts
from cxr_triage.daemon.worklist.mwl import worklist_contexts

#: How the lists of transfer syntaxes are called, by what they are for.
IMAGES: Final = "images"
GENERAL: Final = "general"
WORKLIST: Final = "worklist"
RESULTS: Final = "results"
DEFAULT: Final = "default"


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A presentation context as a conformance statement has it (PS3.8 9.3.2.2)."""

    abstract_syntax: UID
    transfer_syntaxes: tuple[UID, ...]
    #: Ours: SCU or SCP.
    role: str
    #: What else is negotiated; "None" where nothing is.
    extended: str = "None"


def received() -> list[Offer]:
    """What anybody may propose to the port of images."""
    return _offers(storage_contexts(), "SCP")


def asked() -> list[Offer]:
    """What a modality may propose besides, where storage commitment is on."""
    return _offers([commitment_context()], "SCP")


def reported() -> list[Offer]:
    """What a PACS that we ask may propose besides, to report."""
    negotiated = "SCP/SCU role selection: the requestor as SCP"
    return _offers([commitment_context()], "SCU", negotiated)


def listed() -> list[Offer]:
    """What a station may propose to the worklist."""
    *others, study_root = worklist_contexts(study_root=True)
    extended = "date and time, empty value and multiple value matching"
    return _offers(others, "SCP") + _offers([study_root], "SCP", extended)


def stepped() -> list[Offer]:
    """What a caller may propose to the worklist besides, where procedure steps are on."""
    return _offers(ups_contexts(), "SCP")


def announced() -> list[Offer]:
    """What we propose to a subscriber that is told of events."""
    assert (EVENT_ROLE.scu_role, EVENT_ROLE.scp_role) == (False, True)
    verification, event = event_contexts()
    return _offers([verification], "SCU") + _offers([event], "SCP", "SCP/SCU role selection: we as SCP")


def sent() -> list[Offer]:
    """What we propose to a destination: Verification, and the classes of the objects that are to go."""
    verification = _offers(request_contexts()[:1], "SCU")
    return verification + [
        Offer(abstract_syntax=uid, transfer_syntaxes=(syntax,), role="SCU")
        for uid in SOP_CLASSES.values()
        for syntax in offered_syntaxes(TRANSFER_SYNTAX)
    ]


def asking() -> list[Offer]:
    """What we propose to a destination that is asked for storage commitment."""
    return _offers(request_contexts(), "SCU")


def inquiring() -> list[Offer]:
    """What we propose to the RIS that is asked for orders."""
    return _offers(query_contexts(), "SCU")


def telling() -> list[Offer]:
    """What we propose to a modality that is told what became of its request."""
    assert (REPORTING_ROLE.scu_role, REPORTING_ROLE.scp_role) == (False, True)
    verification, commitment = report_contexts()
    return _offers([verification], "SCU") + _offers([commitment], "SCP", "SCP/SCU role selection: we as SCP")


def contexts_table(offers: Sequence[Offer]) -> str:
    """The table of presentation contexts; transfer syntaxes are named by their list."""
    rows = [
        (named(each.abstract_syntax), each.abstract_syntax, _list_of(each), each.role, each.extended) for each in offers
    ]
    return table(("SOP class", "UID", "transfer syntaxes", "our role", "extended negotiation"), rows)


def transfer_syntaxes_table() -> str:
    """All lists of transfer syntaxes."""
    rows = [(name, named(uid), uid) for uids, name in _lists().items() for uid in uids]
    return table(("list", "transfer syntax", "UID"), rows)


def _offers(contexts: Iterable[PresentationContext], role: str, extended: str = "None") -> list[Offer]:
    return [
        Offer(
            abstract_syntax=UID(str(context.abstract_syntax)),
            transfer_syntaxes=tuple(UID(str(syntax)) for syntax in context.transfer_syntax),
            role=role,
            extended=extended,
        )
        for context in contexts
    ]


def _lists() -> dict[tuple[UID, ...], str]:
    return {
        received()[-1].transfer_syntaxes: IMAGES,
        received()[0].transfer_syntaxes: GENERAL,
        listed()[-1].transfer_syntaxes: WORKLIST,
        (TRANSFER_SYNTAX,): RESULTS,
        (ImplicitVRLittleEndian,): DEFAULT,
    }


def _list_of(offer: Offer) -> str:
    return _lists()[offer.transfer_syntaxes]
