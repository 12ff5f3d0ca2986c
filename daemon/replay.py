"""`cxr-triage replay`: bring back what was given up, and wake who goes on with it."""

from collections.abc import Iterable
from datetime import timedelta

from cxr_triage.daemon.roles import DELIVER, INFER
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import ring
from cxr_triage.daemon.withdraw import bring_back
from cxr_triage.model.errors import TriageError
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import Circuits, Dispatch, Scoring
from cxr_triage.storage.service_clock import ServiceClock


def replay_uid(uid: str, settings: Settings, database: Database, *, actor: str) -> str:
    """Put an image up again that failed or was found unsuitable, a withdrawn study, or a result that was given up.

    Returns:
        What was done, in words.

    Raises:
        TriageError: there is nothing to bring back under this UID.
    """
    if _scoring(settings, database).replay(uid, actor=actor):
        ring(settings.run_folder, INFER)
        return f"{uid} is tried again"
    if images := bring_back(uid, settings, database, actor=actor):
        return f"the results of study {uid} count again, and are made anew: images: {images}"
    destinations = [destination.name for destination in settings.destinations]
    again = _dispatch(settings, database).replay_object(uid, destinations, actor=actor)
    if not again:
        raise TriageError(
            f"no image {uid} was set aside, or its file is gone: have it sent again; no study of this UID was "
            "withdrawn, or the files of its images are gone; and no result of this UID was given up for a destination "
            "that is configured"
        )
    _deliver_now(again, settings, database)
    return f"{uid} is sent again to {', '.join(again)}"


def replay_failed(settings: Settings, database: Database, *, actor: str) -> str:
    """Put every image up again that failed; what was done, in words.

    Raises:
        TriageError: there is none.
    """
    count = _scoring(settings, database).replay_failed(actor=actor)
    if not count:
        raise TriageError("no image has failed whose file is still there: `cxr-triage status` shows the counts")
    ring(settings.run_folder, INFER)
    return f"{_counted(count, 'image')} tried again"


def replay_dead(destination: str, settings: Settings, database: Database, *, actor: str) -> str:
    """Put a destination's given-up deliveries up again; what was done, in words.

    Raises:
        TriageError: there are none, or nobody would send them.
    """
    _require_configured(destination, settings)
    count = _dispatch(settings, database).replay_dead(destination, actor=actor)
    if not count:
        raise TriageError(f"nothing was given up for destination {destination!r}: `cxr-triage status` shows the counts")
    _deliver_now([destination], settings, database)
    return f"{_counted(count, 'object')} sent again to {destination}"


def replay_not_taken(destination: str, settings: Settings, database: Database, *, actor: str) -> str:
    """Offer a destination again what it did not take; what was done, in words.

    Raises:
        TriageError: there is nothing to offer, or nobody would.
    """
    _require_configured(destination, settings)
    count = _dispatch(settings, database).replay_not_taken(destination, actor=actor)
    if not count:
        raise TriageError(
            f"destination {destination!r} took everything, or what it did not take has left the outbox: "
            "`cxr-triage status` shows the counts"
        )
    _deliver_now([destination], settings, database)
    return f"{_counted(count, 'object')} offered again to {destination}"


def _require_configured(destination: str, settings: Settings) -> None:
    if destination not in {each.name for each in settings.destinations}:
        raise TriageError(
            f"destination {destination!r} is not configured, so nothing would be sent: add a [[destination]] of this "
            "name, restart, and replay then"
        )


def _clock(settings: Settings) -> ServiceClock:
    return ServiceClock.of(settings.run_folder)


def _scoring(settings: Settings, database: Database) -> Scoring:
    return Scoring(database, lease=timedelta(seconds=settings.infer.lease_seconds), clock=_clock(settings))


def _dispatch(settings: Settings, database: Database) -> Dispatch:
    return Dispatch(database, lease=timedelta(seconds=settings.deliver.lease_seconds), clock=_clock(settings))


def _deliver_now(destinations: Iterable[str], settings: Settings, database: Database) -> None:
    """Who asks for a replay has mended something: a destination that is left alone is tried at once."""
    Circuits(database, clock=_clock(settings)).end_pauses(*destinations)
    ring(settings.run_folder, DELIVER)


def _counted(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count} {what}s are"
