"""All rows of one database into another of the same schema, of either kind, a few at a time."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Column, Connection, Table, bindparam, cast, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import REGCLASS

from cxr_triage.storage.backup.source import ROWS_AT_ONCE, Advance
from cxr_triage.storage.schema import Base

#: In an order in which every row comes after those that it refers to, but for `_late` columns.
TABLES: Final[Sequence[Table]] = tuple(Base.metadata.sorted_tables)
_LATE: Final = "late_"


def copy_rows(source: Connection, target: Connection, advance: Advance) -> dict[str, int]:
    """Copy every row; the target is empty before. Both stay in the transaction that they are in.

    Returns:
        How many, by table.
    """
    counts = {table.name: 0 for table in TABLES}
    for table in TABLES:
        for rows in _read(source, select(table), table):
            late = dict.fromkeys((column.name for column in _late(table)), None)
            target.execute(table.insert(), [row | late for row in rows])
            counts[table.name] += len(rows)
            advance("rows", sum(counts.values()), None)
    for table in TABLES:
        _fill_late(source, target, table)
    _set_sequences(target)
    return counts


def is_empty(connection: Connection) -> bool:
    """Whether no table has a row."""
    return not any(connection.scalar(select(exists(select(1).select_from(table)))) for table in TABLES)


def size_bytes(connection: Connection) -> int:
    """What the database takes on its disk, about."""
    if connection.dialect.name == "postgresql":
        statement = text("SELECT pg_database_size(current_database())")
    else:
        statement = text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
    return int(connection.execute(statement).scalar_one())


def _read(source: Connection, query: Any, table: Table) -> Iterable[list[dict[str, Any]]]:
    ordered = query.order_by(*table.primary_key).execution_options(yield_per=ROWS_AT_ONCE)
    with source.execute(ordered) as found:
        for rows in found.mappings().partitions():
            yield [dict(row) for row in rows]


def _late(table: Table) -> list[Column[Any]]:
    """Columns that may refer to a row that is copied later: of the same table, or of one behind it."""
    behind = set(TABLES[TABLES.index(table) :])
    return [column for column in table.columns if any(key.column.table in behind for key in column.foreign_keys)]


def _fill_late(source: Connection, target: Connection, table: Table) -> None:
    for column in _late(table):
        keys = list(table.primary_key)
        change = update(table).values({column: bindparam(f"{_LATE}value")})
        for key in keys:
            change = change.where(key == bindparam(_LATE + key.name))
        query = select(*(key.label(_LATE + key.name) for key in keys), column.label(f"{_LATE}value"))
        for rows in _read(source, query.where(column.is_not(None)), table):
            target.execute(change, rows)


def _set_sequences(target: Connection) -> None:
    """Let Postgres number new rows from behind those that are there; SQLite does so by itself."""
    if target.dialect.name != "postgresql":
        return
    for table in TABLES:
        numbered = table.autoincrement_column
        sequence = numbered is not None and target.scalar(
            select(func.pg_get_serial_sequence(table.name, numbered.name))
        )
        if numbered is not None and sequence:
            last = func.max(numbered)
            next_number = func.setval(cast(sequence, REGCLASS), func.coalesce(last, 1), last.is_not(None))
            target.execute(select(next_number))
