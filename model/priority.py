"""Findings -> Priority -> order: pure functions, without clock or database. Rules: docs/explanation/priority.md."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Generic, Protocol, TypeVar

from cxr_triage.model.findings import ABNORMALITIES, ABNORMALITY_BY_NAME, Finding


class Level(IntEnum):
    """Requested Procedure Priority (0040,1003), defined terms of PS3.3 C.4.11, most urgent first."""

    STAT = 0
    HIGH = 1
    ROUTINE = 2
    MEDIUM = 3
    LOW = 4


class Mode(StrEnum):
    """What the site lets the network do."""

    #: Findings move studies.
    REORDER = "reorder"
    #: Findings are shown; the order is the ordered one.
    ADVISE = "advise"
    #: Findings are stored only.
    SHADOW = "shadow"


def _default_severity() -> dict[str, float]:
    return {abnormality.name: abnormality.severity for abnormality in ABNORMALITIES}


def _default_maximum_wait() -> dict[Level, timedelta]:
    return {
        Level.STAT: timedelta(hours=1),
        Level.HIGH: timedelta(hours=4),
        Level.ROUTINE: timedelta(hours=24),
        Level.MEDIUM: timedelta(hours=48),
        Level.LOW: timedelta(hours=72),
    }


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a site decides. Its digest is part of every revision.

    Raises:
        ValueError: the network would be let into STAT, a label is unknown, a weight is not within 0 to 1, or a
            maximum wait is not positive.
    """

    mode: Mode = Mode.REORDER
    #: The highest level that a finding may raise a study to; never STAT.
    raise_to: Level = Level.HIGH
    #: Weight per label, 0 (this label moves nothing) to 1; labels left out keep their default.
    severity: Mapping[str, float] = field(default_factory=_default_severity)
    #: Longest wait per ordered level, past which a study is overdue; levels left out keep their default.
    maximum_wait: Mapping[Level, timedelta] = field(default_factory=_default_maximum_wait)

    def __post_init__(self) -> None:
        """Complete the tables, then refuse what cannot be meant."""
        object.__setattr__(self, "severity", _default_severity() | dict(self.severity))
        object.__setattr__(self, "maximum_wait", _default_maximum_wait() | dict(self.maximum_wait))
        if self.raise_to is Level.STAT:
            raise ValueError("raise_to is STAT: only a person orders STAT; use HIGH or a less urgent level")
        for label, weight in self.severity.items():
            if label not in ABNORMALITY_BY_NAME:
                raise ValueError(f"severity names {label!r}: use one of {', '.join(ABNORMALITY_BY_NAME)}")
            if not 0.0 <= weight <= 1.0:
                raise ValueError(f"severity of {label} is {weight}: use a number from 0 to 1")
        for level, wait in self.maximum_wait.items():
            if wait <= timedelta(0):
                raise ValueError(f"maximum_wait of {level.name} is {wait}: use a time longer than zero")

    def without_moves(self) -> "Policy":
        """Give what is in force while a person has paused triage: findings are shown at most, and move nothing."""
        return replace(self, mode=Mode.ADVISE) if self.mode is Mode.REORDER else self

    def digest(self) -> str:
        """SHA-256 of the whole policy as canonical JSON, lower-case hex: equal digests, equal order."""
        content = {
            "mode": self.mode.value,
            "raise_to": self.raise_to.name,
            "severity": {label: float(weight) for label, weight in self.severity.items()},
            "maximum_wait_seconds": {level.name: wait.total_seconds() for level, wait in self.maximum_wait.items()},
        }
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Priority:
    """Where a study belongs, and why. Time-free: `overdue_at` says when the answer changes."""

    #: What was ordered.
    ordered: Level
    #: What it is read as: never less urgent than `ordered`.
    effective: Level
    #: Maximum over the present findings of calibrated probability x severity weight, 0 to 1; 0 without findings.
    utility: float
    #: One sentence for a person: the finding, its probability, the threshold, the rule. No patient data.
    reason: str
    #: UTC.
    overdue_at: datetime


