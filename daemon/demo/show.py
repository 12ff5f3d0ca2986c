"""The demo's outcome as a table for a person and as JSON for a program."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cxr_triage.daemon.demo.follow import Outcome, percentile
from cxr_triage.daemon.demo.pacs import StoredObject


def as_json(outcome: Outcome) -> str:
    """One line."""
    return json.dumps(
        {
            "pushed": len(outcome.pushed),
            "acknowledged": len(outcome.acknowledged),
            "scored": outcome.scored,
            "refused": [
                {"file": each.file, "reason": each.reason, "kind": each.kind, "state": each.state}
                for each in outcome.refused
            ],
            "worklist": [
                {
                    "study": each.study,
                    "ordered_rank": each.ordered_rank,
                    "rank": each.rank,
                    "ordered": each.ordered,
                    "priority": each.priority,
                    "reason": each.reason,
                    "files": each.files,
                }
                for each in outcome.worklist
            ],
            "objects": [_object_as_json(each, outcome) for each in outcome.objects],
            "seconds_push_to_list": {
                "p50": percentile(outcome.seconds_push_to_list, 0.50),
                "p95": percentile(outcome.seconds_push_to_list, 0.95),
            },
            "lost": outcome.losses(),
        }
    )


def _object_as_json(each: StoredObject, outcome: Outcome) -> dict[str, Any]:
    images = [file for file in outcome.pushed if file.sop_instance_uid in each.references]
    return {
        "kind": each.kind,
        "path": str(each.path),
        "source": images[0].sop_instance_uid if images else "",
        "sources": [file.sop_instance_uid for file in images],
        "files": [file.path.name for file in images],
        "study": each.study_instance_uid,
    }


def print_outcome(outcome: Outcome, console: Console, *, folder: Path) -> None:
    """What a person wants to know, in that order."""
    console.print(_list_table(outcome))
    console.print(_refused_table(outcome))
    for kind in ("SR", "SEG"):
        paths = [each.path for each in outcome.objects if each.kind == kind]
        if paths:
            console.print(f"{len(paths)} {kind} objects in [bold]{paths[0].parent}[/]")
    console.print(f"{_seconds(outcome)}; everything that was written is in [bold]{folder}[/]")
    for loss in outcome.losses():
        console.print(f"[red]Lost: {loss}")
    console.print("[dim]Research software, not a medical device.")


def _list_table(outcome: Outcome) -> Table:
    table = Table(title="The reading list in its new order", title_justify="left", title_style="bold")
    table.add_column("rank", justify="right")
    table.add_column("was", justify="right")
    table.add_column("priority", no_wrap=True)
    table.add_column("image", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for each in outcome.worklist:
        table.add_row(
            str(each.rank),
            str(each.ordered_rank),
            each.priority if each.priority == each.ordered else f"{each.priority}, was {each.ordered}",
            "\n".join(Path(file).stem for file in each.files),
            each.reason,
            style="bold green" if each.rank < each.ordered_rank else None,
        )
    return table


def _refused_table(outcome: Outcome) -> Table:
    table = Table(title="Received but not triaged", title_justify="left", title_style="bold")
    table.add_column("file")
    table.add_column("reason", overflow="fold")
    for each in outcome.refused:
        table.add_row(each.file, each.reason)
    return table


def _seconds(outcome: Outcome) -> str:
    p50, p95 = (percentile(outcome.seconds_push_to_list, share) for share in (0.50, 0.95))
    if p50 is None or p95 is None:
        return "No study has a result"
    return f"From push to reorder: p50 {p50:.1f} s, p95 {p95:.1f} s"
