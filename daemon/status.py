"""`cxr-triage status`: how much is where, how old the oldest is, what a person must look at, and who is alive."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pydicom.uid import UID
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cxr_triage.daemon.alerts import Alert
from cxr_triage.daemon.breaker import Stage, stage
from cxr_triage.daemon.listing import in_words, paused
from cxr_triage.daemon.service import presences
from cxr_triage.daemon.settings import Settings
from cxr_triage.storage.clock import Clock
from cxr_triage.storage.commitment_records import CommitmentCounts
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import Circuit, DeliveryState, Instead, NotTaken
from cxr_triage.storage.ledger import Announcements, Housekeeping, Orders, ReadingList
from cxr_triage.storage.ledger.commitments import count_commitments
from cxr_triage.storage.list_records import Pause
from cxr_triage.storage.order_records import OrderCounts
from cxr_triage.storage.step_records import AnnouncementCounts, AnnouncementState
from cxr_triage.storage.upkeep_records import Counts

#: How orders may stand, as the table says it.
ORDERS_IN_WORDS: Final = {
    "waiting": "the RIS is asked",
    "given_up": "the RIS does not know",
    "unmatched": "images to come",
    "not_counted": "other or unknown patient",
}
#: Columns of the table, as many as a terminal of 80 columns shows; of the rest, a remark tells.
DELIVERY_STATES: Final = tuple(state for state in DeliveryState if state is not DeliveryState.WITHDRAWN)


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What the ledger says of itself."""

    counts: Counts
    commitment: CommitmentCounts
    orders: OrderCounts
    announcements: Sequence[AnnouncementCounts]
    pause: Pause | None


def standing(database: Database, settings: Settings, clock: Clock) -> Standing:
    """Ask the ledger.

    Raises:
        StorageError: it does not answer.
    """
    lease = timedelta(seconds=settings.deliver.lease_seconds)
    return Standing(
        counts=Housekeeping(database, committing=settings.committing, clock=clock).counts(),
        commitment=count_commitments(database),
        orders=Orders(database, clock=clock).counts(),
        announcements=Announcements(database, lease=lease, clock=clock).counts(),
        pause=ReadingList(database, clock=clock).paused(),
    )


def as_dict(standing: Standing, settings: Settings, *, now: datetime, alerts: Iterable[Alert]) -> dict[str, Any]:
    """Everything as plain values, for JSON; ages in seconds, None where nothing waits."""
    present, counts, commitment, orders = presences(settings), standing.counts, standing.commitment, standing.orders
    return {
        "images": {state.value: count for state, count in counts.instances.items()},
        "revisions": {state.value: count for state, count in counts.revisions.items()},
        "listed_studies": counts.listed_studies,
        "orders": asdict(orders),
        "mode": settings.worklist.mode.value,
        "paused": paused(standing.pause),
        "other_bytes": counts.other_bytes,
        "oldest_unscored_seconds": _age(counts.oldest_unscored_at, now),
        "oldest_undelivered_seconds": _age(counts.oldest_undelivered_at, now),
        "destinations": (destinations := _destinations(counts, commitment, settings, now)),
        "subscribers": [_subscriber(each) for each in standing.announcements],
        "modality_commitments": {state.value: count for state, count in commitment.modality_requests.items()},
        "alerts": [{"alert": alert.name.value, "subject": alert.subject, "message": alert.message} for alert in alerts],
        "remarks": [
            *(sentence for row in destinations for sentence in _remarks(row)),
            *_remarks_on_orders(orders, settings),
            *(sentence for each in standing.announcements for sentence in _remarks_on_events(each)),
        ],
        "roles": {role: found.alive > 0 for role, found in present.items()},
        "processes": {role: {"alive": found.alive, "of": found.of} for role, found in present.items()},
    }


