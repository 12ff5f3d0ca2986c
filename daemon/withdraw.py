"""`cxr-triage withdraw`: take the results of a study back, and wake who tells the destinations."""

from cxr_triage.daemon.roles import REPORT
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import ring
from cxr_triage.model.errors import ConfigurationError, TriageError
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import Withdrawals
from cxr_triage.storage.ledger.withdrawals import WITHDRAWALS
from cxr_triage.storage.result_records import Reason
from cxr_triage.storage.service_clock import ServiceClock


def withdraw_study(study: str, reason: str, settings: Settings, database: Database, *, actor: str) -> str:
    """Withdraw the results of the images that a study has now; what was done, in words.

    Raises:
        ConfigurationError: the reason is none of ours. Free text is not taken: it might name a patient.
        TriageError: no such study has any image.
    """
    if reason not in WITHDRAWALS:
        raise ConfigurationError(f"reason {reason!r} is none: write one of {', '.join(WITHDRAWALS)}")
    ledger = withdrawals(settings, database)
    withdrawn = ledger.withdraw(study, Reason(reason), actor=actor, policy=settings.policy())
    if withdrawn is None:
        raise TriageError(f"nothing is known of study {study}: `cxr-triage worklist` shows what waits")
    ring(settings.run_folder, REPORT)
    if not withdrawn.images:
        return f"the results of study {study} were withdrawn before"
    return (
        f"the results of study {study} are withdrawn: images: {withdrawn.images}, finished objects: {withdrawn.objects}"
    )


def bring_back(study: str, settings: Settings, database: Database, *, actor: str) -> int:
    """Let withdrawn results of a study be made anew; of how many images."""
    images = withdrawals(settings, database).undo(study, actor=actor, policy=settings.policy())
    if images:
        ring(settings.run_folder, REPORT)
    return images


def withdrawals(settings: Settings, database: Database) -> Withdrawals:
    """Give the ledger of withdrawals."""
    return Withdrawals(database, rejecting=settings.rejecting, clock=ServiceClock.of(settings.run_folder))
