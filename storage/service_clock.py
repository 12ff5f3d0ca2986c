"""The service's time: that of the machine's clock, unless somebody set that clock while the service relied on it.

Leases, back-off, ageing and retention compare times that lie days apart with the present. A clock that is set by years
would make a delivery wait for years, or every study overdue: docs/decisions/0012-service-clock.md.
"""

import json
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol, Self

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.disk import replace_file

#: How far the wall clock may step and is followed: NTP's steps are shorter, and no wait of ours is decided by this.
TOLERANCE: Final = timedelta(seconds=60)
#: How long a machine may have been switched off without anyone being asked whether its clock is right.
LONGEST_DOWNTIME: Final = timedelta(days=30)
#: How often the service's time is to be kept on disk (`ServiceClock.keep`).
KEPT_EVERY: Final = timedelta(seconds=60)
#: Changes with every start of the machine (random(4)).
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Name this run of the machine."""
    return _BOOT_ID.read_text().strip()


def boottime_seconds() -> float:
    """Seconds since the machine was started, also those that it slept; nobody can set this clock (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One look at the clocks."""

    #: What the machine's clock says, UTC.
    wall: datetime
    #: The service's time, UTC.
    now: datetime
    #: Whether the machine's clock was set while nobody has said that this was right; then `now` is not `wall`.
    jumped: bool

    @property
    def difference(self) -> timedelta:
        """How far the machine's clock is ahead of the service's time."""
        return self.wall - self.now


@dataclass(frozen=True, kw_only=True, slots=True)
class _Anchor:
    """What the service's time was at one moment of a boot: from there it goes on as CLOCK_BOOTTIME does."""

    boot_id: str
    boottime_seconds: float
    time: datetime
    #: The machine was off before that, and nobody knows yet for how long.
    downtime_unknown: bool = False
    #: How far the wall clock was ahead when it was last not believed; 0 = it is believed.
    refused_seconds: float = 0.0
    #: Stays until a person accepts the wall clock.
    name: str

    def at(self, boottime: float) -> datetime:
        return self.time + timedelta(seconds=boottime - self.boottime_seconds)

    def believes(self, wall: datetime, boottime: float) -> bool:
        """Whether the wall clock may be right."""
        ahead = wall - self.at(boottime)
        if not self.downtime_unknown:
            return abs(ahead) <= TOLERANCE
        refused = timedelta(seconds=self.refused_seconds)
        # Set forward and still so after a short time off looks like right after a long one: a person decides.
        still_refused = refused > timedelta(0) and _is_downtime(ahead - refused)
        return _is_downtime(ahead) and not still_refused


def _is_downtime(ahead: timedelta) -> bool:
    # `ServiceClock` goes on from the kept time and what may have been missed, so the wall clock may be behind that.
    return -TOLERANCE - KEPT_EVERY <= ahead <= LONGEST_DOWNTIME


class ReadableClock(Protocol):
    """A clock that also says whether the machine's is believed."""

    def __call__(self) -> datetime:
        """Give the service's time."""

    def reading(self) -> Reading:
        """Look at the clocks."""


class ServiceClock:
    """The wall clock, as long as it can be believed; else the service's own time, which only ever goes on.

    Every process of one machine comes to the same time: from an anchor in a file that upkeep renews, and from a clock
    that all of them share and that nobody can set. Threads may share it.
    """

    def __init__(
        self,
        file: Path,
        *,
        wall: Clock = utc_now,
        boottime: Callable[[], float] = boottime_seconds,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        """Read the file, if it is there; `keep` writes it.

        Args:
            file: of the anchor, the same one for every process of this machine and for none of another.
            wall: the clock that may jump.
            boottime: seconds since the machine was started.
            boot: names this run of the machine.

        Raises:
            StorageError: the file is there and cannot be read.
        """
        self._file = file
        self._wall = wall
        self._boottime = boottime
        self._boot_id = boot()
        self._anchor = self._first_anchor(_read(file))

    @classmethod
    def of(cls, run_folder: Path) -> Self:
        """Give the clock of the service that has this run folder.

        Raises:
            StorageError: its file cannot be read.
        """
        return cls(run_folder / "clock.json")

    def __call__(self) -> datetime:
        """Give the service's time."""
        return self.reading().now

    def reading(self) -> Reading:
        """Look at the clocks."""
        return self._look()[0]

    @property
    def anchor_name(self) -> str:
        """Name what the service's time is counted from; `accept` begins to count anew."""
        return self._anchor.name

    def keep(self) -> None:
        """Bring the service's time to the disk, for other processes and for after a restart of the machine.

        One process does so, every `KEPT_EVERY`.

        Raises:
            StorageError: it cannot be written; what was kept before stays, and stays right.
        """
        reading, boottime = self._look()
        self._keep(
            replace(
                self._anchor,
                time=reading.now,
                boottime_seconds=boottime,
                refused_seconds=reading.difference.total_seconds(),
            )
        )

    def accept(self) -> None:
        """Believe the wall clock from now on: what the ledger holds must have been moved by the difference.

        Raises:
            StorageError: it cannot be written: the wall clock is believed no more than before.
        """
        self._keep(self._new_anchor(self._wall(), self._boottime(), _fresh_name()))

    def _look(self) -> tuple[Reading, float]:
        """Look at the clocks, CLOCK_BOOTTIME among them."""
        anchor, wall, boottime = self._anchor, self._wall(), self._boottime()
        if not anchor.believes(wall, boottime):
            anchor = self._anchor = self._renewed_anchor()
        if not anchor.believes(wall, boottime):
            return Reading(wall=wall, now=anchor.at(boottime), jumped=True), boottime
        if anchor.downtime_unknown:
            self._anchor = self._new_anchor(wall, boottime, anchor.name)
        return Reading(wall=wall, now=wall, jumped=False), boottime

    def _keep(self, anchor: _Anchor) -> None:
        try:
            replace_file(self._file, json.dumps(asdict(anchor) | {"time": anchor.time.isoformat()}))
        except OSError as error:
            raise StorageError(
                f"{self._file} cannot be written: {error.strerror}; check free space and owner"
            ) from error
        self._anchor = anchor

    def _first_anchor(self, kept: _Anchor | None) -> _Anchor:
        if kept is None:
            return self._new_anchor(self._wall(), self._boottime(), _fresh_name())
        if kept.boot_id == self._boot_id:
            return kept
        return _Anchor(
            boot_id=self._boot_id,
            boottime_seconds=0.0,
            # Never earlier than the last transition before the machine stopped.
            time=kept.time + KEPT_EVERY,
            downtime_unknown=True,
            refused_seconds=kept.refused_seconds,
            name=kept.name,
        )

    def _renewed_anchor(self) -> _Anchor:
        """The file's, which has followed the small steps of the wall clock that add up; else what is known already."""
        with suppress(StorageError):
            kept = _read(self._file)
            if kept is not None and kept.boot_id == self._boot_id:
                return kept
        return self._anchor

    def _new_anchor(self, wall: datetime, boottime: float, name: str) -> _Anchor:
        return _Anchor(boot_id=self._boot_id, boottime_seconds=boottime, time=wall, name=name)


def _fresh_name() -> str:
    return secrets.token_hex(8)


def _read(file: Path) -> _Anchor | None:
    """Read an anchor; None: there is none, or it is damaged.

    Raises:
        StorageError: it may not be read.
    """
    try:
        kept: Any = json.loads(file.read_bytes())
        return _Anchor(
            boot_id=str(kept["boot_id"]),
            boottime_seconds=float(kept["boottime_seconds"]),
            time=datetime.fromisoformat(kept["time"]).astimezone(UTC),
            downtime_unknown=bool(kept["downtime_unknown"]),
            refused_seconds=float(kept["refused_seconds"]),
            name=str(kept["name"]),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror}; check its owner") from error
    except (ValueError, TypeError, KeyError):
        return None
