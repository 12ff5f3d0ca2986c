"""`cxr-triage status`: how much is where, how old the oldest is, and who is alive."""

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from cxr_triage.daemon.heartbeat import is_alive
from cxr_triage.daemon.service import enabled_roles
from cxr_triage.daemon.settings import Settings
from cxr_triage.storage.commitment_records import CommitmentCounts
from cxr_triage.storage.records import Counts


def as_dict(counts: Counts, commitment: CommitmentCounts, settings: Settings, *, now: datetime) -> dict[str, Any]:
    """Everything as plain values, for JSON; ages in seconds, None where nothing waits."""
    beat = settings.service.heartbeat_seconds
    return {
        "images": {state.value: count for state, count in counts.instances.items()},
        "revisions": {state.value: count for state, count in counts.revisions.items()},
        "listed_studies": counts.listed_studies,
        "other_bytes": counts.other_bytes,
        "oldest_unscored_seconds": _age(counts.oldest_unscored_at, now),
        "oldest_undelivered_seconds": _age(counts.oldest_undelivered_at, now),
        "destinations": _destinations(counts, commitment, settings),
        "modality_commitments": {state.value: count for state, count in commitment.modality_requests.items()},
        "roles": {role: is_alive(settings.run_folder, role, beat) for role in enabled_roles(settings)},
    }


def print_tables(status: dict[str, Any], console: Console) -> None:
    """The same for a person."""
    overview = Table("what", "state", "count", title="cxr-triage")
    for what in ("images", "revisions"):
        for state, count in status[what].items():
            overview.add_row(what, state, str(count))
    overview.add_row("studies", "on the reading list", str(status["listed_studies"]))
    overview.add_row("images", "known UID, other bytes", str(status["other_bytes"]))
    overview.add_row("images", "oldest waiting", _seconds(status["oldest_unscored_seconds"]))
    overview.add_row("objects", "oldest waiting", _seconds(status["oldest_undelivered_seconds"]))
    if any(status["modality_commitments"].values()):
        for state, count in status["modality_commitments"].items():
            overview.add_row("commitment for modalities", state, str(count))
    destinations = Table("destination", "address", "pending", "stored", "committed", "dead")
    for row in status["destinations"]:
        counts = (str(row["deliveries"].get(state, 0)) for state in ("pending", "stored", "committed", "dead"))
        address = f"{row['ae_title']}@{row['host']}:{row['port']}" if row["host"] else "no longer configured"
        destinations.add_row(row["name"], address, *counts)
    alive = [role for role, lives in status["roles"].items() if lives]
    silent = [role for role, lives in status["roles"].items() if not lives]
    console.print(overview, destinations)
    for row in status["destinations"]:
        if row["commitment"]:
            console.print(f"{row['name']}: delivered when committed; stored waits for that", markup=False)
        if row["commitment_trouble"]:
            console.print(f"{row['name']}: storage commitment: {row['commitment_trouble']}", markup=False)
    console.print(f"alive: {', '.join(alive) or 'none'}; no sign of life: {', '.join(silent) or 'none'}")


def _destinations(counts: Counts, commitment: CommitmentCounts, settings: Settings) -> list[dict[str, Any]]:
    """The configured ones, then those that only the ledger knows."""
    rows = [destination.model_dump() for destination in settings.destinations]
    known = {row["name"] for row in rows}
    unset = {"ae_title": "", "host": "", "port": None, "profile": "", "commitment": False}
    rows += [{"name": name, **unset} for name in counts.deliveries if name not in known]
    for row in rows:
        row["deliveries"] = {state.value: count for state, count in counts.deliveries.get(row["name"], {}).items()}
        requests = commitment.requests.get(row["name"], {})
        row["commitment_requests"] = {state.value: count for state, count in requests.items()}
        row["commitment_trouble"] = commitment.troubles.get(row["name"], "")
    return rows


def _age(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else max(0.0, round((now - since).total_seconds(), 3))


def _seconds(age: float | None) -> str:
    return "none" if age is None else f"{age:.0f} s"
