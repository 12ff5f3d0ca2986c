"""`cxr-triage worklist`: the reading list in its order, with the reasons. It names studies, never patients."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from cxr_triage.model.priority import Policy, Ranked, rank
from cxr_triage.storage.records import AuditEntry, ListedStudy


def rows(studies: Sequence[ListedStudy], *, now: datetime, policy: Policy) -> list[dict[str, Any]]:
    """The list as plain values, for JSON, in the order in which it is to be read."""
    return [_row(ranked, now) for ranked in rank(studies, now=now, policy=policy)]


def print_table(listed: Sequence[dict[str, Any]], console: Console) -> None:
    """The same for a person."""
    table = Table("rank", "ordered\nrank", "ordered", "priority", "waited", title="Reading list")
    # One below the other, so that both have room; folded, never cut: a person copies the UID into another command.
    table.add_column("study, and why", overflow="fold")
    for row in listed:
        waited = f"{row['waited_seconds'] / 60:.0f} min"
        table.add_row(
            str(row["rank"]),
            str(row["ordered_rank"]),
            row["ordered"],
            row["priority"],
            waited,
            f"{row['study']}\n{row['reason']}",
        )
    console.print(table)


def history_rows(entries: Sequence[AuditEntry]) -> list[dict[str, str | None]]:
    """What happened to a study as plain values, for JSON, oldest first."""
    return [
        {
            "at": entry.at.isoformat(),
            "actor": entry.actor,
            "event": entry.event,
            "sop_instance_uid": entry.sop_instance_uid,
            "detail": entry.detail,
        }
        for entry in entries
    ]


def print_history(listed: Sequence[dict[str, str | None]], console: Console) -> None:
    """The same for a person, to the second."""
    table = Table("at (UTC)", title="History")
    for name in ("event", "what, and by whom"):
        table.add_column(name, overflow="fold")
    for row in listed:
        at = datetime.fromisoformat(str(row["at"])).astimezone(UTC)
        lines = (row["sop_instance_uid"], row["detail"], f"by {row['actor']}")
        table.add_row(f"{at:%Y-%m-%d %H:%M:%S}", row["event"], "\n".join(line for line in lines if line))
    console.print(table)


def _row(ranked: Ranked[ListedStudy], now: datetime) -> dict[str, Any]:
    study = ranked.study
    return {
        "rank": ranked.rank,
        "ordered_rank": ranked.ordered_rank,
        "study": study.study_instance_uid,
        "ordered": study.ordered.name,
        "priority": ranked.level.name,
        "overdue": ranked.overdue,
        "utility": study.priority.utility,
        "reason": ranked.reason,
        "arrived_at": study.arrived_at.isoformat(),
        "waited_seconds": round((now - study.arrived_at).total_seconds(), 3),
        "images": {state.value: count for state, count in study.images.items()},
    }
