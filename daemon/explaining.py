"""`cxr-triage worklist explain`: where a study stands, or stood at a time, why, and everything that happened to it."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cxr_triage.daemon.listing import in_words, paused
from cxr_triage.model.errors import TriageError
from cxr_triage.model.priority import Policy, Ranked
from cxr_triage.storage.clock import Clock
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import Announcements, ReadingList
from cxr_triage.storage.list_records import ListChange, ListedStudy, PastList, Sighting, Snapshot, Stood
from cxr_triage.storage.step_records import Announced
from cxr_triage.storage.upkeep_records import AuditEntry

#: What is said of a study that is not on the list.
_NOT_LISTED: Final = {"rank": None, "ordered_rank": None, "of": None, "priority": None, "reason": None}


def explanation(
    study: str, database: Database, *, when: datetime | None, policy: Policy, clock: Clock
) -> dict[str, Any]:
    """Everything as plain values, for JSON.

    Args:
        study: Study Instance UID.
        database: of the ledger.
        when: the instant that its place is explained for; None: now.
        policy: in force now; a past instant goes by the mode, pause and longest waits of then, as far as they are kept.
        clock: gives the present.

    Raises:
        TriageError: nothing is known of it.
    """
    ledger = ReadingList(database, clock=clock)
    history = ledger.history(study)
    if not history:
        raise TriageError(f"nothing is known of study {study}: `cxr-triage worklist` shows what waits")
    if when is None:
        place = _place_now(study, ledger.snapshot(), policy)
    else:
        place = _place_then(study, ledger.stood_at(when), policy)
    return {
        "study": study,
        **place,
        "findings": [_finding_row(sighting) for sighting in ledger.sightings(study)],
        "told": [_told_row(each) for each in _told(study, database, clock)],
        "changes": [_change_row(change) for change in ledger.changes_of(study)],
        "history": [_history_row(entry) for entry in history],
    }


def print_explanation(found: dict[str, Any], console: Console) -> None:
    """The same for a person, to the second."""
    console.print(_standing_in_words(found), markup=False)
    if found["findings"]:
        console.print(_findings_table(found["findings"]))
    tables = {
        "Changes of the list": _lines_of_changes(found),
        "Who was told": _lines_of_told(found),
        "History": _lines_of_history(found),
    }
    for title, rows in tables.items():
        table = Table("at (UTC)", title=title)
        for name in ("event", "what, and by whom"):
            table.add_column(name, overflow="fold")
        for at, event, lines in rows:
            table.add_row(f"{at:%Y-%m-%d %H:%M:%S}", event, escape("\n".join(line for line in lines if line)))
        console.print(table)


def _told(study: str, database: Database, clock: Clock) -> list[Announced]:
    return Announcements(database, lease=timedelta(0), clock=clock).of_study(study)


def _place_now(study: str, snapshot: Snapshot, policy: Policy) -> dict[str, Any]:
    return {
        "at": snapshot.at.isoformat(),
        "list_version": str(snapshot.version),
        "mode": policy.mode.value,
        "paused": paused(snapshot.pause),
        **_place(study, snapshot.ranked(policy)),
        "not_kept": [],
    }


def _place_then(study: str, past: PastList, policy: Policy) -> dict[str, Any]:
    return {
        "at": past.at.isoformat(),
        "list_version": None,
        "mode": past.mode and past.mode.value,
        "paused": paused(past.pause),
        **_place(study, past.ranked(policy)),
        "not_kept": list(_not_kept(study, past)),
    }


def _not_kept(study: str, past: PastList) -> Iterator[str]:
    """Say what of a past place is not known, or is known of today only."""
    if study in past.not_kept:
        yield "It waited then, but was listed by a release that kept no places: where it stood is not known."
    elif past.not_kept:
        yield f"Studies that waited then and are not counted, since nothing was kept of them yet: {len(past.not_kept)}."
    if past.mode is None and past.studies:
        yield "The mode of then was not kept: ranked by today's."


def _place(study: str, ranked: Sequence[Ranked[ListedStudy]] | Sequence[Ranked[Stood]]) -> dict[str, Any]:
    for place in ranked:
        if place.study.study_instance_uid == study:
            return {
                "rank": place.rank,
                "ordered_rank": place.ordered_rank if isinstance(place.study, ListedStudy) else None,
                "of": len(ranked),
                "priority": place.level.name,
                "reason": place.reason,
            }
    return dict(_NOT_LISTED)


def _finding_row(sighting: Sighting) -> dict[str, Any]:
    return {
        "label": sighting.label,
        "probability": sighting.probability,
        "threshold": sighting.threshold,
        "present": sighting.probability >= sighting.threshold,
        "sop_instance_uid": sighting.sop_instance_uid,
        "model": sighting.model,
    }


def _told_row(told: Announced) -> dict[str, Any]:
    return {
        "at": told.created_at.isoformat(),
        "receiver": told.receiver,
        "sop_instance_uid": told.sop_instance_uid,
        "message_id": told.message_id,
        "state": told.state.value,
        "changed_at": told.changed_at.isoformat(),
        "failures": told.failures,
        "last_error": told.last_error,
    }


def _change_row(change: ListChange) -> dict[str, Any]:
    return {
        "number": change.number,
        "at": change.at.isoformat(),
        "change": change.change.value,
        "actor": change.actor,
        "ordered": change.priority.ordered.name,
        "priority": change.priority.effective.name,
        "utility": change.priority.utility,
        "reason": change.priority.reason,
    }


def _history_row(entry: AuditEntry) -> dict[str, str | None]:
    return {
        "at": entry.at.isoformat(),
        "actor": entry.actor,
        "event": entry.event,
        "sop_instance_uid": entry.sop_instance_uid,
        "detail": entry.detail,
    }


def _standing_in_words(found: dict[str, Any]) -> str:
    at = f"{datetime.fromisoformat(found['at']).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    not_kept = "".join(f"\n{sentence}" for sentence in found["not_kept"])
    if found["rank"] is None:
        return f"Study {found['study']} is not on the list at {at}.{not_kept}"
    version = f", list version {found['list_version']}" if found["list_version"] else ""
    mode = f", {in_words(found['mode'], found['paused'])}" if found["mode"] else ""
    without = f"; without findings it would be {found['ordered_rank']}" if found["ordered_rank"] else ""
    return (
        f"Study {found['study']} at {at}: rank {found['rank']} of {found['of']}, read as {found['priority']}{without}"
        f"{version}{mode}.\n{found['reason']}{not_kept}"
    )


def _findings_table(findings: Iterable[dict[str, Any]]) -> Table:
    table = Table("finding", "probability", "threshold", title="Most probable per finding, of all its images")
    table.add_column("image, and model", overflow="fold")
    for row in findings:
        marked = row["label"].replace("_", " ") + (" *" if row["present"] else "")
        where = escape(f"{row['sop_instance_uid']}\n{row['model']}")
        table.add_row(marked, f"{row['probability']:.3f}", f"{row['threshold']:.3f}", where)
    return table


def _lines_of_changes(found: dict[str, Any]) -> Iterator[tuple[datetime, str, tuple[str, ...]]]:
    for row in found["changes"]:
        levels = f"change {row['number']}: ordered {row['ordered']}, read as {row['priority']}, {row['utility']:.4f}"
        yield _utc(row["at"]), row["change"], (levels, row["reason"], f"by {row['actor']}")


def _lines_of_told(found: dict[str, Any]) -> Iterator[tuple[datetime, str, tuple[str, ...]]]:
    for row in found["told"]:
        about = f"{row['receiver']} of step {row['sop_instance_uid']}"
        yield _utc(row["at"]), row["state"], (about, f"message {row['message_id']}", row["last_error"])


def _lines_of_history(found: dict[str, Any]) -> Iterator[tuple[datetime, str, tuple[str, ...]]]:
    for row in found["history"]:
        yield _utc(row["at"]), row["event"], (row["sop_instance_uid"] or "", row["detail"], f"by {row['actor']}")


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
