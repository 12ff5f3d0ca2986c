"""The tables. A change here comes with a migration; a test compares the two."""

from cxr_triage.storage.schema.base import Base, Leased
from cxr_triage.storage.schema.commitments import (
    CommitmentItemRow,
    CommitmentRow,
    ModalityRequestItemRow,
    ModalityRequestRow,
)
from cxr_triage.storage.schema.instances import (
    FindingRow,
    HeaderRow,
    InstanceRow,
    MeasurementRow,
    PredictionRow,
    RemarkRow,
)
from cxr_triage.storage.schema.orders import InquiryRow, OrderMatchRow, OrderRow
from cxr_triage.storage.schema.procedure_steps import AnnouncementRow, ProcedureStepRow, StepSubscriptionRow
from cxr_triage.storage.schema.reading_list import ListChangeRow, ReadingListRow, StudyRow
from cxr_triage.storage.schema.results import (
    CircuitRow,
    DeliveryRow,
    ObjectRow,
    RevisionImageRow,
    RevisionObjectRow,
    RevisionRow,
)
from cxr_triage.storage.schema.trail import AuditRow, Event

__all__ = [
    "AnnouncementRow",
    "AuditRow",
    "Base",
    "CircuitRow",
    "CommitmentItemRow",
    "CommitmentRow",
    "DeliveryRow",
    "Event",
    "FindingRow",
    "HeaderRow",
    "InquiryRow",
    "InstanceRow",
    "Leased",
    "ListChangeRow",
    "MeasurementRow",
    "ModalityRequestItemRow",
    "ModalityRequestRow",
    "ObjectRow",
    "OrderMatchRow",
    "OrderRow",
    "PredictionRow",
    "ProcedureStepRow",
    "ReadingListRow",
    "RemarkRow",
    "RevisionImageRow",
    "RevisionObjectRow",
    "RevisionRow",
    "StepSubscriptionRow",
    "StudyRow",
]