def print_tables(status: dict[str, Any], console: Console) -> None:
    """The same for a person."""
    overview = Table("what", "state", "count", title="cxr-triage")
    for what in ("images", "revisions"):
        for state, count in status[what].items():
            overview.add_row(what, state, str(count))
    overview.add_row("studies", "on the reading list", str(status["listed_studies"]))
    for state in ("waiting", "given_up", "unmatched", "not_counted"):
        if status["orders"][state]:
            overview.add_row("orders", ORDERS_IN_WORDS[state], str(status["orders"][state]))
    overview.add_row("images", "known UID, other bytes", str(status["other_bytes"]))
    overview.add_row("images", "oldest waiting", _seconds(status["oldest_unscored_seconds"]))
    overview.add_row("objects", "oldest waiting", _seconds(status["oldest_undelivered_seconds"]))
    if any(status["modality_commitments"].values()):
        for state, count in status["modality_commitments"].items():
            overview.add_row("commitment for modalities", state, str(count))
    states = (state.replace("_", " ") for state in DELIVERY_STATES)
    names = (Column(name, overflow="fold") for name in ("destination", "address"))
    destinations = Table(*names, "state", *states)
    for row in status["destinations"]:
        counts = (str(row["deliveries"].get(state, 0)) for state in DELIVERY_STATES)
        destinations.add_row(row["name"], _address(row), _standing(row), *counts)
    alive = [_present(role, **status["processes"][role]) for role, lives in status["roles"].items() if lives]
    silent = [role for role, lives in status["roles"].items() if not lives]
    console.print(overview, destinations)
    console.print(in_words(status["mode"], status["paused"]), markup=False)
    for alert in status["alerts"]:
        about = " ".join(part for part in (alert["alert"], alert["subject"]) if part)
        console.print(f"[red]alert {about}:[/red] {escape(alert['message'])}")
    for sentence in status["remarks"]:
        console.print(sentence, markup=False)
    console.print(f"alive: {', '.join(alive) or 'none'}; no sign of life: {', '.join(silent) or 'none'}")


def _present(role: str, alive: int, of: int) -> str:
    return role if of == 1 else f"{role} ({alive} of {of})"


def _destinations(
    counts: Counts, commitment: CommitmentCounts, settings: Settings, now: datetime
) -> list[dict[str, Any]]:
    """The configured ones, then those that only the ledger knows."""
    rows = [destination.model_dump(mode="json") | {"configured": True} for destination in settings.destinations]
    known = {row["name"] for row in rows}
    unset = {
        "ae_title": "",
        "host": "",
        "port": None,
        "stow_url": None,
        "profile": "",
        "commitment": False,
        "rejection_notes": False,
        "configured": False,
    }
    rows += [{"name": name, **unset} for name in counts.deliveries if name not in known]
    for row in rows:
        name = row["name"]
        row["deliveries"] = {state.value: count for state, count in counts.deliveries.get(name, {}).items()}
        row["held_back"] = counts.held_back.get(name, 0)
        row["not_taken"] = [_not_taken(each) for each in counts.not_taken.get(name, [])]
        row["untold_studies"] = counts.untold.get(name, 0)
        row["circuit"] = _circuit(counts.circuits.get(name, Circuit()), settings, now)
        requests = commitment.requests.get(name, {})
        row["commitment_requests"] = {state.value: count for state, count in requests.items()}
        row["commitment_trouble"] = commitment.troubles.get(name, "")
    return rows


def _not_taken(each: NotTaken) -> dict[str, Any]:
    return {
        "sop_class": UID(each.sop_class_uid).name,
        "sop_class_uid": each.sop_class_uid,
        "count": each.count,
        "reason": each.reason,
        "last_at": each.last_at.isoformat(),
        "taken_since": each.taken_since,
        "instead": each.instead.value,
        "instead_sop_class": UID(each.instead_class_uid).name if each.instead_class_uid else "",
    }


def _circuit(circuit: Circuit, settings: Settings, now: datetime) -> dict[str, Any]:
    longest = timedelta(seconds=settings.deliver.retry_longest_seconds)
    return {
        "state": stage(circuit, now=now, longest=longest).value,
        "since": None if circuit.changed_at is None else circuit.changed_at.isoformat(),
        "until": None if circuit.open_until is None else circuit.open_until.isoformat(),
        "failures": circuit.failures,
        "reason": circuit.reason,
    }


