"""What goes over the network: the data sets of N-ACTION and N-EVENT-REPORT, read and written (PS3.4 J.3.2, J.3.3)."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

from cxr_triage.daemon.answers import Answered
from cxr_triage.model.errors import TriageError
from cxr_triage.storage.commitment_records import CommitmentReport, Failure, Reference

#: PS3.4 J.3.5: Storage Commitment Push Model SOP Class, and its one well-known instance.
SOP_CLASS: Final = UID("1.2.840.10008.1.20.1")
SOP_INSTANCE: Final = UID("1.2.840.10008.1.20.1.1")
#: PS3.4 Table J.3-1.
REQUEST_STORAGE_COMMITMENT: Final = 1
#: PS3.4 Table J.3-2.
ALL_COMMITTED: Final = 1
FAILURES_EXIST: Final = 2

#: PS3.7 C.1.1.
SUCCESS: Final = 0x0000
#: PS3.7 Annex C: what we answer to N-ACTION and N-EVENT-REPORT.
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_SOP_INSTANCE: Final = 0x0112
NO_SUCH_EVENT_TYPE: Final = 0x0113
INVALID_ARGUMENT_VALUE: Final = 0x0115
CLASS_INSTANCE_CONFLICT: Final = 0x0119
NO_SUCH_ACTION_TYPE: Final = 0x0123
NOT_AUTHORISED: Final = 0x0124
RESOURCE_LIMITATION: Final = 0x0213

#: References in one message: more than any study has, few enough that reading them blocks nobody.
MAXIMUM_REFERENCES: Final = 10_000
#: All that an N-ACTION is answered with.
ACTION_ANSWERS: Final = {
    SUCCESS: Answered("Success", "the request is durably recorded; also for the same request again"),
    NO_SUCH_SOP_INSTANCE: Answered("No Such SOP Instance", "it is not for the well-known instance", "correct it"),
    INVALID_ARGUMENT_VALUE: Answered(
        "Invalid Argument Value",
        "no valid transaction UID, no references, one instance under two classes, or unreadable",
        "correct it",
    ),
    NO_SUCH_ACTION_TYPE: Answered("No Such Action", f"its type is not {REQUEST_STORAGE_COMMITMENT}", "correct it"),
    NOT_AUTHORISED: Answered(
        "Not Authorized",
        "the calling AE title has no `[[modality]]` table: it could never be told the result",
        "have the table added",
    ),
    RESOURCE_LIMITATION: Answered(
        "Resource Limitation",
        f"the database did not take it, or more than {MAXIMUM_REFERENCES:,} references",
        "ask again",
    ),
}
#: All that an N-EVENT-REPORT is answered with.
REPORT_ANSWERS: Final = {
    SUCCESS: Answered("Success", "recorded; also when it says nothing new, which changes nothing"),
    NO_SUCH_SOP_INSTANCE: Answered("No Such SOP Instance", "it is not about the well-known instance"),
    NO_SUCH_EVENT_TYPE: Answered("No Such Event Type", f"neither {ALL_COMMITTED} nor {FAILURES_EXIST}"),
    INVALID_ARGUMENT_VALUE: Answered(
        "Invalid Argument Value",
        "an unknown transaction UID or another destination's, an object or class that was not asked for, an object "
        "named twice, or unreadable: nothing is changed",
    ),
    RESOURCE_LIMITATION: Answered(
        "Resource Limitation",
        f"the database did not take it, or more than {MAXIMUM_REFERENCES:,} references",
        "report it again",
    ),
}
#: PS3.5 9.1, but for leading zeros, which real devices write and which harm nobody.
_UID_PATTERN: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH: Final = 64
_REASONS: Final = range(0x10000)


class UnusableMessageError(TriageError):
    """A message says nothing that could be acted upon; `status` is what its sender is answered."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def commitment_context(*, scu_role: bool | None = None, scp_role: bool | None = None) -> PresentationContext:
    """Storage commitment as a presentation context.

    Args:
        scu_role: whether an acceptor lets the requestor be SCU; None: default roles only.
        scp_role: whether it lets the requestor be SCP (PS3.7 D.3.3.4).
    """
    context = build_context(SOP_CLASS)
    if scu_role is not None and scp_role is not None:
        context.scu_role, context.scp_role = scu_role, scp_role
    return context


