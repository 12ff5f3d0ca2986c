"""Each kind of matching of PS3.4 C.2.2.2 for each VR that it is defined for, against values as they stand in files."""

import string
from datetime import date, datetime, time, timedelta, timezone
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_triage.daemon.worklist.conditions import condition, pattern_test
from cxr_triage.daemon.worklist.moments import combined_test, date_test, time_test
from cxr_triage.daemon.worklist.negotiated import Agreed

#: Years of four digits; offsets that DICOM knows, in whole minutes.
INSTANTS = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001 - the zone is given beside it
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
#: VR, key, value of the entry, whether it matches.
SINGLE = [
    # C.2.2.2.1: the same text; case counts.
    ("LO", "PAT-0001", "PAT-0001", True),
    ("LO", "pat-0001", "PAT-0001", False),
    ("SH", "ACC 1", "ACC 1", True),
    ("SH", "ACC 1", "ACC", False),
    ("CS", "DX", "DX", True),
    ("CS", "D", "DX", False),
    ("AE", "READER", "READER", True),
    ("UC", "Größe", "Größe", True),
    ("UC", "Größe", "Grösse", False),
    ("AS", "059Y", "059Y", True),
    ("AS", "059Y", "060Y", False),
    # PS3.5 6.2: spaces at both ends mean nothing, in texts those in front do.
    ("LO", " PAT-0001 ", "PAT-0001", True),
    ("LO", "PAT-0001", " PAT-0001 ", True),
    ("CS", "DX ", "DX", True),
    ("AE", "READER", "READER  ", True),
    ("LT", "text ", "text", True),
    ("LT", " text", "text", False),
    ("LT", "a\\b", "a\\b", True),
    ("UT", "a\\b", "a", False),
    ("UR", "http://a/b", "http://a/b ", True),
    # An entry that has nothing is not what a value asks for.
    ("LO", "x", "", False),
    ("PN", "x", "", False),
    ("DA", "20240304", "", False),
    ("TM", "07", "", False),
    ("UI", "1.2", "", False),
    # CP-2305: numbers as numbers.
    ("IS", "7", "7", True),
    ("IS", "007", "+7", True),
    ("IS", "7", "70", False),
    ("IS", "7", "", False),
    ("DS", "1.50", "1.5", True),
    ("DS", "15e-1", "1.5", True),
    ("US", "3", "3", True),
]
NAMES = [
    # C.2.2.2.1.1: without regard to case; PS3.5 6.2: delimiters and spaces that mean nothing.
    ("PN", "muster^erika", "Muster^Erika", True),
    ("PN", "MÜLLER^JÜRGEN", "Müller^Jürgen", True),
    ("PN", "STRASSE^A", "Straße^A", True),
    ("PN", "Muster^Erika^^", "Muster^Erika", True),
    ("PN", "Muster^Erika", "Muster^Erika^^^", True),
    ("PN", "Muster ^ Erika", "Muster^Erika", True),
    ("PN", "Muster", "Muster^Erika", False),
    ("PN", "Muster*", "Muster^Erika", True),
    ("PN", "muster^e?ika", "Muster^Erika", True),
    ("PN", "*^erika", "Muster^Erika", True),
    ("PN", "Erika*", "Muster^Erika", False),
    *(
        ("PN", key, value, expected)
        for key in ("MUSTER^*", "MUSTER^**", "MUSTER^*^*", "MUSTER^*^^*", "Muster^*^")
        for value, expected in {
            "Muster": True,
            "Muster^": True,
            "Muster^Erika": True,
            "Muster^Erika^Anna": True,
            "Musterfrau": False,
            "Musterfrau^Erika": False,
            "": False,
        }.items()
    ),
    ("PN", "Muster^^*", "Muster", True),
    ("PN", "Muster^^*", "Muster^^Anna", True),
    ("PN", "Muster^^*", "Muster^Erika", False),
    ("PN", "Must*^*", "Muster", True),
    ("PN", "Must*^*", "Muster^Erika", True),
    ("PN", "Muster^E*^*", "Muster^Erika", True),
    ("PN", "Muster^E*^*", "Muster", False),
    ("PN", "Muster^?*", "Muster", False),
    ("PN", "^*", "", True),
    ("PN", "^*", "^Erika", True),
    ("PN", "^*", "Muster", False),
    ("PN", "Yamada^*=山田^*", "Yamada=山田", True),
    ("PN", "Yamada^*=^*", "Yamada^Tarou", True),
    ("PN", "Yamada^*=山田^*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
    # The same letter, composed or not, wide or not.
    ("PN", "Mu\u0308ller", "M\u00fcller", True),
    ("PN", "\uff79\uff9d", "\u30b1\u30f3", True),
    # One component group asks for any of the entry's; several each for its own.
    ("PN", "yamada*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
    ("PN", "山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
    ("PN", "やまだ*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
    ("PN", "Yamada^Tarou=山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
    ("PN", "=山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
    ("PN", "山田*=", "Yamada^Tarou=山田^太郎=やまだ^たろう", False),
    ("PN", "*=*=*", "Muster^Erika", True),
    ("PN", "Yamada*=鈴木*", "Yamada^Tarou=山田^太郎", False),
    ("PN", "Yamada*=鈴木*", "Yamada^Tarou", False),
]
SEVERAL = [
    # C.2.2.2.2: a list of UIDs.
    ("UI", "1.2.1", "1.2.1", True),
    ("UI", "1.2.9\\1.2.1", "1.2.1", True),
    ("UI", "1.2.9\\1.2.10", "1.2.1", False),
    ("UI", "1.2", "1.2.1", False),
    ("UI", "1.2.1", "1.2.1\0", True),
    # C.2.2.3: one value of an entry is enough.
    ("UI", "1.2.1", "1.2.3\\1.2.1", True),
    ("CS", "DX", "CR\\DX", True),
    ("CS", "D?", "CR\\DX", True),
    ("CS", "MG", "CR\\DX", False),
    # C.2.2.2.8, note 4: ours, any of the values.
    ("CS", "CR\\DX", "DX", True),
    ("CS", "CR\\MG", "DX", False),
    ("LO", "A*\\B?", "BC", True),
    ("DA", "20240301\\20240304", "20240304", True),
]
UNIVERSAL = [
    # C.2.2.2.3, and C.2.2.2.4 of a lone *.
    *((vr, "", value, True) for vr in ("LO", "PN", "UI", "DA", "TM", "DT", "IS", "LT") for value in ("", "x")),
    *((vr, "*", value, True) for vr in ("LO", "PN", "UI", "DA", "TM", "DT", "IS", "LT") for value in ("", "x")),
    ("LO", " ", "x", True),
    ("LO", "**", "", True),
    ("CS", "CR\\*", "DX", True),
]
WILDCARDS = [
    *(
        (vr, key, "Thorax pa", expected)
        for vr in ("LO", "SH", "LT", "ST", "UC", "UT", "UR", "CS", "AE")
        for key, expected in {
            "Thorax*": True,
            "*pa": True,
            "T*x*a": True,
            "Thorax ?a": True,
            "?horax pa": True,
            "Thorax pa*": True,
            "Thorax pa?": False,
            "thorax*": False,
            "*xa*": False,
            "Tho*Thorax pa": False,
            "????????": False,
            "?????????": True,
            "*?*": True,
        }.items()
    ),
    ("LO", "PAT.*", "PAT-1", False),
    ("LO", "[A-Z]*", "PAT", False),
    ("LO", "?*", "", False),
    ("LT", "a*c", "a\nb\nc", True),
    # No wildcards where the VR has none.
    ("AS", "05*", "059Y", False),
]
DATES = [
    ("DA", "20240304", "20240304", True),
    ("DA", "2024.03.04", "20240304", True),
    ("DA", "20240304", "2024.03.04", True),
    ("DA", "20240304-", "20240304", True),
    ("DA", "20240304 -", "20240303", False),
    ("DA", "-20240304", "20240304", True),
    ("DA", "-20240303", "20240304", False),
    ("DA", "20240301-20240304", "20240304", True),
    ("DA", "20240301 - 20240304", "20240301", True),
    ("DA", "20240305-20240309", "20240304", False),
    ("DA", "2024.03.01-2024.03.05", "20240304", True),
    ("DA", "-20240304", "", False),
    ("DA", "-20240304", "1964?", False),
    ("DA", "19000101-", "unknown", False),
]
TIMES = [
    ("TM", "07", "075500", True),
    ("TM", "0755", "075500.25", True),
    ("TM", "07:55:00", "075500", True),
    ("TM", "075500", "07:55", True),
    ("TM", "08", "075500", False),
    ("TM", "075500.2", "075500.25", True),
    ("TM", "075500.3", "075500.25", False),
    ("TM", "0700-0755", "075559.9", True),
    ("TM", "0700-0755", "075600", False),
    ("TM", "0756-", "075500", False),
    ("TM", "-0755", "000000", True),
    ("TM", "235960", "235960", True),
    ("TM", "-12", "", False),
    ("TM", "00-", "noon", False),
]
DATE_TIMES = [
    ("DT", "20240304075500+0000", "20240304085500+0100", True),
    ("DT", "20240304075500-0500", "20240304125500+0000", True),
    ("DT", "20240304", "20240304235959", True),
    ("DT", "202403", "20240331235959", True),
    ("DT", "2024", "20241231", True),
    ("DT", "202402", "20240301", False),
    ("DT", "20240304-20240305", "20240305120000", True),
    ("DT", "20240304080000-", "20240304075500", False),
    ("DT", "-2024030408", "20240304085959.999", True),
    ("DT", "20240304080000+0100-20240304090000+0100", "20240304073000+0000", True),
    ("DT", "20240304080000-0500-20240304090000-0500", "20240304133000+0000", True),
    ("DT", "2023-2024", "20240304", True),
    ("DT", "-20240304", "", False),
    ("DT", "-20240304", "unknown", False),
]


@pytest.mark.parametrize(
    ("vr", "key", "value", "expected"),
    [*SINGLE, *NAMES, *SEVERAL, *UNIVERSAL, *WILDCARDS, *DATES, *TIMES, *DATE_TIMES],
)
def test_a_key_matches(vr: str, key: str, value: str, expected: bool) -> None:
    """What the clause says of this VR."""
    test = condition(vr, key)
    assert (test is None or test(value)) is expected


def test_a_date_and_time_without_an_offset_is_in_the_zone_of_the_query() -> None:
    """PS3.4 C.2.2.2.5.3: what the query's Timezone Offset From UTC says holds for its dates and times."""
    test = condition("DT", "2024030408", zone=timezone(timedelta(hours=-5)))
    assert test is not None
    assert test("20240304133000+0000")
    assert not test("20240304083000+0000")


@pytest.mark.parametrize(
    ("vr", "key", "value", "expected"),
    [
        # C.2.2.2.7: two quotation marks ask for what is empty.
        *((vr, '""', "", True) for vr in ("LO", "PN", "UI", "DA", "TM", "DT", "LT")),
        ("LO", '""', "x", False),
        ("DA", '""', "20240304", False),
        # C.2.2.2.8: each of the values, in whatever order, and there may be others.
        ("CS", "CT\\PT", "PT\\CT\\SR", True),
        ("CS", "CT\\PT", "CT\\SR", False),
        ("CS", "CT", "PT\\CT", True),
        # Not of UIDs, of which a list asks for any.
        ("UI", "1.2\\1.3", "1.3", True),
    ],
)
def test_a_key_matches_as_agreed(vr: str, key: str, value: str, expected: bool) -> None:
    """What the clause says where it was negotiated."""
    test = condition(vr, key, agreed=Agreed(empty=True, several=True), several=True)
    assert test is not None
    assert test(value) is expected


@pytest.mark.parametrize("agreed", [Agreed(), Agreed(several=True)])
def test_several_values_are_meant_together_only_if_agreed(agreed: Agreed) -> None:
    """And only of an attribute that may have several."""
    test = condition("CS", "CT\\PT", agreed=agreed, several=False)
    assert test is not None
    assert test("CT")
    quotes = condition("LO", '""', agreed=agreed)
    assert quotes is not None
    assert not quotes("")


@pytest.mark.parametrize(
    ("vr", "key"),
    [
        *(
            ("DA", key)
            for key in ("2024", "202403", "20240230", "-", "yesterday", "20240304-2024", "20240305-20240304")
        ),
        *(("TM", key) for key in ("7", "25", "0760", "noon", "-", "1800-0600", "07-noon")),
        *(("DT", key) for key in ("-", "20241301", "20240304-20240303", "2024-03-04", "20240304080000+2500")),
        *(("UI", key) for key in ("1.2.*", "1.2.?", "one", "1.2\\x")),
        *(("IS", key) for key in ("x", "1-2")),
        ("DS", "*1"),
    ],
)
def test_a_key_that_breaks_a_rule_is_named(vr: str, key: str) -> None:
    """Which rule, in a sentence that fits an Error Comment (64 characters) and does not repeat the value."""
    with pytest.raises(ValueError, match=r"^.{5,64}$") as caught:
        condition(vr, key)
    assert key not in str(caught.value) or key == "-"


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        # From the first evening to the last morning, not evenings and mornings only.
        ("20240303-20240305", "1800-0600", True),
        ("20240304-20240305", "1800-0600", False),
        ("20240303-20240304", "1800-0754", False),
        ("20240303-20240304", "1800-0755", True),
        ("20240303-", "1800-", True),
        ("-20240304", "-0755", True),
        ("-20240304", "-0754", False),
        ("20240304-20240304", "0755-", True),
    ],
)
def test_a_range_of_date_and_time(date: str, time: str, expected: bool) -> None:
    """PS3.4 Table K.6-1: both together are one range."""
    assert combined_test(date, time)("20240304", "075500") is expected


def test_a_range_of_date_and_time_that_ends_before_it_begins() -> None:
    """It can match nothing."""
    with pytest.raises(ValueError, match="begins after its end"):
        combined_test("20240304-20240304", "1800-0600")


def matches_slowly(pattern: str, value: str) -> bool:
    """Say the same in as few words as possible."""
    if not pattern:
        return not value
    if pattern[0] == "*":
        return any(matches_slowly(pattern[1:], value[cut:]) for cut in range(len(value) + 1))
    return bool(value) and pattern[0] in ("?", value[0]) and matches_slowly(pattern[1:], value[1:])


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_are_what_their_definition_says(pattern: str, value: str) -> None:
    """Any text for *, any character for ?."""
    assert pattern_test(pattern)(value) is matches_slowly(pattern, value)


@given(st.text(string.printable + "äß山", max_size=20))
def test_any_text_matches_itself(value: str) -> None:
    """What is no wildcard is meant as it stands."""
    plain = value.replace("*", "").replace("?", "")
    assert pattern_test(plain)(plain)
    assert pattern_test(f"*{plain}*")(f"x{plain}y")


@given(st.dates(), st.dates(), st.dates())
def test_ranges_of_dates(one: date, other: date, day: date) -> None:
    """Every date from the first to the last, both included."""
    low, high, value = (str(each).replace("-", "") for each in (one, other, day))
    first, last = sorted((low, high))
    assert date_test(f"{first}-{last}")(value) is (first <= value <= last)
    assert date_test(f"{first}-")(value) is (first <= value)
    assert date_test(f"-{last}")(value) is (value <= last)
    assert date_test(first)(value) is (first == value)


@given(st.times(), st.times(), st.times())
def test_ranges_of_times(one: time, other: time, moment: time) -> None:
    """Every time of the day from the first to the last, to the microsecond."""
    first, last = sorted((one, other))
    low, high, value = (f"{each:%H%M%S.%f}" for each in (first, last, moment))
    assert time_test(f"{low}-{high}")(value) is (first <= moment <= last)
    assert time_test(f"{low} -")(value) is (first <= moment)
    assert time_test(f"-{high}")(value) is (moment <= last)
    to_the_minute = last.replace(second=59, microsecond=999999)
    assert time_test(f"-{last:%H%M}")(value) is (moment <= to_the_minute)


@given(INSTANTS, INSTANTS, INSTANTS)
def test_ranges_of_dates_and_times(one: datetime, other: datetime, moment: datetime) -> None:
    """Every instant from the first to the last, wherever each was written down."""
    first, last = sorted((one, other))
    low, high, value = (f"{each:%Y%m%d%H%M%S.%f%z}" for each in (first, last, moment))
    for wanted, expected in {
        f"{low}-{high}": first <= moment <= last,
        f"{low}-": first <= moment,
        f"-{high}": moment <= last,
        low: first == moment,
    }.items():
        test = condition("DT", wanted)
        assert test is not None
        assert test(value) is expected


@given(st.dates(), st.times(), st.dates(), st.times(), st.dates(), st.times())
def test_combined_ranges(day: date, at: time, other_day: date, other_at: time, on: date, moment: time) -> None:
    """As if date and time were one value."""
    first, last = sorted((datetime.combine(day, at), datetime.combine(other_day, other_at)))
    test = combined_test(f"{in_digits(first)}-{in_digits(last)}", f"{first:%H%M%S.%f}-{last:%H%M%S.%f}")
    assert test(in_digits(on), f"{moment:%H%M%S.%f}") is (first <= datetime.combine(on, moment) <= last)


def in_digits(day: date) -> str:
    """Write a date as DA does: strftime of years before 1000 leaves zeros out."""
    return f"{day.year:04}{day:%m%d}"


def test_a_time_of_any_precision_stands_for_all_of_it() -> None:
    """Every hour, minute or second of the day, against every other."""
    hours, minutes = ("00", "07", "23"), ("00", "30", "59")
    moments = ["".join(parts) for parts in product(hours, minutes, minutes)]
    for precision, key, value in product((2, 4, 6), moments, moments):
        assert time_test(key[:precision])(value) is value.startswith(key[:precision])


def test_a_wildcard_query_cannot_keep_us_busy() -> None:
    """Each part is found at its first place and not looked for again, so that time is bounded by both lengths."""
    test = condition("LO", "*a" * 30 + "b")
    assert test is not None
    assert not test("a" * 10_000)
