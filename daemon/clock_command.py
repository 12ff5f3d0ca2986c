"""`cxr-triage clock`: what the service makes of the machine's clock, and a person's word that it was set rightly."""

from cxr_triage.daemon.alerts import in_words
from cxr_triage.model.errors import TriageError
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import ClockChange
from cxr_triage.storage.locks import WORK, lock
from cxr_triage.storage.service_clock import Reading, ServiceClock


def describe(reading: Reading) -> str:
    """Both clocks, in words."""
    lines = [f"machine: {reading.wall:%Y-%m-%d %H:%M:%S} UTC", f"service: {reading.now:%Y-%m-%d %H:%M:%S} UTC"]
    if reading.jumped:
        lines.append(f"The machine's clock is {in_words(reading.difference)} the service's time and is not believed.")
    else:
        lines.append("The service goes by the machine's clock.")
    return "\n".join(lines)


def accept(clock: ServiceClock, database: Database, *, actor: str) -> str:
    """Go by the machine's clock from now on; what was done, in words.

    Raises:
        TriageError: the clocks agree, or a role is at work: it would write by the time from before.
        StorageError: the database or the run folder refused: run it again, nothing is moved twice.
    """
    reading = clock.reading()
    if not reading.jumped:
        raise TriageError("the service goes by the machine's clock already: there is nothing to accept")
    with lock(database, WORK) as alone:
        if alone is None:
            raise TriageError(
                "the service, or a backup, is at work: stop every role on every host first; what modalities send "
                "meanwhile, they send again"
            )
        # The ledger first: should this end in between, the next call knows that it was moved.
        ClockChange(database, clock=clock).move(reading.difference, anchor=clock.anchor_name, actor=actor)
        clock.accept()
    return f"The service goes by the machine's clock, {in_words(reading.difference)} its time before: start it again"
