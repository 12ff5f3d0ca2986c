"""What the receiver writes: an image is there."""

from pathlib import PurePath

from sqlalchemy import exists, select

from cxr_triage.storage.database import Database, lock_name
from cxr_triage.storage.ledger.studies import ORDERED_BY_DEFAULT
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.records import InstanceState, Receipt, ReceivedInstance
from cxr_triage.storage.schema import Event, InstanceRow


class Intake:
    """Takes received images into the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, sop_instance_uid: str, sha256: str) -> bool:
        """Whether these very bytes are in the ledger: then their file need not be stored again."""
        same = exists().where(InstanceRow.sop_instance_uid == sop_instance_uid, InstanceRow.sha256 == sha256)
        with self._database.read() as session:
            return bool(session.scalar(select(same)))

    def record_received(self, instance: ReceivedInstance) -> Receipt:
        """Take an image in whose file is on disk. Once this returns, it may be acknowledged.

        Returns:
            NEW or OTHER_BYTES: the ledger owns `instance.path` from now on. SAME_BYTES: nothing was written, the
            ledger keeps the file that it has, and the caller discards `instance.path`.

        Raises:
            StorageError: nothing was written; the sender must be told so.
        """
        with self._database.transaction() as session:
            lock_name(session, f"instance {instance.sop_instance_uid}")
            contents = session.scalars(
                select(InstanceRow.sha256).where(InstanceRow.sop_instance_uid == instance.sop_instance_uid)
            ).all()
            if instance.sha256 in contents:
                return Receipt.SAME_BYTES
            receipt = Receipt.OTHER_BYTES if contents else Receipt.NEW
            row = _row(instance, receipt)
            session.add(row)
            note(session, instance.received_at, instance.calling_ae_title, Event.RECEIVED, row, receipt.value)
        return receipt


def _row(instance: ReceivedInstance, receipt: Receipt) -> InstanceRow:
    return InstanceRow(
        sop_instance_uid=instance.sop_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        calling_ae_title=instance.calling_ae_title,
        called_ae_title=instance.called_ae_title,
        path=PurePath(instance.path).as_posix(),
        owns_file=True,
        sha256=instance.sha256,
        size_bytes=instance.size_bytes,
        received_at=instance.received_at,
        other_bytes=receipt is Receipt.OTHER_BYTES,
        ordered=ORDERED_BY_DEFAULT,
        state=InstanceState.RECEIVED,
        changed_at=instance.received_at,
        attempt=0,
        failures=0,
        lost=0,
    )
