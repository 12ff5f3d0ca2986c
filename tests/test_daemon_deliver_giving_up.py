"""When an object is given up, with what reason, and how it comes back."""

from datetime import timedelta
from pathlib import Path

import pytest
from pynetdicom.events import Event

from cxr_triage.daemon.deliver import Courier
from cxr_triage.daemon.patience import Patience
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.ledger import Dispatch
from cxr_triage.storage.result_records import ResultObject
from deliveries import HASTY, LEASE, NEVER, Pacs, Results, couriers
from peers import LOOPBACK, REFUSED_CONNECTION, eventually, free_port, storescp
from steps import SetClock

#: What became of two studies, the SEG of one of which has no file.
ENDS = (DeliveryState.STORED, DeliveryState.DEAD, DeliveryState.PENDING)
MINUTE = timedelta(minutes=1)
#: Every pause ten minutes; an hour until an object is given up.
AN_HOUR = Patience(first=10 * MINUTE, longest=10 * MINUTE, give_up_after=timedelta(hours=1))


def dispatch(results: Results) -> Dispatch:
    """Give what a person replays by."""
    return Dispatch(results.database, lease=LEASE, clock=results.clock)


def try_for(results: Results, courier: Courier, duration: timedelta) -> None:
    """Let time pass in steps of ten minutes, and the courier do what is due at each."""
    clock = results.clock
    assert isinstance(clock, SetClock)
    end = clock() + duration
    while clock() < end:
        while courier.deliver_batch(NEVER):
            pass
        clock.move(10 * MINUTE)


@pytest.fixture
def aging(results: Results) -> Results:
    """Give results under a clock that a test moves."""
    results.clock = SetClock(utc_now())
    return results


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_a_pacs_that_stays_away_ends_in_dead_letters(aging: Results, tmp_path: Path) -> None:
    """At the stated age, with the reason; what is younger stays; and a replay brings the dead ones there."""
    aging.report("pacs")
    port = free_port()
    courier = aging.courier(port, patience=AN_HOUR)
    try_for(aging, courier, 30 * MINUTE)
    aging.report("pacs")
    try_for(aging, courier, 30 * MINUTE)
    assert aging.states() == {DeliveryState.PENDING: 4}
    try_for(aging, courier, 10 * MINUTE)
    assert aging.states() == {DeliveryState.PENDING: 2, DeliveryState.DEAD: 2}
    (reason,) = aging.errors() - {None}
    assert str(reason).startswith(f"given up after 1 h: PACS at {LOOPBACK} port {port} gave no DICOM answer")
    assert aging.told("delivery_dead") == 2
    assert dispatch(aging).replay_dead("pacs") == 2
    with storescp(tmp_path / "pacs", port=port):
        try_for(aging, courier, 20 * MINUTE)
    assert aging.states() == {DeliveryState.STORED: 4}


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_a_replay_starts_the_age_anew(aging: Results) -> None:
    """Or it would be given up at the next failure."""
    aging.report("pacs")
    courier = aging.courier(free_port(), patience=AN_HOUR)
    try_for(aging, courier, 70 * MINUTE)
    assert aging.states() == {DeliveryState.DEAD: 2}
    dispatch(aging).replay_dead("pacs")
    try_for(aging, courier, 50 * MINUTE)
    assert aging.states() == {DeliveryState.PENDING: 2}
    try_for(aging, courier, 20 * MINUTE)
    assert aging.states() == {DeliveryState.DEAD: 2}


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_a_clock_that_jumps_gives_nothing_up(aging: Results) -> None:
    """Nor does a week in which nobody tried: the age alone does not count."""
    aging.report("pacs")
    courier = aging.courier(free_port(), patience=Patience(first=10 * MINUTE))
    try_for(aging, courier, 30 * MINUTE)
    assert isinstance(aging.clock, SetClock)
    aging.clock.move(timedelta(days=4000))
    try_for(aging, courier, 30 * MINUTE)
    assert aging.states() == {DeliveryState.PENDING: 2}


def test_a_pacs_that_stays_full_ends_in_dead_letters(aging: Results) -> None:
    """Like one that is away."""
    pacs = Pacs(statuses=[0xA700])
    aging.report("pacs")
    with pacs.serving() as port:
        courier = aging.courier(port, patience=AN_HOUR)
        try_for(aging, courier, 60 * MINUTE)
        assert aging.states() == {DeliveryState.PENDING: 2}
        try_for(aging, courier, 20 * MINUTE)
    assert aging.states() == {DeliveryState.DEAD: 2}
    assert f"given up after 1 h: PACS at {LOOPBACK} port {port} cannot store now (status 0xA700)" in aging.errors()


