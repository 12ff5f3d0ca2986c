"""A result object as a row."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path, PurePath

from sqlalchemy import select
from sqlalchemy.orm import Session

from cxr_triage.model.errors import ResultError
from cxr_triage.storage.result_records import ResultObject
from cxr_triage.storage.schema import InstanceRow, ObjectRow


def object_row(made: ResultObject, *, source: InstanceRow | None, created_at: datetime) -> ObjectRow:
    """Make the row of an object; it owns the object's file from now on."""
    columns = asdict(made) | {"path": PurePath(made.path).as_posix()}
    return ObjectRow(
        **columns,
        source_instance_id=source.id if source else None,
        source_edition=source.edition if source else 0,
        owns_file=True,
        created_at=created_at,
    )


def take_object(session: Session, made: ResultObject, source: InstanceRow | None, now: datetime) -> ObjectRow:
    """Give an object's row: a new one, or that of the same object made before, which then has a file again.

    Raises:
        ResultError: its UID is known with other bytes.
    """
    row = session.scalar(select(ObjectRow).where(ObjectRow.sop_instance_uid == made.sop_instance_uid))
    if row is None:
        row = object_row(made, source=source, created_at=now)
        session.add(row)
    elif row.sha256 != made.sha256:
        raise ResultError(
            f"{made.kind.value} {made.sop_instance_uid} was made before with other bytes: a UID stands for one content"
        )
    elif not row.owns_file:
        row.path, row.owns_file = PurePath(made.path).as_posix(), True
    session.flush()
    return row


def object_of(row: ObjectRow) -> ResultObject:
    """Read an object back."""
    return ResultObject(
        kind=row.kind,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        series_instance_uid=row.series_instance_uid,
        study_instance_uid=row.study_instance_uid,
        source_sop_instance_uid=row.source_sop_instance_uid,
        profile=row.profile,
        path=Path(row.path),
        sha256=row.sha256,
        stand_in=row.stand_in,
    )
