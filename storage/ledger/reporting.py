"""What the report role writes: revisions of a study's result, and the objects made from them."""

from collections.abc import Callable, Sequence
from datetime import datetime

from cxr_triage.storage.database import Database
from cxr_triage.storage.inbox import utc_now
from cxr_triage.storage.records import InstanceHeader, ResultObject, Revision, StoredPrediction


class Reporting:
    """Turns scored images into revisions. An open revision is made again from the same rows until it is complete."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        raise NotImplementedError

    def studies_to_report(self, limit: int) -> list[str]:
        """Studies with scored images that no reported revision covers, and with no indexed image still to score."""
        raise NotImplementedError

    def open_revision(self, study_instance_uid: str, policy_digest: str) -> Revision:
        """Fix which images the next revision is about. The same images, bundle and policy give the same revision.

        An open revision of fewer images is superseded: it can no longer be completed.

        Raises:
            StorageError: the study has no scored image.
        """
        raise NotImplementedError

    def predictions(self, revision: Revision) -> list[StoredPrediction]:
        """Predictions that a revision is about, in the order in which the images were received.

        Where a SOP Instance UID came with several contents, the latest received one that was scored.
        """
        raise NotImplementedError

    def reported_segs(self, study_instance_uid: str) -> list[ResultObject]:
        """SEG objects that reported revisions of the study made, whose files are still in the outbox.

        Later revisions use them again: one SEG per scored image (content) and profile.
        """
        raise NotImplementedError

    def header(self, study_instance_uid: str) -> InstanceHeader:
        """Header of the study's first received image that was indexed.

        Raises:
            StorageError: the study has no indexed image.
        """
        raise NotImplementedError

    def complete_revision(
        self, revision: Revision, objects: Sequence[ResultObject], destinations: Sequence[tuple[str, str]]
    ) -> None:
        """Mark a revision reported, supersede the one before, and put its objects up for delivery; at once.

        Doing so again changes nothing.

        Args:
            revision: an open one.
            objects: all that it consists of, SEGs made by earlier revisions included.
            destinations: (name, profile) pairs: each gets the objects of its profile that it was not given before.

        Raises:
            StaleAttemptError: a later revision took over: nothing is recorded.
            StorageError: an object's UID is known with other bytes.
        """
        raise NotImplementedError

    def objects(self) -> list[ResultObject]:
        """Every result object whose file is still in the outbox, oldest first."""
        raise NotImplementedError