#: 0 = claimed, class at that instant, 0 = overdue, -utility, time, Study Instance UID: the smallest is read first.
SortKey = tuple[int, int, int, float, datetime, str]


def prioritise(
    findings: Iterable[Finding],
    *,
    ordered: Level,
    arrived_at: datetime,
    policy: Policy,
    model: str = "",
    images: Mapping[Finding, str] | None = None,
) -> Priority:
    """Say where a study belongs.

    Args:
        findings: of all scored images of the study; none = nothing is known yet, and nothing moves.
        ordered: what a person ordered; the answer is never less urgent.
        arrived_at: when the study's first image was acknowledged, UTC.
        policy: what the site decided.
        model: name and version of the weights, for the reason; empty = not said.
        images: of which image a finding is, for the reason, as in "frontal image 2"; None or left out = not said.
    """
    shown = [] if policy.mode is Mode.SHADOW else [finding for finding in findings if finding.present]
    leading = _leading_finding(shown, policy)
    moved = leading is not None and policy.mode is Mode.REORDER
    return Priority(
        ordered=ordered,
        effective=min(ordered, policy.raise_to) if moved else ordered,
        utility=0.0 if leading is None else _utility(leading, policy),
        reason=_reason(leading, shown, ordered=ordered, policy=policy, source=_source(leading, model, images or {})),
        overdue_at=arrived_at + policy.maximum_wait[ordered],
    )


def sort_key(
    priority: Priority,
    *,
    arrived_at: datetime,
    study_instance_uid: str,
    now: datetime,
    policy: Policy,
    claimed_at: datetime | None = None,
) -> SortKey:
    """Give the place of a study at one instant: sort ascending, the first is read first.

    A study that a reader has opened stays where it is, ahead of all that wait and in the order in which they were
    opened, whatever becomes known of it.

    Findings order studies inside a class only up to the level that they may raise to, so that no finding ever
    lets a study pass an ordered STAT. Overdue studies go by how long they are overdue, whatever was found.
    """
    if claimed_at is not None:
        return (0, 0, 0, 0.0, claimed_at, study_instance_uid)
    level = level_at(priority, now=now)
    if is_overdue(priority, now=now):
        return (1, level, 0, 0.0, priority.overdue_at, study_instance_uid)
    findings_count = policy.mode is Mode.REORDER and level >= policy.raise_to
    return (1, level, 1, -priority.utility if findings_count else 0.0, arrived_at, study_instance_uid)


def is_overdue(priority: Priority, *, now: datetime) -> bool:
    """Whether the study has waited longer than its ordered level may."""
    return now > priority.overdue_at


def level_at(priority: Priority, *, now: datetime) -> Level:
    """Give the class that a study is read in at one instant.

    An overdue study is read as HIGH at least, also where findings may raise to a less urgent level only: nothing
    but an ordered STAT or a study that is overdue for longer may overtake it.
    """
    return min(priority.effective, Level.HIGH) if is_overdue(priority, now=now) else priority.effective


class Rankable(Protocol):
    """A study that can be put in order."""

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID (0020,000D)."""

    @property
    def arrived_at(self) -> datetime:
        """When its first image was acknowledged, UTC."""

    @property
    def claimed_at(self) -> datetime | None:
        """When a reader opened it, UTC; None: it waits."""

    @property
    def priority(self) -> Priority:
        """What the policy made of the findings so far."""

    @property
    def priority_without_findings(self) -> Priority:
        """What the same policy makes of it without findings."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was not done for it, and why: one sentence each, without patient data."""


