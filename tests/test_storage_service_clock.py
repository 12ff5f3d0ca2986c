"""The service's time, under clocks that the test sets: steps, jumps, restarts of the machine."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builders import MORNING
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.service_clock import KEPT_EVERY, LONGEST_DOWNTIME, ServiceClock, boot_id, boottime_seconds

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
YEAR = timedelta(days=365)


class Machine:
    """A machine whose clock can be set, and which can be switched off."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "clock.json"
        self.wall = MORNING
        self.boottime = 1000.0
        self.boot = "first"

    def clock(self) -> ServiceClock:
        """What a process that starts now gets."""
        return ServiceClock(self.file, wall=lambda: self.wall, boottime=lambda: self.boottime, boot=lambda: self.boot)

    def run(self, time: timedelta) -> None:
        """Let time go by."""
        self.wall += time
        self.boottime += time.total_seconds()

    def set(self, by: timedelta) -> None:
        """Set the clock."""
        self.wall += by

    def restart(self, *, off: timedelta, clock_off_by: timedelta = timedelta(0)) -> None:
        """Switch off, and on again after a while; then up for twenty seconds."""
        self.wall += off + clock_off_by
        self.boot, self.boottime = f"after {self.boot}", 0.0
        self.run(20 * SECOND)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One that runs well."""
    return Machine(tmp_path)


def test_the_wall_clock_is_believed(machine: Machine) -> None:
    """As long as nothing happens, it is the service's time to the microsecond."""
    clock = machine.clock()
    machine.run(3 * DAY + timedelta(microseconds=1))
    assert (clock(), clock.reading().jumped) == (machine.wall, False)


@pytest.mark.parametrize("step", [59 * SECOND, -59 * SECOND])
def test_small_steps_are_followed(machine: Machine, step: timedelta) -> None:
    """NTP makes them."""
    clock = machine.clock()
    machine.set(step)
    assert (clock(), clock.reading().jumped) == (machine.wall, False)


def test_small_steps_may_add_up(machine: Machine) -> None:
    """For a process that reads the clock seldom too, since upkeep keeps the anchor at the wall clock."""
    upkeep, other = machine.clock(), machine.clock()
    for _ in range(10):
        machine.run(MINUTE)
        machine.set(40 * SECOND)
        upkeep.keep()
    assert (other(), other.reading().jumped) == (machine.wall, False)


@pytest.mark.parametrize("jump", [61 * SECOND, -61 * SECOND, 5 * YEAR, -10 * YEAR])
def test_time_goes_on_through_a_jump(machine: Machine, jump: timedelta) -> None:
    """As if nothing had happened; the jump is told, and how far it was."""
    upkeep, other = machine.clock(), machine.clock()
    upkeep.keep()
    machine.set(jump)
    machine.run(HOUR)
    upkeep.keep()
    late = machine.clock()
    for clock in (upkeep, other, late):
        reading = clock.reading()
        assert (reading.now, reading.jumped, reading.difference) == (MORNING + HOUR, True, jump)
        assert clock() == MORNING + HOUR


def test_a_process_that_never_saw_the_file_goes_on_too(machine: Machine) -> None:
    """It started before upkeep did."""
    clock = machine.clock()
    machine.set(YEAR)
    machine.run(MINUTE)
    assert clock() == MORNING + MINUTE


def test_a_clock_that_is_put_right_is_believed_again(machine: Machine) -> None:
    """Nobody has to say so."""
    clock = machine.clock()
    clock.keep()
    machine.set(YEAR)
    clock.keep()
    machine.run(HOUR)
    machine.set(-YEAR + SECOND)
    assert (clock(), clock.reading().jumped) == (machine.wall, False)


def test_a_jump_is_accepted(machine: Machine) -> None:
    """From then on the wall clock counts, for processes that start later; the anchor has another name."""
    clock = machine.clock()
    clock.keep()
    before = clock.anchor_name
    machine.set(YEAR)
    clock.accept()
    machine.run(MINUTE)
    later = machine.clock()
    assert [(each(), each.reading().jumped) for each in (clock, later)] == [(machine.wall, False)] * 2
    assert clock.anchor_name == later.anchor_name != before


def test_an_anchor_keeps_its_name(machine: Machine) -> None:
    """Through jumps and restarts, until a jump is accepted: what was moved once is not moved again."""
    clock = machine.clock()
    clock.keep()
    name = clock.anchor_name
    machine.set(YEAR)
    clock.keep()
    machine.restart(off=HOUR)
    later = machine.clock()
    later.keep()
    assert (clock.anchor_name, later.anchor_name, machine.clock().anchor_name) == (name, name, name)


@pytest.mark.parametrize("off", [timedelta(0), HOUR, 29 * DAY])
def test_the_wall_clock_is_believed_after_a_restart(machine: Machine, off: timedelta) -> None:
    """Nobody knows how long the machine was off, but it says so itself."""
    machine.clock().keep()
    machine.restart(off=off)
    clock = machine.clock()
    assert (clock(), clock.reading().jumped) == (MORNING + off + 20 * SECOND, False)


