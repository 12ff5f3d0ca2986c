"""What the deliver role writes: one object, one destination."""

from collections.abc import Callable
from datetime import datetime, timedelta

from cxr_triage.storage.database import Database
from cxr_triage.storage.inbox import utc_now
from cxr_triage.storage.records import Delivery


class Dispatch:
    """Hands out deliveries by lease, and keeps them until each is stored or a person must look."""

    def __init__(self, database: Database, *, lease: timedelta, clock: Callable[[], datetime] = utc_now) -> None:
        raise NotImplementedError

    def claim(self, owner: str, destination: str, limit: int) -> list[Delivery]:
        """Claim due deliveries, oldest first. An SR waits until the SEGs of its revision are stored there."""
        raise NotImplementedError

    def record_stored(self, delivery: Delivery) -> None:
        """Record that the destination answered success.

        Raises:
            StaleAttemptError: a later attempt has the delivery.
        """
        raise NotImplementedError

    def record_attempt_failed(self, delivery: Delivery, *, error: str, retry_at: datetime) -> None:
        """Record that an attempt failed and when the next is due.

        Args:
            delivery: the attempt.
            error: one sentence for a person, without patient data.
            retry_at: UTC.

        Raises:
            StaleAttemptError: a later attempt has the delivery.
        """
        raise NotImplementedError

    def record_dead(self, delivery: Delivery, error: str) -> None:
        """Give a delivery up until a person replays it.

        Raises:
            StaleAttemptError: a later attempt has the delivery.
        """
        raise NotImplementedError

    def replay_dead(self, destination: str, *, actor: str) -> int:
        """Put every dead delivery of a destination up again.

        Returns:
            How many.
        """
        raise NotImplementedError

    def release_leases(self, is_alive: Callable[[str], bool], now: datetime) -> int:
        """Give back the deliveries whose owner is dead or whose lease has run out; how many."""
        raise NotImplementedError
