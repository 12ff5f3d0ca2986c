"""The rules of trying again: pure, so every case can be named."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import MORNING
from cxr_triage.daemon.breaker import Stage, after_failure, after_success, stage
from cxr_triage.daemon.patience import Patience, is_spent, next_offer, pause, put_behind
from cxr_triage.storage.delivery_records import Circuit

MINUTE = timedelta(minutes=1)
LONGEST = 10 * MINUTE
CLOSED = Circuit()


@given(st.integers(min_value=1, max_value=10_000), st.floats(min_value=0, max_value=1))
def test_pauses_grow_up_to_a_limit(failures: int, jitter: float) -> None:
    """Doubling from the first to the longest, less up to half."""
    patience = Patience(first=timedelta(seconds=5), longest=timedelta(seconds=600))
    whole = min(5 * 2 ** (failures - 1), 600)
    chosen = pause(failures, patience=patience, jitter=jitter).total_seconds()
    assert whole / 2 - 1e-6 <= chosen <= whole + 1e-6
    assert put_behind(failures, patience=patience).total_seconds() > chosen


def test_an_object_is_given_up_after_the_configured_refusals() -> None:
    """The wait between two offers is the short one, which doubles."""
    patience = Patience(first=timedelta(seconds=5), maximum_refusals=3)
    offers = [next_offer(refusals, now=MORNING, patience=patience) for refusals in (1, 2, 3)]
    assert offers == [MORNING + timedelta(seconds=5), MORNING + timedelta(seconds=10), None]


def test_a_circuit_opens_at_a_failure_and_closes_at_a_success() -> None:
    """In between it says since when, until when, how often and why."""
    first = after_failure(CLOSED, "down", now=MORNING, pause=MINUTE)
    assert first == Circuit(failures=1, open_until=MORNING + MINUTE, reason="down", changed_at=MORNING)
    second = after_failure(first, "rejected", now=MORNING + MINUTE, pause=2 * MINUTE)
    assert second == Circuit(failures=2, open_until=MORNING + 3 * MINUTE, reason="rejected", changed_at=MORNING)
    assert after_success(MORNING + 3 * MINUTE) == Circuit(changed_at=MORNING + 3 * MINUTE)


def test_stages() -> None:
    """Closed, open while the pause lasts, then half-open until something is known."""
    opened = after_failure(CLOSED, "down", now=MORNING, pause=MINUTE)

    def at(minutes: float) -> Stage:
        return stage(opened, now=MORNING + minutes * MINUTE, longest=LONGEST)

    assert stage(CLOSED, now=MORNING, longest=LONGEST) is Stage.CLOSED
    assert [at(0), at(0.99), at(1), at(600)] == [Stage.OPEN, Stage.OPEN, Stage.HALF_OPEN, Stage.HALF_OPEN]


def test_a_clock_that_is_set_back_leaves_nobody_alone_for_years() -> None:
    """A pause that ends later than any pause can is over."""
    opened = after_failure(CLOSED, "down", now=MORNING + timedelta(days=4000), pause=LONGEST)
    assert stage(opened, now=MORNING, longest=LONGEST) is Stage.HALF_OPEN


@pytest.mark.parametrize(
    ("hours", "failures", "spent"),
    [
        (168, 10_000, True),
        (167, 10_000, False),
        # Off for a week, or the clock was set: a few tries do not take so long.
        (168, 3, False),
        (20_000, 3, False),
        (-20_000, 10_000, False),
        # As many as there are when each waits as long as it may: 168 hours of 4 times 10 minutes.
        (168, 252, True),
        (168, 251, False),
    ],
)
def test_giving_up_takes_both_the_age_and_the_tries(hours: float, failures: int, spent: bool) -> None:
    """So that no clock gives anything up by itself."""
    patience = Patience(longest=LONGEST, give_up_after=timedelta(hours=168))
    assert is_spent(MORNING, failures, now=MORNING + timedelta(hours=hours), patience=patience) is spent
