"""What the receiver writes: an image is there."""

from datetime import datetime
from pathlib import Path, PurePath
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from cxr_triage.storage.database import Database, lock_name
from cxr_triage.storage.image_records import InstanceState, KnownContent, Receipt, ReceivedInstance
from cxr_triage.storage.ledger.studies import ORDERED_BY_DEFAULT
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.schema import Event, InstanceRow, PredictionRow

#: Ends without a result. Sent again after its file is gone, such an image is read again.
_SET_ASIDE: Final = (InstanceState.FAILED, InstanceState.UNSUITABLE)


class Intake:
    """Takes received images into the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, sop_instance_uid: str, sha256: str) -> KnownContent | None:
        """Say what there is of these very bytes; None: nothing, and they are to be stored.

        Unless its file was lost (`Inbox.lost`), a known content need not be stored again.
        """
        same = select(InstanceRow.state, InstanceRow.owns_file, InstanceRow.path).where(
            InstanceRow.sop_instance_uid == sop_instance_uid, InstanceRow.sha256 == sha256
        )
        with self._database.read() as session:
            row = session.execute(same).one_or_none()
        if row is None or (row.state in _SET_ASIDE and not row.owns_file):
            return None
        return KnownContent(Path(row.path) if row.owns_file else None)

    def record_received(self, instance: ReceivedInstance, *, lost: Path | None = None) -> Receipt:
        """Take an image in whose file is on disk. Once this returns, it may be acknowledged.

        An image whose file was lost is taken up again with the new one.

        Args:
            instance: the image.
            lost: the file that the ledger had of these bytes and that is gone.

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
                return _take_up(session, known, instance, lost)
            receipt = Receipt.OTHER_BYTES if contents else Receipt.NEW
            row = _row(instance, receipt)
            session.add(row)
            note(session, instance.received_at, instance.calling_ae_title, Event.RECEIVED, row, receipt.value)
        return receipt


def _take_up(session: Session, row: InstanceRow, instance: ReceivedInstance, lost: Path | None) -> Receipt:
    """Take these bytes once more: they are needed only where their file is gone before its time."""
    needed = Path(row.path) == lost if row.owns_file else row.state in _SET_ASIDE
    if not needed:
        return Receipt.SAME_BYTES
    row.path, row.owns_file, row.size_bytes = PurePath(instance.path).as_posix(), True, instance.size_bytes
    if row.state in _SET_ASIDE:
        _resume(session, row, instance.received_at)
    note(session, instance.received_at, instance.calling_ae_title, Event.RECEIVED, row, "its file had been lost")
    return Receipt.NEW


def _resume(session: Session, row: InstanceRow, now: datetime) -> None:
    """Go on from where an image had come: the first committed prediction of an image counts."""
    if session.get(PredictionRow, row.id) is not None:
        row.state = InstanceState.SCORED
    else:
        row.state = InstanceState.INDEXED if row.study_instance_uid else InstanceState.RECEIVED
    row.changed_at = now
    row.reason = row.explanation = row.next_attempt_at = None
    row.failures = row.lost = 0


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
