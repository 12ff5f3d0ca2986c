"""`cxr-triage replay`: bring back what was given up, and wake who goes on with it."""

from datetime import timedelta

from cxr_triage.daemon.roles import DELIVER, INFER
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import ring
from cxr_triage.model.errors import TriageError
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import Dispatch, Scoring
from cxr_triage.storage.service_clock import ServiceClock


def replay_image(sop_instance_uid: str, settings: Settings, database: Database, *, actor: str) -> str:
    """Put an image up again that failed or was found unsuitable; what was done, in words.

    Raises:
        TriageError: there is no such image.
    """
    clock = ServiceClock.of(settings.run_folder)
    scoring = Scoring(database, lease=timedelta(seconds=settings.infer.lease_seconds), clock=clock)
    if not scoring.replay(sop_instance_uid, actor=actor):
        raise TriageError(f"no image {sop_instance_uid} was set aside, or its file is gone: have it sent again")
    ring(settings.run_folder, INFER)
    return f"{sop_instance_uid} is tried again"


def replay_deliveries(destination: str, settings: Settings, database: Database, *, actor: str) -> str:
    """Put a destination's given-up deliveries up again; what was done, in words.

    Raises:
        TriageError: there are none.
    """
    clock = ServiceClock.of(settings.run_folder)
    dispatch = Dispatch(database, lease=timedelta(seconds=settings.deliver.lease_seconds), clock=clock)
    count = dispatch.replay_dead(destination, actor=actor)
    if not count:
        raise TriageError(f"nothing was given up for destination {destination!r}: `cxr-triage status` shows the counts")
    ring(settings.run_folder, DELIVER)
    return f"{count} deliveries to {destination} are tried again"
