"""Dates and times of a C-FIND identifier as tests of an entry's value (PS3.4 C.2.2.2.1.3 and C.2.2.2.5).

What a key leaves out stands for all of it: 07 is the hour from 07:00, 202403 as a date and time is all of March. What
an entry leaves out is taken for zero.
"""

import calendar
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Final, NamedTuple

Test = Callable[[str], bool]

#: PS3.5 6.2; with the separators of ACR-NEMA, which are to be understood and not to be sent.
_TIME: Final = re.compile(r"(?:[01]\d|2[0-3])(?::?[0-5]\d(?::?(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?")
_OFFSET: Final = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d")
_DATE_TIME: Final = re.compile(
    r"(\d{4})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,6}))?)?)?)?)?)?([+-](?:0\d|1[0-4])[0-5]\d)?"
)
#: Before and after every date.
_FIRST_DATE: Final = "00000000"
_LAST_DATE: Final = "99999999"
#: Digits of HHMMSS.FFFFFF: times are compared as such strings, so that a leap second stays one.
_TIME_DIGITS: Final = 12


class Range(NamedTuple):
    """Both ends of a range as they were written; empty: open."""

    low: str
    high: str


def is_range(wanted: str) -> bool:
    """Whether a date or a time asks for a range."""
    return "-" in wanted


def date_test(wanted: str) -> Test:
    """Make the test of a DA.

    Raises:
        ValueError: it is neither a date nor a range of dates; says so.
    """
    low, high = _ends(wanted)
    first, last = _date(low) if low else _FIRST_DATE, _date(high) if high else _LAST_DATE
    if first > last:
        raise ValueError("the range begins after its end")
    return lambda value: first <= _plain_date(value) <= last


def time_test(wanted: str) -> Test:
    """Make the test of a TM.

    Raises:
        ValueError: it is neither a time nor a range of times within a day; says so.
    """
    low, high = _ends(wanted)
    first, last = _first_moment(low), _last_moment(high)
    if first > last:
        raise ValueError("the range begins after its end, and may not cross midnight")
    return lambda value: first <= _plain_time(value) <= last


def combined_test(dates: str, times: str) -> Callable[[str, str], bool]:
    """Make the test of a DA and a TM whose ranges are one range (PS3.4 Table K.6-1, C.2.2.2.5.4).

    Raises:
        ValueError: it is no such range; says so.
    """
    (low, high), (low_time, high_time) = _ends(dates), _ends(times)
    first = (_date(low) if low else _FIRST_DATE) + _first_moment(low_time)
    last = (_date(high) if high else _LAST_DATE) + _last_moment(high_time)
    if first > last:
        raise ValueError("the range begins after its end")

    def test(day: str, time: str) -> bool:
        plain = _plain_date(day)
        return bool(plain) and first <= plain + (_plain_time(time) or "0" * _TIME_DIGITS) <= last

    return test


def date_time_test(wanted: str, zone: tzinfo | None) -> Test:
    """Make the test of a DT.

    Args:
        wanted: a date and time, or a range.
        zone: of values without an offset of their own; None: this machine's.

    Raises:
        ValueError: it is neither; says so.
    """
    low, high = _date_time_ends(wanted)
    first = _span(low, zone)[0] if low else None
    last = _span(high, zone)[1] if high else None
    if first and last and first > last:
        raise ValueError("the range begins after its end")

    def test(value: str) -> bool:
        try:
            instant = _span(value.strip(), zone)[0]
        except ValueError:
            return False
        return (first is None or first <= instant) and (last is None or instant <= last)

    return test


def zone_of(offset: str) -> tzinfo:
    """Give the zone of a Timezone Offset From UTC (0008,0201).

    Raises:
        ValueError: it is none; says so.
    """
    if not _OFFSET.fullmatch(offset):
        raise ValueError("not an offset from UTC")
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


def _ends(wanted: str) -> Range:
    """Split at the hyphen; a single value is both ends."""
    low, hyphen, high = (part.strip() for part in wanted.partition("-"))
    if hyphen and not low and not high:
        raise ValueError("a range without an end")
    return Range(low, high) if hyphen else Range(low, low)


def _date_time_ends(wanted: str) -> Range:
    """A hyphen may also begin an offset: whatever can be read as a single value is one (PS3.5 6.2, DT)."""
    if _DATE_TIME.fullmatch(wanted):
        return Range(wanted, wanted)
    for at in (found.start() for found in re.finditer("-", wanted)):
        low, high = wanted[:at].strip(), wanted[at + 1 :].strip()
        if (low or high) and all(not end or _DATE_TIME.fullmatch(end) for end in (low, high)):
            return Range(low, high)
    raise ValueError("neither a date and time nor a range")


def _date(written: str) -> str:
    plain = written.replace(".", "")
    try:
        if len(plain) == len("YYYYMMDD") and plain.isdecimal():
            date.fromisoformat(plain)
            return plain
    except ValueError:
        pass
    raise ValueError("neither a date nor a range of dates")


def _first_moment(written: str) -> str:
    return _digits(written).ljust(_TIME_DIGITS, "0")


def _last_moment(written: str) -> str:
    return _digits(written).ljust(_TIME_DIGITS, "9")


def _digits(written: str) -> str:
    if written and not _TIME.fullmatch(written):
        raise ValueError("neither a time nor a range of times")
    return written.replace(":", "").replace(".", "")


def _plain_date(value: str) -> str:
    """A date without separators; empty, which is before any range, where it is none."""
    plain = value.strip().replace(".", "")
    return plain if len(plain) == len("YYYYMMDD") and plain.isdecimal() else ""


def _plain_time(value: str) -> str:
    plain = value.strip().replace(":", "").replace(".", "")
    return plain.ljust(_TIME_DIGITS, "0") if plain.isdecimal() else ""


def _span(written: str, zone: tzinfo | None) -> tuple[datetime, datetime]:
    """First and last moment of a date and time."""
    found = _DATE_TIME.fullmatch(written)
    if not found:
        raise ValueError("neither a date and time nor a range")
    *parts, fraction, offset = found.groups()
    year, month, day, hour, minute, second = (None if part is None else int(part) for part in parts)
    assert year is not None
    where = zone_of(offset) if offset else zone
    last_month = month or 12
    last_day = day or calendar.monthrange(year, last_month)[1]
    micro, last_micro = _micro(fraction, "0"), _micro(fraction, "9")
    first = datetime(year, month or 1, day or 1, hour or 0, minute or 0, _second(second, 0), micro, tzinfo=where)
    last_hour, last_minute = 23 if hour is None else hour, 59 if minute is None else minute
    last = datetime(year, last_month, last_day, last_hour, last_minute, _second(second, 59), last_micro, tzinfo=where)
    return first.astimezone(), last.astimezone()


def _second(given: int | None, missing: int) -> int:
    """Python knows no leap second."""
    return missing if given is None else min(given, 59)


def _micro(fraction: str | None, missing: str) -> int:
    return int((fraction or "").ljust(6, missing))
