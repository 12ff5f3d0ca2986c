"""`cxr-triage worklist`: the reading list in its order, with the reasons. It names studies, never patients."""

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cxr_triage.model.priority import Policy, Ranked
from cxr_triage.storage.list_records import ListedStudy, Pause, Snapshot


def rows(snapshot: Snapshot, policy: Policy) -> dict[str, Any]:
    """The list as plain values, for JSON, in the order in which it is to be read."""
    return {
        "list_version": str(snapshot.version),
        "at": snapshot.at.isoformat(),
        "mode": policy.mode.value,
        "paused": paused(snapshot.pause),
        "studies": [_row(ranked, snapshot.at) for ranked in snapshot.ranked(policy)],
    }


def paused(pause: Pause | None) -> dict[str, str] | None:
    """The pause as plain values; None: triage is not paused."""
    return None if pause is None else {"at": pause.at.isoformat(), "by": pause.by, "reason": pause.reason}


def in_words(mode: str, pause: dict[str, str] | None) -> str:
    """What findings do to the list now, for a person."""
    if pause is None:
        return f"mode: {mode}"
    since = datetime.fromisoformat(pause["at"])
    return f"mode: {mode}, PAUSED since {since:%Y-%m-%d %H:%M} UTC by {pause['by']}: {pause['reason']}"


def print_table(listed: dict[str, Any], console: Console) -> None:
    """The same for a person."""
    table = Table("rank", "ordered\nrank", "ordered", "priority", "waited", title="Reading list")
    # One below the other, so that both have room; folded, never cut: a person copies the UID into another command.
    table.add_column("study, and why", overflow="fold")
    for row in listed["studies"]:
        waited = f"{row['waited_seconds'] / 60:.0f} min"
        reader = f"Being read by {row['claimed_by']}. " if row["claimed_by"] else ""
        table.add_row(
            str(row["rank"]),
            str(row["ordered_rank"]),
            row["ordered"],
            row["priority"],
            waited,
            escape(f"{row['study']}\n{reader}{row['reason']}"),
        )
    console.print(table)
    version = f"list version {listed['list_version']}, {in_words(listed['mode'], listed['paused'])}"
    console.print(version, markup=False)


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
        "claimed_by": study.claimed_by,
        "claimed_at": None if study.claimed_at is None else study.claimed_at.isoformat(),
        "arrived_at": study.arrived_at.isoformat(),
        "waited_seconds": round((now - study.arrived_at).total_seconds(), 3),
        "images": {state.value: count for state, count in study.images.items()},
    }
