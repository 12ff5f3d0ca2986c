"""Chapter 4.2.2: the application entity that calls PACS, and modalities that asked."""

from typing import Final

from cxr_triage.daemon.commitment.asking import BATCH as REQUEST_BATCH
from cxr_triage.daemon.commitment.messages import RESOURCE_LIMITATION, SOP_INSTANCE, SUCCESS
from cxr_triage.daemon.conformance import negotiation
from cxr_triage.daemon.conformance.markdown import status, table, text
from cxr_triage.daemon.conformance.negotiation import contexts_table
from cxr_triage.daemon.conformance.policies import initiator_policies
from cxr_triage.daemon.deliver import BATCH
from cxr_triage.daemon.dicom_client import STORE_STATUSES, Outcome
from cxr_triage.storage.commitment_records import DUPLICATE_TRANSACTION_UID

_DONE: Final = {
    Outcome.STORED: "stored",
    Outcome.LATER: "tried again, up to `deliver.give_up_after_hours`",
    Outcome.REFUSED: "offered `deliver.maximum_refusals` times, then given up (`dead`)",
}


def sender() -> str:
    """The chapter."""
    return text(
        "sender",
        policies=initiator_policies(),
        batch=BATCH,
        sent=contexts_table(negotiation.sent()),
        store_statuses=_store_statuses_table(),
        refused=_DONE[Outcome.REFUSED],
        later=_DONE[Outcome.LATER],
        asking=contexts_table(negotiation.asking()),
        instance=SOP_INSTANCE,
        request_batch=REQUEST_BATCH,
        success=status(SUCCESS),
        resources=status(RESOURCE_LIMITATION),
        duplicate=DUPLICATE_TRANSACTION_UID,
        telling=contexts_table(negotiation.telling()),
    )


def _store_statuses_table() -> str:
    rows = [(each.written, each.meaning, _done(each.outcome, each.written)) for each in STORE_STATUSES]
    return table(("status that we get", "meaning", "what we do"), rows)


def _done(outcome: Outcome, written: str) -> str:
    """A warning is written down; of success there is nothing to say."""
    warned = outcome is Outcome.STORED and written != status(SUCCESS)
    return f"{_DONE[outcome]}; the log has the status" if warned else _DONE[outcome]
