"""How long, and how often, a destination is tried: what the site decided, and four pure rules."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cxr_triage.daemon.backoff import doubled

#: An object's own wait is twice its destination's, and the destination may then be left alone as long again.
_WAITS_PER_TRY: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long, and how often, to try."""

    #: Wait after the first failure; doubles each time.
    first: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(minutes=10)
    #: Offers of an object that a destination answers with a permanent failure.
    maximum_refusals: int = 3
    #: Age at which an object is given up that a destination does not take or does not answer for.
    give_up_after: timedelta = timedelta(hours=168)
    #: How often to look for work when nobody rings.
    poll: timedelta = timedelta(seconds=2)
    #: When a RIS is asked again about a study that it answered for; 0: not.
    again: timedelta = timedelta(0)


def pause(failures: int, *, patience: Patience, jitter: float) -> timedelta:
    """Say how long to leave a destination alone after so many failures in a row.

    Args:
        failures: 1 or more.
        patience: what the site decided.
        jitter: 0 to 1; takes away up to half, so that senders that failed together do not come back together.
    """
    whole = doubled(patience.first.total_seconds(), patience.longest.total_seconds(), failures=failures)
    return timedelta(seconds=whole * (1 - jitter / 2))


def put_behind(failures: int, *, patience: Patience) -> timedelta:
    """Say how long to keep an object back that got no answer: longer than its destination, so that others go first."""
    return 2 * pause(failures, patience=patience, jitter=0)


def next_offer(refusals: int, *, now: datetime, patience: Patience) -> datetime | None:
    """Say when to offer an object again that was refused so many times; None: give it up."""
    if refusals >= patience.maximum_refusals:
        return None
    return now + pause(refusals, patience=patience, jitter=0)


def is_spent(since: datetime, failures: int, *, now: datetime, patience: Patience) -> bool:
    """Whether it has been tried for long enough: by the clock, and by so many tries that they took about as long.

    The second lets nothing be given up because a clock was set, or because this service was off for a week.

    Args:
        since: when it began.
        failures: of the tries since then.
        now: UTC.
        patience: what the site decided.
    """
    tries = patience.give_up_after / (_WAITS_PER_TRY * patience.longest)
    return now - since >= patience.give_up_after and failures >= tries
