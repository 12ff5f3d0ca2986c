"""Mean waits that queueing theory gives for a priority list whose readers are never interrupted (Cobham 1954)."""

from collections.abc import Sequence
from math import factorial


def waits(arrivals: Sequence[float], *, readers: int, minutes: float, variation: float = 1.0) -> list[float]:
    """Mean wait of each class, the first being read first.

    Cobham, "Priority assignment in waiting line problems", Operations Research 2 (1954): with one reader for any
    distribution of reading times, with several for exponential ones that are the same for all classes.

    Args:
        arrivals: of each class, per minute, Poisson.
        readers: how many.
        minutes: mean reading time.
        variation: standard deviation of the reading time through its mean.

    Returns:
        Minutes.

    Raises:
        ValueError: more arrives than is read, or there are several readers and reading times are not exponential.
    """
    if readers > 1 and variation != 1.0:
        raise ValueError("several readers have a closed form for exponential reading times only")
    loads = [rate * minutes / readers for rate in arrivals]
    total = sum(loads)
    if total >= 1:
        raise ValueError(f"the readers' load is {total:.2f}: the list grows without end")
    if readers == 1:
        remaining = sum(arrivals) * minutes**2 * (1 + variation**2) / 2
    else:
        remaining = _erlang_c(readers, total * readers) * minutes / readers
    found, before = [], 0.0
    for load in loads:
        found.append(remaining / ((1 - before) * (1 - before - load)))
        before += load
    return found


def _erlang_c(readers: int, offered: float) -> float:
    """How likely it is that all readers are busy (Erlang's C formula); `offered` is below `readers`."""
    queued = offered**readers / factorial(readers) * readers / (readers - offered)
    return queued / (sum(offered**number / factorial(number) for number in range(readers)) + queued)
