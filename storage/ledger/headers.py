"""A header as a row."""

from dataclasses import asdict, fields
from typing import Final

from cxr_triage.storage.image_records import InstanceHeader
from cxr_triage.storage.schema import HeaderRow

#: Names of the columns, in their order.
FIELDS: Final = tuple(field.name for field in fields(InstanceHeader))


def row_of(instance_id: int, header: InstanceHeader) -> HeaderRow:
    """Make the row of an image's header."""
    return HeaderRow(instance_id=instance_id, **asdict(header))


def header_of(row: HeaderRow) -> InstanceHeader:
    """Read a header back."""
    return InstanceHeader(**{name: getattr(row, name) for name in FIELDS})
