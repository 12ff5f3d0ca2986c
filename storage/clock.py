"""The time, as an argument: tests bring their own, the service brings a `ServiceClock`."""

from collections.abc import Callable
from datetime import UTC, datetime

#: Gives the present, UTC and aware.
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Read the system's clock."""
    return datetime.now(UTC)
