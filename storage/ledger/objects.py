"""A result object as a row."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path, PurePath

from cxr_triage.storage.records import ResultObject
from cxr_triage.storage.schema import ObjectRow


def object_row(made: ResultObject, *, source_instance_id: int | None, created_at: datetime) -> ObjectRow:
    """Make the row of an object; it owns the object's file from now on."""
    columns = asdict(made) | {"path": PurePath(made.path).as_posix()}
    return ObjectRow(**columns, source_instance_id=source_instance_id, owns_file=True, created_at=created_at)


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
    )