def test_a_pacs_that_was_full_for_a_while_gets_everything(aging: Results) -> None:
    """Far more answers than refusals are allowed."""
    pacs = Pacs(statuses=[0xA700] * (2 * HASTY.maximum_refusals) + [0x0000])
    aging.report("pacs")
    with pacs.serving() as port:
        try_for(aging, aging.courier(port, patience=Patience(first=10 * MINUTE)), 120 * MINUTE)
    assert aging.states() == {DeliveryState.STORED: 2}
    assert {row.refusals for row in aging.rows()} == {0}


def test_an_object_that_a_pacs_cannot_bear_is_given_up_alone(aging: Results) -> None:
    """The PACS answers C-ECHO and takes the others meanwhile; the SR that cites it is counted as held back."""
    unbearable, _ = aging.report("pacs")
    pacs = Pacs(unbearable=unbearable.sop_instance_uid)
    with pacs.serving() as port:
        courier = aging.courier(port, patience=AN_HOUR)
        for _ in range(10):
            aging.report("pacs")
            try_for(aging, courier, 10 * MINUTE)
        try_for(aging, courier, 20 * MINUTE)
    assert aging.states() == {DeliveryState.STORED: 20, DeliveryState.DEAD: 1, DeliveryState.PENDING: 1}
    assert aging.counts().held_back == {"pacs": 1}


@pytest.mark.parametrize("status", [0xC000, 0xA900, 0x0124])
def test_a_refused_object_is_given_up_with_a_reason(results: Results, status: int) -> None:
    """After the configured number of offers a person must look; the SR waits for its SEG."""
    pacs = Pacs(statuses=[status])
    results.report("pacs", "beside")
    with (
        pacs.serving() as port,
        Pacs().serving() as beside,
        couriers(results.courier(port), results.courier(beside, name="beside")),
    ):
        eventually(lambda: DeliveryState.DEAD in results.states())
        eventually(lambda: results.states("beside") == {DeliveryState.STORED: 2})
    assert results.states() == {DeliveryState.DEAD: 1, DeliveryState.PENDING: 1}
    assert len(pacs.asked) == HASTY.maximum_refusals
    assert results.errors() == {None, f"PACS at {LOOPBACK} port {port} answered C-STORE with status 0x{status:04X}"}
    assert (results.told("delivery_dead"), results.counts().held_back) == (1, {"pacs": 1})
    assert results.circuit().changed_at is None


def test_a_restart_gives_no_further_chances(aging: Results) -> None:
    """Refusals are counted in the ledger; the wait between them is the short one, whatever the longest is."""
    pacs = Pacs(statuses=[0xC000])
    aging.report("pacs")
    assert isinstance(aging.clock, SetClock)
    patience = Patience(first=timedelta(seconds=5), longest=timedelta(hours=1), maximum_refusals=3)
    offers = []
    with pacs.serving() as port:
        for _ in range(20):
            aging.courier(port, patience=patience).deliver_batch(NEVER)
            offers.append(len(pacs.asked))
            aging.clock.move(timedelta(seconds=2.5))
    assert offers == [1, 1, 2, 2, 2, 2, 3] + 13 * [3]
    assert aging.states() == {DeliveryState.DEAD: 1, DeliveryState.PENDING: 1}


def test_a_replay_gives_all_chances_again(results: Results) -> None:
    """And what is taken then takes its SR along."""
    pacs = Pacs(statuses=[0xC000] * (2 * HASTY.maximum_refusals - 1) + [0x0000])
    results.report("pacs")
    with pacs.serving() as port, couriers(results.courier(port)):
        eventually(lambda: DeliveryState.DEAD in results.states())
        assert dispatch(results).replay_dead("pacs") == 1
        eventually(lambda: results.states() == {DeliveryState.STORED: 2})
    assert len(pacs.asked) == 2 * HASTY.maximum_refusals + 1


def test_a_refused_object_does_not_hold_up_others(results: Results) -> None:
    """The same association carries on with the next one."""
    pacs = Pacs(statuses=[0xA900, 0x0000])
    results.report("pacs")
    results.report("pacs")
    with pacs.serving() as port:
        assert results.courier(port, patience=Patience()).deliver_batch(NEVER)
    assert len(pacs.asked) == 2
    assert results.states() == {DeliveryState.STORED: 1, DeliveryState.PENDING: 3}


