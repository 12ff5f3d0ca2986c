"""A discrete-event simulation of the readers: whenever one is free, the live scheduler says which study is next."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final

from cxr_triage.daemon.simulation.cases import Case
from cxr_triage.daemon.simulation.scenario import Readers
from cxr_triage.model.priority import Policy, Priority, next_to_read, prioritise

#: What minutes are counted from; any day would do.
MIDNIGHT: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """What became of one study, in minutes."""

    #: From arrival until a reader opened it.
    waited: float
    #: From arrival until he was done.
    turnaround: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Waiting:
    """A study on the list: what `model.priority` ranks."""

    case: Case
    study_instance_uid: str
    arrived_at: datetime
    priority: Priority
    priority_without_findings: Priority
    claimed_at: None = None
    remarks: tuple[str, ...] = ()


class _Kind(IntEnum):
    """Events of one instant happen in this order: whoever is free looks at the list when it is complete."""

    ARRIVED = 0
    SCORED = 1
    DONE = 2
    SHIFT = 3


def read_all(cases: Sequence[Case], *, readers: Readers, policy: Policy, scoring_minutes: float) -> list[Read]:
    """Read every study once; a study that a reader has opened is no longer on the list.

    Args:
        cases: by rising time of arrival, numbered from 0.
        readers: who reads, and when.
        policy: what findings may do.
        scoring_minutes: from arrival until findings are known.

    Returns:
        What became of each, in the order of the cases.
    """
    return _Room(cases, readers, policy, scoring_minutes).run()


class _Room:
    def __init__(self, cases: Sequence[Case], readers: Readers, policy: Policy, scoring_minutes: float) -> None:
        self._cases = cases
        self._readers = readers
        self._policy = policy
        self._list: dict[int, _Waiting] = {}
        self._reading = 0
        self._read: dict[int, Read] = {}
        self._events: list[tuple[float, _Kind, int]] = [(case.arrived, _Kind.ARRIVED, case.number) for case in cases]
        self._events += [(case.arrived + scoring_minutes, _Kind.SCORED, case.number) for case in cases if case.findings]
        if readers.by_hour:
            self._events.append((0.0, _Kind.SHIFT, 0))
        heapq.heapify(self._events)

    def run(self) -> list[Read]:
        while len(self._read) < len(self._cases) or self._reading:
            now, kind, number = heapq.heappop(self._events)
            if kind is _Kind.ARRIVED:
                self._list[number] = self._waiting(self._cases[number], scored=False)
            elif kind is _Kind.SCORED and number in self._list:
                self._list[number] = self._waiting(self._cases[number], scored=True)
            elif kind is _Kind.DONE:
                self._reading -= 1
            elif kind is _Kind.SHIFT:
                heapq.heappush(self._events, (now + 60.0, _Kind.SHIFT, number + 1))
            if not self._events or self._events[0][0] > now:
                self._hand_out(now)
        return [self._read[case.number] for case in self._cases]

    def _hand_out(self, now: float) -> None:
        """Give each free reader the study that the list says; who goes off duty finishes what he has open."""
        moment = MIDNIGHT + timedelta(minutes=now)
        while self._reading < self._on_duty(now):
            following = next_to_read(self._list.values(), now=moment, policy=self._policy)
            if following is None:
                return
            case = following.case
            del self._list[case.number]
            self._reading += 1
            done = now + case.reading_minutes
            self._read[case.number] = Read(waited=now - case.arrived, turnaround=done - case.arrived)
            heapq.heappush(self._events, (done, _Kind.DONE, case.number))

    def _on_duty(self, now: float) -> int:
        hours = self._readers.by_hour
        return hours[int(now // 60) % len(hours)] if hours else self._readers.number

    def _waiting(self, case: Case, *, scored: bool) -> _Waiting:
        arrived_at = MIDNIGHT + timedelta(minutes=case.arrived)
        findings = case.findings if scored else ()
        plain = prioritise((), ordered=case.ordered, arrived_at=arrived_at, policy=self._policy)
        moved = prioritise(findings, ordered=case.ordered, arrived_at=arrived_at, policy=self._policy)
        return _Waiting(
            case=case,
            study_instance_uid=f"2.25.{case.number}",
            arrived_at=arrived_at,
            priority=moved,
            priority_without_findings=plain,
        )
