"""Column types that mean the same on both databases."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar

from sqlalchemy import DateTime, Dialect, SmallInteger, Text, TypeDecorator

from cxr_triage.model.priority import Level

State = TypeVar("State", bound=StrEnum)


class UtcTime(TypeDecorator[datetime]):
    """An aware time, UTC in and out; SQLite has no time zones and keeps it naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time: nobody could say when that was."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the time back as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SafeText(TypeDecorator[str]):
    """Text as it came from outside, less what a database cannot hold: NUL (Postgres) and lone surrogates (both)."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Leave out NUL; a lone surrogate becomes a question mark."""
        return None if value is None else value.replace("\x00", "").encode(errors="replace").decode()


class StateText(TypeDecorator[State]):
    """A state by its word."""

    impl = Text
    cache_ok = True

    def __init__(self, states: type[State]) -> None:
        super().__init__()
        self.states = states
        #: Quicker than the class itself, of which a long list asks a hundred thousand times.
        self._by_word = {state.value: state for state in states}

    def process_bind_param(self, value: State | None, dialect: Dialect) -> str | None:
        """Store the word."""
        return None if value is None else self.states(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> State | None:
        """Give the state back."""
        return None if value is None else self._by_word[value]


_BY_NUMBER: Final = {int(level): level for level in Level}


class LevelNumber(TypeDecorator[Level]):
    """An urgency, stored so that the database sorts by it: 0 is STAT."""

    impl = SmallInteger
    cache_ok = True

    def process_bind_param(self, value: Level | None, dialect: Dialect) -> int | None:
        """Store the number."""
        return None if value is None else int(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Level | None:
        """Give the level back."""
        return None if value is None else _BY_NUMBER[value]
