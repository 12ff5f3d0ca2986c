"""What the worklist role runs of it: the port's answers, and a thread for each subscriber."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from cxr_triage.daemon.commitment.event_reports import Insistence
from cxr_triage.daemon.commitment.reports import Persistence
from cxr_triage.daemon.dicom_client import peer
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.roles import WORKLIST
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.ups.announcing import Announcer, announcing
from cxr_triage.daemon.ups.port import UpsPort
from cxr_triage.daemon.ups.service import ProcedureSteps
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.clock import Clock
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import Announcements, StepSubscriptions
from cxr_triage.storage.owners import Owner

log = get_logger(__name__)


def procedure_steps(settings: Settings, database: Database, clock: Clock) -> ProcedureSteps:
    """Give the service as the settings ask."""
    return ProcedureSteps(
        database,
        policy=settings.policy(),
        receivers=frozenset(each.ae_title for each in settings.ups_subscriber),
        retrieve_ae_titles=[each.ae_title for each in settings.destinations if each.ae_title],
        clock=clock,
    )


@contextmanager
def ups_port(settings: Settings, database: Database, clock: Clock) -> Iterator[UpsPort | None]:
    """Give what the settings ask for, and tell subscribers meanwhile; None: procedure steps are off."""
    if not settings.worklist.ups:
        yield None
        return
    procedure = procedure_steps(settings, database, clock)
    _tell_of_restart(settings, database, clock)
    owner = Owner.take(settings.run_folder, WORKLIST)
    try:
        with announcing(_announcers(settings, database, clock, procedure, owner.id)) as wake:
            yield UpsPort(procedure, on_change=wake)
    finally:
        owner.release()


def _tell_of_restart(settings: Settings, database: Database, clock: Clock) -> None:
    receivers = [each.ae_title for each in settings.ups_subscriber]
    try:
        StepSubscriptions(database, clock=clock).record_restart(receivers)
    except StorageError as error:  # nobody depends on it (PS3.4 CC.2.4.3), and the role is wanted nevertheless
        log.exception("ledger not reached: no subscriber is told of the start", exc_info=error)


def _announcers(
    settings: Settings, database: Database, clock: Clock, procedure: ProcedureSteps, owner_id: str
) -> list[Announcer]:
    insistence = Insistence(
        poll=timedelta(seconds=settings.deliver.poll_seconds),
        persistence=Persistence.of(settings.deliver),
        give_up=timedelta(hours=settings.worklist.ups_event_hours),
    )
    announcements = Announcements(database, lease=timedelta(seconds=settings.deliver.lease_seconds), clock=clock)
    return [
        Announcer(
            peer=peer(subscriber, settings, calling_ae_title=settings.worklist.ae_title),
            announcements=announcements,
            owner_id=owner_id,
            insistence=insistence,
            before=procedure.consider,
            clock=clock,
        )
        for subscriber in settings.ups_subscriber
    ]
