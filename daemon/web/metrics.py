"""The ledger's counts as Prometheus metrics, read when asked for. No label holds patient data."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from importlib.metadata import version
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from cxr_triage.daemon.alerts import Alert, current_alerts
from cxr_triage.daemon.heartbeat import is_alive
from cxr_triage.daemon.service import enabled_roles
from cxr_triage.daemon.settings import Settings
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import Housekeeping
from cxr_triage.storage.records import Counts, InstanceState
from cxr_triage.storage.service_clock import ReadableClock

State = TypeVar("State", bound=StrEnum)


class LedgerCollector(Collector):
    """Counts per state, ages of the oldest, and which roles live."""

    def __init__(self, settings: Settings, database: Database, *, clock: ReadableClock) -> None:
        self._settings = settings
        self._housekeeping = Housekeeping(database, clock=clock)
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """Read one snapshot.

        Raises:
            StorageError: the database does not answer.
        """
        yield InfoMetricFamily("cxr_triage_build", "Version of the product", {"version": version("cxr-triage")})
        yield self._roles()
        counts = self._housekeeping.counts()
        yield from _of_counts(counts, self._clock())
        yield _alerts(current_alerts(counts, self._clock, self._settings))

    def _roles(self) -> Metric:
        family = GaugeMetricFamily("cxr_triage_role_up", "1 while the role shows signs of life", labels=["role"])
        beat = self._settings.service.heartbeat_seconds
        for role in enabled_roles(self._settings):
            family.add_metric([role], is_alive(self._settings.run_folder, role, beat))
        return family


def registry(settings: Settings, database: Database, *, clock: ReadableClock) -> CollectorRegistry:
    """A registry of our metrics alone."""
    own = CollectorRegistry(auto_describe=False)
    own.register(LedgerCollector(settings, database, clock=clock))
    return own


def _of_counts(counts: Counts, now: datetime) -> Iterator[Metric]:
    yield _per_state("cxr_triage_images", "Images by state", counts.instances)
    yield _per_state("cxr_triage_revisions", "Study results by state", counts.revisions)
    yield _deliveries(counts)
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
