"""How long to wait before what has failed is tried again. Roles differ in when they give up, not in this."""

from typing import Final

#: Past so many doublings every wait is the longest one, and the arithmetic must not overflow.
MAXIMUM_DOUBLINGS: Final = 62
#: Longest wait for a machine that is full or out of something: when that is over, work should go on soon.
LONGEST_FOR_MACHINE_SECONDS: Final = 60.0


def doubled(first_seconds: float, longest_seconds: float, *, failures: int) -> float:
    """The wait in seconds after so many failures in a row, at least one: it doubles each time, up to the longest."""
    return min(first_seconds * 2.0 ** min(failures - 1, MAXIMUM_DOUBLINGS), longest_seconds)
