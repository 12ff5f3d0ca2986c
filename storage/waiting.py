"""How long one use of the database may wait in all: for its turn, for locks, for answers."""

import time
from typing import Final, Self

#: Our own transactions are milliseconds, so what takes this long is a broken machine, or somebody else's lock.
WAIT_SECONDS: Final = 30.0
#: Under this name a connection's execution options carry the deadline of its transaction.
DEADLINE: Final = "cxr_triage_deadline"


class Deadline:
    """The end of one wait, whatever it consists of."""

    def __init__(self, seconds: float) -> None:
        """Begin to wait."""
        self._ends_at = time.monotonic() + seconds

    @classmethod
    def usual(cls) -> Self:
        """Begin to wait as long as a use of the database may."""
        return cls(WAIT_SECONDS)

    @property
    def seconds_left(self) -> float:
        """0 when it is over."""
        return max(0.0, self._ends_at - time.monotonic())
