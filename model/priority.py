"""Findings -> Priority: a pure function, without clock or database. Rules: docs/explanation/priority.md."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum

from cxr_triage.model.findings import ABNORMALITIES, Finding


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


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a site decides. Its digest is part of every revision."""

    mode: Mode = Mode.REORDER
    #: The highest level that a finding may raise a study to; never STAT.
    raise_to: Level = Level.HIGH
    #: Weight per label, 0 to 1.
    severity: Mapping[str, float] = field(default_factory=lambda: {a.name: a.severity for a in ABNORMALITIES})
    #: Longest wait per ordered level; past it a study is overdue.
    maximum_wait: Mapping[Level, timedelta] = field(
        default_factory=lambda: {
            Level.STAT: timedelta(hours=1),
            Level.HIGH: timedelta(hours=4),
            Level.ROUTINE: timedelta(hours=24),
            Level.MEDIUM: timedelta(hours=48),
            Level.LOW: timedelta(hours=72),
        }
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Priority:
    """Where a study belongs, and why. Time-free: `overdue_at` says when the answer changes."""

    #: What was ordered.
    ordered: Level
    #: What it is read as: never less urgent than `ordered`.
    effective: Level
    #: Maximum over findings of calibrated probability x severity weight, 0 to 1.
    utility: float
    #: One sentence for a person: the finding, its probability, the threshold, the rule. No patient data.
    reason: str
    #: UTC.
    overdue_at: datetime


SortKey = tuple[int, int, float, datetime, str]
