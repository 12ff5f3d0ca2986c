"""What the inference role writes: indexed, scored, unsuitable, failed."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from cxr_triage.model.prediction import Prediction, Refusal
from cxr_triage.model.priority import Policy
from cxr_triage.storage.database import Database
from cxr_triage.storage.inbox import utc_now
from cxr_triage.storage.records import Claim, InstanceHeader


class Scoring:
    """Hands out images by lease, most urgent first, and takes their results back, once."""

    def __init__(self, database: Database, *, lease: timedelta, clock: Callable[[], datetime] = utc_now) -> None:
        raise NotImplementedError

    def claim_to_index(self, owner: str, limit: int) -> list[Claim]:
        """Claim received images, oldest first. No two owners are given the same one."""
        raise NotImplementedError

    def claim_to_score(self, owner: str) -> Claim | None:
        """Claim the indexed image whose study was ordered most urgently, then the oldest; None = none waits."""
        raise NotImplementedError

    def extend(self, claims: Sequence[Claim]) -> list[Claim]:
        """Begin the lease anew.

        Returns:
            The claims that are still this owner's; work on the others is in vain.
        """
        raise NotImplementedError

    def record_indexed(self, claim: Claim, header: InstanceHeader, policy: Policy) -> None:
        """Put an image into its study, which is on the reading list from now on.

        A study that was finished comes back when the image was received after that: somebody still has to read it.

        Raises:
            StaleAttemptError: a later attempt has the image.
        """
        raise NotImplementedError

    def record_scored(self, claim: Claim, prediction: Prediction, policy: Policy) -> None:
        """Keep a prediction and recompute the study's priority, in one transaction: the list moves now.

        A prediction that carries a refusal is recorded as unsuitable: its findings are not to be used.

        Raises:
            StaleAttemptError: a later attempt has the image.
        """
        raise NotImplementedError

    def record_unsuitable(self, claim: Claim, refusal: Refusal) -> None:
        """Set an image aside, indexed or not; its study's priority stays as it is.

        Raises:
            StaleAttemptError: a later attempt has the image.
        """
        raise NotImplementedError

    def record_failure(
        self, claim: Claim, *, error_class: str, explanation: str, retry_at: datetime | None
    ) -> None:
        """Record that an attempt failed.

        Args:
            claim: the attempt.
            error_class: a stable word.
            explanation: one sentence for a person, without patient data.
            retry_at: when to try again, UTC; None = not by itself: the image is set aside as failed.

        Raises:
            StaleAttemptError: a later attempt has the image.
        """
        raise NotImplementedError

    def replay(self, sop_instance_uid: str, *, actor: str) -> int:
        """Bring an image back that was set aside as failed or unsuitable and whose file is still there.

        Returns:
            How many were brought back: 0 = there was none.
        """
        raise NotImplementedError

    def release_leases(self, is_alive: Callable[[str], bool], now: datetime) -> int:
        """Give back the images whose owner is dead or whose lease has run out.

        Args:
            is_alive: `owner_is_alive` with its folder.
            now: UTC.

        Returns:
            How many were given back.
        """
        raise NotImplementedError