@pytest.mark.parametrize("wrong", [-2 * HOUR, -30 * YEAR, 5 * YEAR])
def test_a_clock_that_a_restart_set_wrong_is_not_believed(machine: Machine, wrong: timedelta) -> None:
    """As with an empty battery: time goes on, and never back, from when it was last known."""
    machine.clock().keep()
    machine.run(50 * SECOND)
    last = machine.clock()()
    machine.restart(off=HOUR, clock_off_by=wrong)
    receive, upkeep = machine.clock(), machine.clock()
    assert receive.reading().jumped
    assert last <= receive() <= last + KEPT_EVERY + 20 * SECOND
    upkeep.keep()
    machine.run(MINUTE)
    assert [clock.reading().jumped for clock in (receive, upkeep, machine.clock())] == [True] * 3
    assert receive() == upkeep() == machine.clock()()


def test_a_clock_that_is_put_right_after_a_restart_is_believed(machine: Machine) -> None:
    """NTP comes a little later than the service; then the time that the machine was off is known."""
    machine.clock().keep()
    machine.restart(off=7 * HOUR, clock_off_by=-30 * YEAR)
    clock, other = machine.clock(), machine.clock()
    clock.keep()
    assert other.reading().jumped
    machine.set(30 * YEAR)
    readings = [each.reading() for each in (clock, other, machine.clock())]
    assert [(reading.now, reading.jumped) for reading in readings] == [(MORNING + 7 * HOUR + 20 * SECOND, False)] * 3


def test_after_a_restart_a_jump_is_a_jump(machine: Machine) -> None:
    """The wall clock was believed once: from then on it may not leap a month."""
    machine.clock().keep()
    machine.restart(off=HOUR)
    clock = machine.clock()
    now = clock()
    machine.set(20 * DAY)
    assert (clock(), clock.reading().jumped) == (now, True)


@pytest.mark.parametrize("jump", [20 * DAY, -20 * DAY, 5 * YEAR])
def test_a_restart_accepts_no_jump(machine: Machine, jump: timedelta) -> None:
    """Not even one that might have been a long time off: nobody said that it was right."""
    clock = machine.clock()
    clock.keep()
    machine.set(jump)
    clock.keep()
    for _ in range(2):
        machine.restart(off=5 * MINUTE)
        clock = machine.clock()
        clock.keep()
        assert clock.reading().jumped
    machine.set(-jump)
    assert not clock.reading().jumped


def test_longer_off_than_anyone_believes(machine: Machine) -> None:
    """A person is asked."""
    machine.clock().keep()
    machine.restart(off=LONGEST_DOWNTIME + HOUR)
    assert machine.clock().reading().jumped


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"time": "now"}', b"\x00" * 200, b'"text"'])
def test_a_damaged_file_counts_as_none(machine: Machine, content: bytes) -> None:
    """The wall clock is all that is left."""
    machine.file.write_bytes(content)
    clock = machine.clock()
    assert (clock(), clock.reading().jumped) == (MORNING, False)


def test_a_file_that_was_lost_meanwhile_is_not_missed(machine: Machine) -> None:
    """What a process knows it knows; `keep` writes it again."""
    clock = machine.clock()
    clock.keep()
    machine.file.unlink()
    machine.set(YEAR)
    assert clock() == MORNING
    clock.keep()
    assert machine.clock()() == MORNING


def test_a_file_that_cannot_be_written(machine: Machine) -> None:
    """What was kept stays, and nothing is accepted."""
    clock = machine.clock()
    clock.keep()
    machine.file.with_suffix(".part").mkdir()
    machine.set(YEAR)
    for write in (clock.keep, clock.accept):
        with pytest.raises(StorageError, match=r"clock\.json"):
            write()
    assert (clock(), clock.reading().jumped, machine.clock()()) == (MORNING, True, MORNING)


def test_a_file_that_cannot_be_read_is_named(machine: Machine) -> None:
    """When a process starts; one that runs goes on by what it knows."""
    clock = machine.clock()
    machine.file.mkdir()
    with pytest.raises(StorageError, match=r"clock\.json"):
        machine.clock()
    machine.set(YEAR)
    assert clock() == MORNING


def test_what_is_kept_can_be_read(machine: Machine) -> None:
    """By a person too."""
    machine.clock().keep()
    kept = json.loads(machine.file.read_text())
    assert (kept["time"], kept["boot_id"]) == (MORNING.isoformat(), "first")


def test_the_real_clocks(tmp_path: Path) -> None:
    """Of this machine: its boot has a name, and CLOCK_BOOTTIME goes on."""
    clock = ServiceClock.of(tmp_path)
    clock.keep()
    before = boottime_seconds()
    assert abs(ServiceClock.of(tmp_path)() - datetime.now(UTC)) < MINUTE
    assert (len(boot_id()), boottime_seconds() >= before) == (36, True)
