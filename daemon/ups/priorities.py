"""Scheduled Procedure Step Priority (0074,1200), which has three values, and our five levels."""

from typing import Final

from cxr_triage.model.priority import Level

#: HIGH is for an ordered STAT, which no finding reaches: what findings raise is MEDIUM at most.
PRIORITY_OF: Final = {
    Level.STAT: "HIGH",
    Level.HIGH: "MEDIUM",
    Level.ROUTINE: "LOW",
    Level.MEDIUM: "LOW",
    Level.LOW: "LOW",
}
#: What a study is ordered as by a step that is placed for it.
LEVEL_OF: Final = {"HIGH": Level.STAT, "MEDIUM": Level.HIGH, "LOW": Level.ROUTINE}
_BY_URGENCY: Final = ("HIGH", "MEDIUM", "LOW")


def more_urgent(placed: str | None, level: Level | None) -> str:
    """Give the priority to show: what was placed, or more urgent where the study is read as that."""
    known = [each for each in (placed, None if level is None else PRIORITY_OF[level]) if each in _BY_URGENCY]
    return min(known, key=_BY_URGENCY.index, default="LOW")
