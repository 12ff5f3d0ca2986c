"""The ledger's counts as Prometheus metrics, read when asked for. No label holds patient data."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from enum import StrEnum
from importlib.metadata import version
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from pydicom.uid import UID

from cxr_triage.daemon.alerts import Alert, current_alerts
from cxr_triage.daemon.service import presences
from cxr_triage.daemon.settings import Settings
from cxr_triage.storage.commitment_records import CommitmentCounts
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import Circuit
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Announcements, Housekeeping
from cxr_triage.storage.ledger.commitments import count_commitments
from cxr_triage.storage.ledger.inquiries import count_inquiries
from cxr_triage.storage.service_clock import ReadableClock
from cxr_triage.storage.step_records import AnnouncementCounts
from cxr_triage.storage.upkeep_records import Counts

State = TypeVar("State", bound=StrEnum)


class LedgerCollector(Collector):
    """Counts per state, ages of the oldest, and which roles live."""

    def __init__(self, settings: Settings, database: Database, *, clock: ReadableClock) -> None:
        self._settings = settings
        self._database = database
        self._housekeeping = Housekeeping(database, committing=settings.committing, clock=clock)
        lease = timedelta(seconds=settings.deliver.lease_seconds)
        self._announcements = Announcements(database, lease=lease, clock=clock)
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """Read one snapshot.

        Raises:
            StorageError: the database does not answer.
        """
        yield InfoMetricFamily("cxr_triage_build", "Version of the product", {"version": version("cxr-triage")})
        yield from self._roles()
        counts = self._housekeeping.counts()
        yield from _of_counts(counts, self._clock())
        yield from _of_destinations(counts, {each.name for each in self._settings.destinations}, self._clock())
        yield from _of_commitment(count_commitments(self._database))
        yield _per_state(
            "cxr_triage_order_inquiries", "Studies that the RIS is asked for", count_inquiries(self._database)
        )
        yield _events(self._announcements.counts())
        yield _alerts(current_alerts(counts, self._clock, self._settings))

    def _roles(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("cxr_triage_role_up", "1 while the role shows signs of life", labels=["role"])
        alive = GaugeMetricFamily("cxr_triage_processes_up", "Processes that show signs of life", labels=["role"])
        wanted = GaugeMetricFamily("cxr_triage_processes", "Processes that there should be", labels=["role"])
        for role, found in presences(self._settings).items():
            up.add_metric([role], found.alive > 0)
            alive.add_metric([role], found.alive)
            wanted.add_metric([role], found.of)
        yield from (up, alive, wanted)


def registry(settings: Settings, database: Database, *, clock: ReadableClock) -> CollectorRegistry:
    """A registry of our metrics alone."""
    own = CollectorRegistry(auto_describe=False)
    own.register(LedgerCollector(settings, database, clock=clock))
    return own


def _of_counts(counts: Counts, now: datetime) -> Iterator[Metric]:
    yield _per_state("cxr_triage_images", "Images by state", counts.instances)
    yield _per_state("cxr_triage_revisions", "Study results by state", counts.revisions)
    yield _deliveries(counts)
    yield _not_taken(counts)
    yield GaugeMetricFamily("cxr_triage_listed_studies", "Studies on the reading list", counts.listed_studies)
    yield CounterMetricFamily("cxr_triage_images_received", "Images acknowledged", sum(counts.instances.values()))
    yield CounterMetricFamily("cxr_triage_images_scored", "Images scored", counts.instances[InstanceState.SCORED])
    yield CounterMetricFamily(
        "cxr_triage_images_other_bytes", "Images that came with a known UID and other bytes", counts.other_bytes
    )
    yield _age("cxr_triage_oldest_unscored_seconds", "Age of the oldest waiting image", counts.oldest_unscored_at, now)
    yield _age(
        "cxr_triage_oldest_undelivered_seconds", "Age of the oldest waiting object", counts.oldest_undelivered_at, now
    )


def _of_destinations(counts: Counts, configured: AbstractSet[str], now: datetime) -> Iterator[Metric]:
    """Of those that are configured and those that the ledger knows."""
    names = sorted(configured | counts.deliveries.keys())
    circuits = {name: counts.circuits.get(name, Circuit()) for name in names}
    yield _per_destination(
        "cxr_triage_destination_configured",
        "0 where objects were made for it and nobody sends them any more",
        {name: name in configured for name in names},
    )
    yield _per_destination(
        "cxr_triage_destination_up",
        "0 while the destination is left alone",
        {name: not circuits[name].is_open for name in names},
    )
    yield _per_destination(
        "cxr_triage_destination_down_seconds",
        "How long the destination has been left alone",
        {name: _down_seconds(circuits[name], now) for name in names},
    )
    yield _per_destination(
        "cxr_triage_destination_failures", "Failures in a row", {name: circuits[name].failures for name in names}
    )
    yield _per_destination(
        "cxr_triage_deliveries_held_back",
        "objects that wait for one that they cite and that is dead",
        {name: counts.held_back.get(name, 0) for name in names},
    )


def _not_taken(counts: Counts) -> Metric:
    family = GaugeMetricFamily(
        "cxr_triage_deliveries_not_taken",
        "Objects that a destination does not take, by SOP Class, and what it gets instead",
        labels=["destination", "sop_class", "instead"],
    )
    for destination, classes in counts.not_taken.items():
        for each in classes:
            instead = UID(each.instead_class_uid).name if each.instead_class_uid else each.instead.value
            family.add_metric([destination, UID(each.sop_class_uid).name, instead], each.count)
    return family


def _per_destination(name: str, text: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["destination"])
    for destination, value in values.items():
        family.add_metric([destination], value)
    return family


def _down_seconds(circuit: Circuit, now: datetime) -> float:
    if not circuit.is_open or circuit.changed_at is None:
        return 0.0
    return max(0.0, (now - circuit.changed_at).total_seconds())


def _of_commitment(counts: CommitmentCounts) -> Iterator[Metric]:
    requests = GaugeMetricFamily(
        "cxr_triage_commitment_requests",
        "Requests for storage commitment by destination",
        labels=["destination", "state"],
    )
    for destination, states in counts.requests.items():
        for state, count in states.items():
            requests.add_metric([destination, state.value], count)
    yield requests
    yield _per_state(
        "cxr_triage_modality_commitments", "Requests of modalities for storage commitment", counts.modality_requests
    )


def _events(counted: Iterable[AnnouncementCounts]) -> Metric:
    family = GaugeMetricFamily(
        "cxr_triage_step_events", "Events of procedure steps by subscriber", labels=["receiver", "state"]
    )
    for counts in counted:
        for state, count in counts.states.items():
            family.add_metric([counts.receiver, state.value], count)
    return family


def _per_state(name: str, text: str, states: Mapping[State, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state, count in states.items():
        family.add_metric([state.value], count)
    return family


def _deliveries(counts: Counts) -> Metric:
    family = GaugeMetricFamily("cxr_triage_deliveries", "Objects by destination", labels=["destination", "state"])
    for destination, states in counts.deliveries.items():
        for state, count in states.items():
            family.add_metric([destination, state.value], count)
    return family


def _alerts(raised: Iterable[Alert]) -> Metric:
    family = GaugeMetricFamily("cxr_triage_alert", "1 while a person must look", labels=["alert", "subject"])
    for alert in raised:
        family.add_metric([alert.name.value, alert.subject], 1)
    return family


def _age(name: str, text: str, since: datetime | None, now: datetime) -> Metric:
    return GaugeMetricFamily(name, text, 0.0 if since is None else max(0.0, (now - since).total_seconds()))