def _remarks(row: dict[str, Any]) -> Iterator[str]:
    """What a person must know of a destination, and what to do; one sentence each."""
    name, circuit, counts = row["name"], row["circuit"], row["deliveries"]
    if not row["configured"] and counts[DeliveryState.PENDING]:
        yield (
            f"{name}: no longer configured, and objects wait for it: {counts[DeliveryState.PENDING]}; add a "
            "[[destination]] of this name again, at the address that should have them"
        )
    if row["configured"] and circuit["state"] != Stage.CLOSED:
        yield f"{name}: not reached since {circuit['since']}: {circuit['reason']}"
    if dead := counts.get(DeliveryState.DEAD):
        yield f"{name}: objects given up: {dead}; `cxr-triage replay --dead {name}` sends them again"
    if withdrawn := counts.get(DeliveryState.WITHDRAWN):
        yield f"{name}: objects not sent, since their results were withdrawn: {withdrawn}"
    if row["commitment"]:
        yield f"{name}: delivered when committed; stored waits for that"
    if row["commitment_trouble"]:
        yield f"{name}: storage commitment: {row['commitment_trouble']}"
    yield from (_said_of_class(name, each) for each in row["not_taken"])
    if row["untold_studies"]:
        yield f"{name}: unread studies of which it gets no report, or no outlines, at all: {row['untold_studies']}"
    if row["held_back"]:
        yield f"{name}: objects that wait for one that they cite and that was given up: {row['held_back']}"


def _subscriber(counts: AnnouncementCounts) -> dict[str, Any]:
    return {
        "ae_title": counts.receiver,
        "events": {state.value: count for state, count in counts.states.items()},
        "last_error": counts.last_error,
    }


def _remarks_on_events(counts: AnnouncementCounts) -> Iterator[str]:
    """What a person must know of events that a subscriber has not taken."""
    pending, dead = counts.states[AnnouncementState.PENDING], counts.states[AnnouncementState.DEAD]
    if dead or (pending and counts.last_error):
        why = f": {counts.last_error}" if counts.last_error else ""
        yield f"subscriber {counts.receiver}: events waiting: {pending}, given up or refused: {dead}{why}"


def _remarks_on_orders(orders: OrderCounts, settings: Settings) -> Iterator[str]:
    """What a person must know of orders, and what to do; one sentence each."""
    if settings.ris.host is not None and orders.waiting and orders.last_error:
        yield f"RIS: studies that wait for its answer: {orders.waiting}; the last error: {orders.last_error}"
    if orders.not_counted:
        yield (
            f"orders not followed since their patient is another one or not known: {orders.not_counted}; "
            "`cxr-triage worklist` says of which studies, `cxr-triage order set` orders by hand"
        )


def _said_of_class(name: str, each: dict[str, Any]) -> str:
    if each["taken_since"]:
        return (
            f"{name}: takes {each['sop_class']} now, and did not before: {each['count']} objects; "
            f"`cxr-triage replay --not-taken {name}` offers them again"
        )
    instead = {
        Instead.DUE: "what is sent instead is being made",
        Instead.STAND_IN: f"{each['instead_sop_class']} is sent instead",
        Instead.PROFILE: "its profile has another object that shows the same",
        Instead.NOTHING: "nothing is sent instead",
    }[Instead(each["instead"])]
    return f"{name}: does not take {each['sop_class']} ({each['count']} objects): {instead}. {each['reason']}"


def _address(row: dict[str, Any]) -> str:
    if not row["configured"]:
        return "no longer configured"
    return row["stow_url"] or f"{row['ae_title']}@{row['host']}:{row['port']}"


def _standing(row: dict[str, Any]) -> str:
    if not row["configured"]:
        return "nobody sends"
    return {Stage.CLOSED: "up", Stage.OPEN: "down", Stage.HALF_OPEN: "being tried"}[Stage(row["circuit"]["state"])]


def _age(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else max(0.0, round((now - since).total_seconds(), 3))


def _seconds(age: float | None) -> str:
    return "none" if age is None else f"{age:.0f} s"
