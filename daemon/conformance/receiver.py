"""Chapter 4.2.1: the application entity that modalities and PACS call."""

from collections.abc import Mapping
from typing import Final

from cxr_triage.daemon.answers import Answered
from cxr_triage.daemon.commitment.messages import ACTION_ANSWERS, REPORT_ANSWERS, SOP_INSTANCE
from cxr_triage.daemon.conformance import negotiation
from cxr_triage.daemon.conformance.markdown import status, table, text
from cxr_triage.daemon.conformance.negotiation import contexts_table
from cxr_triage.daemon.conformance.policies import acceptor_policies, rejections
from cxr_triage.daemon.receive import ANSWERS
from cxr_triage.storage import commitment_records as reasons
from cxr_triage.storage.commitment_records import in_words

_REASONS: Final = {
    reasons.NO_SUCH_OBJECT_INSTANCE: "we never acknowledged it, or the PACS did not have it in time",
    reasons.CLASS_INSTANCE_CONFLICT: "acknowledged here under another class, or the PACS says so",
    reasons.DUPLICATE_TRANSACTION_UID: "the transaction UID is in use for other images or by another modality",
    reasons.PROCESSING_FAILURE: "the PACS gave no answer in time",
}


def receiver() -> str:
    """The chapter."""
    return text(
        "receiver",
        policies=acceptor_policies(),
        rejections=rejections(called="dicom.require_called_ae_title", calling="dicom.allowed_ae_titles"),
        storage=contexts_table(negotiation.received()),
        store_answers=answers_table(ANSWERS),
        asked=contexts_table(negotiation.asked()),
        action_answers=answers_table(ACTION_ANSWERS),
        reported=contexts_table(negotiation.reported()),
        report_answers=answers_table(REPORT_ANSWERS),
        instance=SOP_INSTANCE,
        reasons=_reasons_table(),
    )


def answers_table(answers: Mapping[int, Answered]) -> str:
    """What we answer."""
    rows = [(status(code), each.meaning, each.when, each.advice or "-") for code, each in answers.items()]
    return table(("status that we send", "meaning", "when", "what the peer should do"), rows)


def _reasons_table() -> str:
    rows = [(in_words(reason), when) for reason, when in _REASONS.items()]
    return table(("Failure Reason", "when"), [*rows, ("others", "what the PACS said last")])
