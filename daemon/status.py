"""`cxr-triage status`: how much is where, how old the oldest is, what a person must look at, and who is alive."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cxr_triage.daemon.alerts import Alert
from cxr_triage.daemon.heartbeat import is_alive
from cxr_triage.daemon.service import enabled_roles
from cxr_triage.daemon.settings import Settings
from cxr_triage.storage.records import Counts


def as_dict(counts: Counts, settings: Settings, *, now: datetime, alerts: Iterable[Alert]) -> dict[str, Any]:
    """Everything as plain values, for JSON; ages in seconds, None where nothing waits."""
    beat = settings.service.heartbeat_seconds
    return {
        "images": {state.value: count for state, count in counts.instances.items()},
        "revisions": {state.value: count for state, count in counts.revisions.items()},
        "listed_studies": counts.listed_studies,
        "other_bytes": counts.other_bytes,
        "oldest_unscored_seconds": _age(counts.oldest_unscored_at, now),
        "oldest_undelivered_seconds": _age(counts.oldest_undelivered_at, now),
        "destinations": _destinations(counts, settings),
        "alerts": [{"alert": alert.name.value, "subject": alert.subject, "message": alert.message} for alert in alerts],
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
    destinations = Table("destination", "address", "pending", "stored", "committed", "dead")
    for row in status["destinations"]:
        counts = (str(row["deliveries"].get(state, 0)) for state in ("pending", "stored", "committed", "dead"))
        address = f"{row['ae_title']}@{row['host']}:{row['port']}" if row["host"] else "no longer configured"
        destinations.add_row(row["name"], address, *counts)
    alive = [role for role, lives in status["roles"].items() if lives]
    silent = [role for role, lives in status["roles"].items() if not lives]
    console.print(overview, destinations)
    for alert in status["alerts"]:
        about = " ".join(part for part in (alert["alert"], alert["subject"]) if part)
        console.print(f"[red]alert {about}:[/red] {escape(alert['message'])}")
    console.print(f"alive: {', '.join(alive) or 'none'}; no sign of life: {', '.join(silent) or 'none'}")


def _destinations(counts: Counts, settings: Settings) -> list[dict[str, Any]]:
    """The configured ones, then those that only the ledger knows."""
    rows = [destination.model_dump() for destination in settings.destinations]
    known = {row["name"] for row in rows}
    unset = {"ae_title": "", "host": "", "port": None, "profile": ""}
    rows += [{"name": name, **unset} for name in counts.deliveries if name not in known]
    for row in rows:
        row["deliveries"] = {state.value: count for state, count in counts.deliveries.get(row["name"], {}).items()}
    return rows


def _age(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else max(0.0, round((now - since).total_seconds(), 3))


def _seconds(age: float | None) -> str:
    return "none" if age is None else f"{age:.0f} s"
