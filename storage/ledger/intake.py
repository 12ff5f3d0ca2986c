"""What the receiver writes: an image is there."""

from cxr_triage.storage.database import Database
from cxr_triage.storage.records import Receipt, ReceivedInstance


class Intake:
    """Takes received images into the ledger."""

    def __init__(self, database: Database) -> None:
        raise NotImplementedError

    def known(self, sop_instance_uid: str, sha256: str) -> bool:
        """Whether these very bytes are in the ledger: then their file need not be stored again."""
        raise NotImplementedError

    def record_received(self, instance: ReceivedInstance) -> Receipt:
        """Take an image in whose file is on disk. Once this returns, it may be acknowledged.

        Returns:
            NEW or OTHER_BYTES: the ledger owns `instance.path` from now on. SAME_BYTES: nothing was written, the
            ledger keeps the file that it has, and the caller discards `instance.path`.

        Raises:
            StorageError: nothing was written; the sender must be told so.
        """
        raise NotImplementedError
