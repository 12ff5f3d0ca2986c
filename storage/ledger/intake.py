"""What the receiver writes: an image is there."""

from pathlib import PurePath

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from cxr_triage.storage.database import Database, lock_name
from cxr_triage.storage.ledger.studies import ORDERED_BY_DEFAULT
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.records import InstanceState, Receipt, ReceivedInstance
from cxr_triage.storage.schema import Event, InstanceRow, PredictionRow


class Intake:
    """Takes received images into the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, sop_instance_uid: str, sha256: str) -> bool:
        """Whether these very bytes are in the ledger: then their file need not be stored again."""
        same = exists().where(
            InstanceRow.sop_instance_uid == sop_instance_uid,
            InstanceRow.sha256 == sha256,
            InstanceRow.owns_file | (InstanceRow.state != InstanceState.FAILED),
        )
        with self._database.read() as session:
            return bool(session.scalar(select(same)))

    def record_received(self, instance: ReceivedInstance) -> Receipt:
        """Take an image in whose file is on disk. Once this returns, it may be acknowledged.

        An image that failed because its file was lost is taken up again with the new one.

        Returns:
            NEW or OTHER_BYTES: the ledger owns `instance.path` from now on. SAME_BYTES: nothing was written, the
            ledger keeps the file that it has, and the caller discards `instance.path`.

        Raises:
            StorageError: nothing was written; the sender must be told so.
        """
        with self._database.transaction() as session:
            lock_name(session, f"instance {instance.sop_instance_uid}")
            rows = session.scalars(select(InstanceRow).where(InstanceRow.sop_instance_uid == instance.sop_instance_uid))
            contents = {row.sha256: row for row in rows}
            known = contents.get(instance.sha256)
            if known is not None:
                return _take_up(session, known, instance)
            receipt = Receipt.OTHER_BYTES if contents else Receipt.NEW
            row = _row(instance, receipt)
            session.add(row)
            note(session, instance.received_at, instance.calling_ae_title, Event.RECEIVED, row, receipt.value)
        return receipt


def _take_up(session: Session, row: InstanceRow, instance: ReceivedInstance) -> Receipt:
    """Take these bytes once more: they are needed only where their file was lost before anything came of it."""
    if row.owns_file or row.state is not InstanceState.FAILED:
        return Receipt.SAME_BYTES
    row.path, row.owns_file, row.size_bytes = PurePath(instance.path).as_posix(), True, instance.size_bytes
    row.state = _resumed(session, row)
    row.changed_at = instance.received_at
    row.reason = row.explanation = row.next_attempt_at = None
    row.failures = row.lost = 0
    note(session, instance.received_at, instance.calling_ae_title, Event.RECEIVED, row, "its file had been lost")
    return Receipt.NEW


def _resumed(session: Session, row: InstanceRow) -> InstanceState:
    """How far an image had come: the first committed prediction of an image counts."""
    if session.get(PredictionRow, row.id) is not None:
        return InstanceState.SCORED
    return InstanceState.INDEXED if row.study_instance_uid else InstanceState.RECEIVED


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
