"""What the worklist role and people read and write: which studies wait, and how urgent they were ordered."""

from collections.abc import Callable
from datetime import datetime

from cxr_triage.model.priority import Level, Policy
from cxr_triage.storage.database import Database
from cxr_triage.storage.inbox import utc_now
from cxr_triage.storage.records import ListedStudy


class ReadingList:
    """The studies that wait for a reader."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        raise NotImplementedError

    def studies(self) -> list[ListedStudy]:
        """Every open study with an indexed image, as one snapshot, in the order of arrival: not yet ranked."""
        raise NotImplementedError

    def set_ordered(self, study_instance_uid: str, level: Level, *, actor: str, policy: Policy) -> None:
        """Set what a person or their system ordered, up or down, also before the first image of the study is here."""
        raise NotImplementedError

    def finish(self, study_instance_uid: str, *, actor: str) -> bool:
        """Take a study off the list, since it was read.

        Returns:
            Whether it was on the list.
        """
        raise NotImplementedError

    def finish_aged(self, before: datetime) -> int:
        """Take the studies off the list that arrived before that time; how many."""
        raise NotImplementedError

    def reprioritise(self, policy: Policy) -> int:
        """Recompute every open study under a changed policy.

        Returns:
            How many changed.
        """
        raise NotImplementedError
