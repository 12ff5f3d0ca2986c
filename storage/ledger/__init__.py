"""The ledger: one class per concern; each method is one transaction is one transition."""

from cxr_triage.storage.ledger.announcements import Announcements
from cxr_triage.storage.ledger.circuits import Circuits
from cxr_triage.storage.ledger.clock_change import ClockChange
from cxr_triage.storage.ledger.commitments import Commitments
from cxr_triage.storage.ledger.dispatch import Dispatch
from cxr_triage.storage.ledger.housekeeping import Housekeeping
from cxr_triage.storage.ledger.inquiries import Inquiries
from cxr_triage.storage.ledger.intake import Intake
from cxr_triage.storage.ledger.modality_commitments import ModalityCommitments
from cxr_triage.storage.ledger.orders import Orders
from cxr_triage.storage.ledger.procedure_steps import StepLedger
from cxr_triage.storage.ledger.reading_list import ReadingList
from cxr_triage.storage.ledger.rejections import Rejections
from cxr_triage.storage.ledger.reporting import Completeness, Reporting
from cxr_triage.storage.ledger.scoring import Scoring
from cxr_triage.storage.ledger.stand_ins import StandIns
from cxr_triage.storage.ledger.step_subscriptions import StepSubscriptions
from cxr_triage.storage.ledger.withdrawals import Withdrawals

__all__ = [
    "Announcements",
    "Circuits",
    "ClockChange",
    "Commitments",
    "Completeness",
    "Dispatch",
    "Housekeeping",
    "Inquiries",
    "Intake",
    "ModalityCommitments",
    "Orders",
    "ReadingList",
    "Rejections",
    "Reporting",
    "Scoring",
    "StandIns",
    "StepLedger",
    "StepSubscriptions",
    "Withdrawals",
]