@pytest.mark.parametrize("content", [b"", bytes(4096), bytes(128) + b"DICM", None])
def test_a_file_that_is_damaged_or_gone_is_no_refusal(results: Results, content: bytes | None) -> None:
    """It is given up at once with a reason of its own, the others go, and it goes too once it is mended."""
    damaged, _ = results.report("pacs")
    results.report("pacs")
    path = results.outbox.absolute(damaged.path)
    whole = path.read_bytes()
    spoil(path, content)
    pacs = Pacs()
    with pacs.serving() as port:
        courier = results.courier(port)
        while courier.deliver_batch(NEVER):
            pass
        assert results.states() == {DeliveryState.STORED: 2, DeliveryState.DEAD: 1, DeliveryState.PENDING: 1}
        what = "gone" if content is None else "damaged"
        words = f"its file in the outbox is {what}: restore it from a backup, then replay"
        assert results.errors() == {None, words}
        assert {row.refusals for row in results.rows()} == {0}
        path.write_bytes(whole)
        assert dispatch(results).replay_object(damaged.sop_instance_uid, ["pacs"]) == ["pacs"]
        while courier.deliver_batch(NEVER):
            pass
    assert results.states() == {DeliveryState.STORED: 4}


def spoil(path: Path, content: bytes | None) -> None:
    """Put something else into a file, or nothing into its place."""
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def test_a_file_that_goes_while_it_is_sent_is_not_the_fault_of_the_pacs(results: Results) -> None:
    """It was there when the batch was looked at: the association is given up, the destination is not left alone."""
    results.report("pacs")
    later, _ = results.report("pacs")

    class Remover(Pacs):
        """Takes the second file away while the first is being stored."""

        def answer(self, event: Event) -> int:
            results.outbox.discard(later.path)
            return super().answer(event)

    with Remover().serving() as port, couriers(results.courier(port)):
        eventually(lambda: results.states() == {state: 2 if state is DeliveryState.STORED else 1 for state in ENDS})
    assert "its file in the outbox is gone: restore it from a backup, then replay" in results.errors()
    assert results.told("delivery_retried") == 1
    assert results.circuit().changed_at is None


def test_a_file_of_another_object_is_never_sent(results: Results) -> None:
    """Its data set may be whole; its UID is not the one that was made."""
    first, _ = results.report("pacs")
    results.report("pacs")
    path = results.outbox.absolute(first.path)
    path.write_bytes(path.read_bytes().replace(first.sop_instance_uid.encode(), other_uid(first).encode(), 1))
    pacs = Pacs()
    with pacs.serving() as port:
        assert results.courier(port).deliver_batch(NEVER)
    assert results.states() == {DeliveryState.STORED: 1, DeliveryState.DEAD: 1, DeliveryState.PENDING: 2}


def other_uid(made: ResultObject) -> str:
    """Give a UID of the same length."""
    return made.sop_instance_uid[:-1] + str((int(made.sop_instance_uid[-1]) + 1) % 10)


def test_one_changed_bit_is_never_sent(results: Results) -> None:
    """A PACS must not get two contents under one UID."""
    damaged, _ = results.report("pacs")
    path = results.outbox.absolute(damaged.path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    pacs = Pacs()
    with pacs.serving() as port:
        assert results.courier(port).deliver_batch(NEVER)
    assert (pacs.asked, results.states()) == ([], {DeliveryState.DEAD: 1, DeliveryState.PENDING: 1})


def test_an_outbox_that_is_not_mounted_costs_time_only(aging: Results, tmp_path: Path) -> None:
    """Its folders come back, and everything goes."""
    aging.report("pacs")
    with Pacs().serving() as port:
        courier = aging.courier(port, patience=Patience(first=10 * MINUTE))
        (tmp_path / "outbox").rename(tmp_path / "unmounted")
        (tmp_path / "outbox").mkdir()
        try_for(aging, courier, 60 * MINUTE)
        assert aging.states() == {DeliveryState.PENDING: 2}
        assert "its file in the outbox cannot be read (No such file or directory)" in aging.errors()
        (tmp_path / "outbox").rmdir()
        (tmp_path / "unmounted").rename(tmp_path / "outbox")
        try_for(aging, courier, 20 * MINUTE)
    assert aging.states() == {DeliveryState.STORED: 2}