Study = TypeVar("Study", bound=Rankable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked(Generic[Study]):
    """A study with its place on the list at one instant."""

    study: Study
    #: Place on the list, 1 = read first.
    rank: int
    #: Place under the same policy at the same instant without findings.
    ordered_rank: int
    #: The class that it is read in now: `priority.effective`, or more urgent when overdue.
    level: Level
    overdue: bool
    #: Why it has this place: the reason of the priority, the waiting rule where that applies, and what was not done
    #: for it. No patient data.
    reason: str


def rank(studies: Iterable[Study], *, now: datetime, policy: Policy) -> list[Ranked[Study]]:
    """Put studies in the order in which they are to be read: the one order that every face shows.

    Args:
        studies: in any order, each Study Instance UID once; prioritised under `policy`.
        now: the instant that decides what is overdue, UTC.
        policy: what the site decided.
    """
    by_uid = {study.study_instance_uid: study for study in studies}
    order = sorted(by_uid, key=lambda uid: _place(by_uid[uid], by_uid[uid].priority, now, policy))
    ordered = sorted(by_uid, key=lambda uid: _place(by_uid[uid], by_uid[uid].priority_without_findings, now, policy))
    ordered_rank = {uid: number for number, uid in enumerate(ordered, start=1)}
    return [
        Ranked(
            study=by_uid[uid],
            rank=number,
            ordered_rank=ordered_rank[uid],
            level=level_at(by_uid[uid].priority, now=now),
            overdue=is_overdue(by_uid[uid].priority, now=now),
            reason=" ".join((reason_at(by_uid[uid].priority, now=now, policy=policy), *by_uid[uid].remarks)),
        )
        for number, uid in enumerate(order, start=1)
    ]


def next_to_read(studies: Iterable[Study], *, now: datetime, policy: Policy) -> Study | None:
    """Give the study that `rank` puts first of those that nobody reads yet; None where there is none."""
    waiting = (study for study in studies if study.claimed_at is None)
    return min(waiting, key=lambda study: _place(study, study.priority, now, policy), default=None)


def _place(study: Rankable, priority: Priority, now: datetime, policy: Policy) -> SortKey:
    return sort_key(
        priority,
        arrived_at=study.arrived_at,
        study_instance_uid=study.study_instance_uid,
        now=now,
        policy=policy,
        claimed_at=study.claimed_at,
    )


def reason_at(priority: Priority, *, now: datetime, policy: Policy) -> str:
    """Say in words why a study has its place at one instant."""
    if not is_overdue(priority, now=now):
        return priority.reason
    hours = policy.maximum_wait[priority.ordered].total_seconds() / 3600
    overdue = f"Overdue: waited longer than {hours:g} h as {priority.ordered.name}"
    return f"{overdue}, read first in {level_at(priority, now=now).name}. {priority.reason}"


def _utility(finding: Finding, policy: Policy) -> float:
    return finding.probability * policy.severity[finding.label]


def _leading_finding(present: Iterable[Finding], policy: Policy) -> Finding | None:
    """Pick the finding that counts most; the label decides between equals, so that input order never does."""
    counting = [finding for finding in present if policy.severity[finding.label] > 0]
    return max(counting, key=lambda finding: (_utility(finding, policy), finding.label), default=None)


def _source(leading: Finding | None, model: str, images: Mapping[Finding, str]) -> str:
    """Say where the leading finding comes from: "; frontal image 2; model first 1.0.0"."""
    image = images.get(leading, "") if leading is not None else ""
    return "".join(f"; {part}" for part in (image, f"model {model}" if model else "") if part)


def _reason(leading: Finding | None, present: Iterable[Finding], *, ordered: Level, policy: Policy, source: str) -> str:
    if leading is None:
        idle = ", ".join(sorted({finding.label.replace("_", " ") for finding in present}))
        aside = f": found, with a severity weight of 0: {idle}" if idle else ""
        return f"Ordered {ordered.name}; not prioritised{aside}."
    found = _finding_in_words(leading, policy, source)
    if policy.mode is Mode.ADVISE:
        return f"Ordered {ordered.name}, kept there (advice only): {found}."
    if ordered > policy.raise_to:
        return f"Raised from {ordered.name} to {policy.raise_to.name}: {found}."
    if ordered == policy.raise_to:
        return f"Ordered {ordered.name}, moved ahead within it: {found}."
    return f"Ordered {ordered.name}, kept there (findings raise to {policy.raise_to.name} at most): {found}."


def _finding_in_words(finding: Finding, policy: Policy, source: str) -> str:
    label = finding.label.replace("_", " ")
    numbers = f"threshold {finding.threshold:.3f}, severity weight {policy.severity[finding.label]:g}"
    return f"{label} {finding.probability:.3f} ({numbers}{source})"
