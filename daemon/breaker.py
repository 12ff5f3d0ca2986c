"""The circuit breaker of a destination, as a pure state machine.

    closed ──failure──▶ open ──pause is over──▶ half-open ──success──▶ closed
                         ▲                          │
                         └─────────failure──────────┘

Closed: whole batches are sent. Open: nothing is, and nothing is written. Half-open: one object is sent, or a C-ECHO.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cxr_triage.storage.delivery_records import Circuit

#: The circuit of the RIS that is asked for orders: no destination can have this name.
RIS: Final = "[ris]"


class Stage(StrEnum):
    """What may be sent."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


def stage(circuit: Circuit, *, now: datetime, longest: timedelta) -> Stage:
    """Say where a circuit stands.

    Args:
        circuit: as the ledger has it.
        now: UTC.
        longest: of all pauses: one that ends later was begun under a clock that has been set back, and is over.
    """
    if circuit.open_until is None:
        return Stage.CLOSED
    return Stage.OPEN if now < circuit.open_until <= now + longest else Stage.HALF_OPEN


def after_failure(circuit: Circuit, reason: str, *, now: datetime, pause: timedelta) -> Circuit:
    """Open, or leave the destination alone for another while."""
    return Circuit(
        failures=circuit.failures + 1,
        open_until=now + pause,
        reason=reason,
        changed_at=now if circuit.open_until is None else circuit.changed_at,
    )


def after_success(now: datetime) -> Circuit:
    """Close."""
    return Circuit(changed_at=now)