def request_data_set(transaction_uid: str, references: Iterable[Reference]) -> Dataset:
    """Action Information (PS3.4 Table J.3-1)."""
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = Items([_reference_item(each) for each in references])
    return request


def report_data_set(report: CommitmentReport) -> tuple[int, Dataset]:
    """Event Type ID and Event Information (PS3.4 Table J.3-2)."""
    event = Dataset()
    event.TransactionUID = report.transaction_uid
    if report.committed:
        event.ReferencedSOPSequence = Items([_reference_item(each) for each in report.committed])
    if not report.failed:
        return ALL_COMMITTED, event
    failed = []
    for reference, reason in report.failed:
        item = _reference_item(reference)
        item.FailureReason = reason
        failed.append(item)
    event.FailedSOPSequence = Items(failed)
    return FAILURES_EXIST, event


def read_request(action: Dataset) -> tuple[str, list[Reference]]:
    """Read the transaction UID and the references of an N-ACTION.

    Raises:
        UnusableMessageError: it has no valid transaction UID, or no references, or wrong or too many ones.
    """
    references = [_reference(item) for item in _items(action, "ReferencedSOPSequence")]
    if not references:
        raise UnusableMessageError("it refers to no SOP instance", INVALID_ARGUMENT_VALUE)
    if len({each.sop_instance_uid for each in references}) != len(set(references)):
        raise UnusableMessageError("it refers to one SOP instance under two classes", INVALID_ARGUMENT_VALUE)
    return _uid(action, "TransactionUID"), references


def read_report(event: Dataset) -> CommitmentReport:
    """Read an N-EVENT-REPORT. Its sequences count, whatever its event type promises.

    Raises:
        UnusableMessageError: it has no valid transaction UID, or no references, or wrong or too many ones.
    """
    committed = tuple(_reference(item) for item in _items(event, "ReferencedSOPSequence"))
    failed = tuple(Failure(_reference(item), _reason(item)) for item in _items(event, "FailedSOPSequence"))
    if not (committed or failed):
        raise UnusableMessageError("it refers to no SOP instance", INVALID_ARGUMENT_VALUE)
    return CommitmentReport(transaction_uid=_uid(event, "TransactionUID"), committed=committed, failed=failed)


def _reference_item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item


def _items(message: Dataset, keyword: str) -> Sequence[Dataset]:
    items = _value(message, keyword)
    if items is None:
        return []
    if not isinstance(items, Items):
        raise UnusableMessageError(f"its {keyword} is no sequence", INVALID_ARGUMENT_VALUE)
    if len(items) > MAXIMUM_REFERENCES:
        raise UnusableMessageError(f"it has more than {MAXIMUM_REFERENCES} references", RESOURCE_LIMITATION)
    return items


def _reference(item: Dataset) -> Reference:
    return Reference(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID"))


def _reason(item: Dataset) -> int:
    """Failure Reason is type 1; a sender that leaves it out has failed for whatever reason."""
    reason = _value(item, "FailureReason")
    return reason if isinstance(reason, int) and reason in _REASONS else PROCESSING_FAILURE


def _uid(message: Dataset, keyword: str) -> str:
    uid = str(_value(message, keyword) or "")
    if len(uid) > _UID_LENGTH or not _UID_PATTERN.fullmatch(uid):
        raise UnusableMessageError(f"it has no valid {keyword}", INVALID_ARGUMENT_VALUE)
    return uid


def _value(message: Dataset, keyword: str) -> Any:
    try:
        return message.get(keyword)
    # pydicom decodes when asked, and fails at hostile bytes in many ways (struct, key, value, recursion errors).
    except Exception:  # noqa: BLE001
        raise UnusableMessageError(f"its {keyword} cannot be read", INVALID_ARGUMENT_VALUE) from None
