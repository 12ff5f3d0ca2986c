"""The studies of one run: when each arrives, what was ordered, what it has, and what the network says of it."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.random import Generator

from cxr_triage.daemon.simulation.scenario import Scenario
from cxr_triage.model.bundle import Card
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.findings import ABNORMALITY_BY_NAME, Finding
from cxr_triage.model.priority import Level

MINUTES_PER_DAY: Final = 24 * 60
#: What an operating point that a scenario states flags has a probability drawn evenly from between these: only that it
#: is flagged is known of it.
STATED_THRESHOLD: Final = 0.5
STATED_TOP: Final = 0.75
COLUMNS: Final = ("arrived_at", "ordered", "labels", "reading_minutes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One study. Times are minutes from the midnight before the first arrival."""

    number: int
    arrived: float
    ordered: Level
    reading_minutes: float
    #: Labels that it has.
    truth: frozenset[str]
    #: What the network says of it: present findings.
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Detector:
    """How the network's probability of one label falls: into bins, from certain to below every threshold."""

    threshold: float
    #: Upper and lower edge of each bin, falling; the last one lies below the threshold.
    edges: tuple[tuple[float, float], ...]
    #: Share of the studies with the label, and of those without, in each bin.
    with_label: tuple[float, ...]
    without: tuple[float, ...]

    def draw(self, random: Generator, *, present: bool) -> float:
        """Draw a probability."""
        shares = self.with_label if present else self.without
        upper, lower = self.edges[int(random.choice(len(shares), p=shares))]
        return float(random.uniform(lower, upper))


def detectors(scenario: Scenario, card: Card, sensitivity: float | None = None) -> dict[str, Detector]:
    """How each label is found: as the scenario states it, else as the operating points of the card tell.

    Args:
        scenario: what it states goes first.
        card: of the bundle.
        sensitivity: that of the site's operating points; None = the card's.

    Raises:
        ConfigurationError: the card has no operating point of this sensitivity.
    """
    chosen = card.require(sensitivity)
    stated = {
        name: _of_points([(STATED_THRESHOLD, point.sensitivity, point.specificity)], STATED_THRESHOLD, STATED_TOP)
        for name, point in scenario.findings.operating_points.items()
    }
    if not scenario.findings.by_card:
        return stated
    by_card = {}
    for label in card.labels:
        points = [(point.threshold, point.sensitivity, point.specificity) for point in label.operating_points]
        by_card[label.name] = _of_points(points, label.at(chosen).threshold, 1.0)
    return by_card | stated


def _of_points(points: Sequence[tuple[float, float, float]], threshold: float, top: float) -> Detector:
    """Between two thresholds lies what one operating point flags and the other does not."""
    falling = sorted(points, reverse=True)
    sensitivities = [0.0, *(point[1] for point in falling), 1.0]
    false_alarms = [0.0, *(1 - point[2] for point in falling), 1.0]
    borders = [top, *(point[0] for point in falling), 0.0]
    return Detector(
        threshold=threshold,
        edges=tuple(pairwise(borders)),
        with_label=_shares(sensitivities),
        without=_shares(false_alarms),
    )


def _shares(rising: Sequence[float]) -> tuple[float, ...]:
    """What is between neighbours; an estimate that falls where it must rise counts as flat."""
    flat = np.maximum.accumulate(rising)
    return tuple(float(share) for share in np.diff(flat))


def draw_cases(scenario: Scenario, found_by: Mapping[str, Detector], random: Generator) -> list[Case]:
    """Draw one run; real arrivals stay as they are, and what they do not say is drawn."""
    given = list(_read(scenario.traffic.arrivals)) if scenario.traffic.arrivals else []
    times = [row.arrived for row in given] or _times(scenario, random)
    levels, weights = zip(*scenario.mix().items(), strict=True)
    drawn = random.choice(len(levels), size=len(times), p=weights)
    readings = _readings(scenario, random, len(times))
    cases = []
    for number, arrived in enumerate(times):
        row = given[number] if given else _Row(arrived=arrived)
        truth = row.truth if row.truth is not None else _truth(scenario, random)
        cases.append(
            Case(
                number=number,
                arrived=arrived,
                ordered=row.ordered if row.ordered is not None else levels[drawn[number]],
                reading_minutes=row.reading_minutes if row.reading_minutes is not None else float(readings[number]),
                truth=truth,
                findings=tuple(_said(found_by, truth, random)),
            )
        )
    return cases


def _times(scenario: Scenario, random: Generator) -> list[float]:
    """Poisson; where the hours differ, the clock of each runs at its own rate."""
    units = np.cumsum(random.exponential(60 / scenario.traffic.per_hour, scenario.traffic.studies))
    if not scenario.traffic.by_hour:
        return [float(unit) for unit in units]
    rates = np.array(scenario.traffic.by_hour) / np.mean(scenario.traffic.by_hour)
    elapsed = np.concatenate([[0.0], np.cumsum(rates * 60)])
    days, within = np.divmod(units, MINUTES_PER_DAY)
    # Where an hour has no arrivals, elapsed time stands still, and what falls on it comes at its end.
    hours = np.searchsorted(elapsed, within, side="right") - 1
    hours = np.minimum(hours, len(rates) - 1)
    minutes = hours * 60 + (within - elapsed[hours]) / np.maximum(rates[hours], 1e-12)
    return [float(time) for time in days * MINUTES_PER_DAY + minutes]


def _readings(scenario: Scenario, random: Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    mean, variation = scenario.readers.minutes, scenario.readers.variation
    if variation == 0:
        return np.full(count, mean)
    return random.gamma(variation**-2, mean * variation**2, count)


def _truth(scenario: Scenario, random: Generator) -> frozenset[str]:
    return frozenset(name for name, share in scenario.findings.prevalence.items() if random.random() < share)


def _said(found_by: Mapping[str, Detector], truth: frozenset[str], random: Generator) -> Iterator[Finding]:
    for name, detector in found_by.items():
        probability = detector.draw(random, present=name in truth)
        if probability >= detector.threshold:
            yield Finding(label=name, probability=probability, threshold=detector.threshold)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """What an arrivals file says of one study; None = nothing."""

    arrived: float
    ordered: Level | None = None
    truth: frozenset[str] | None = None
    reading_minutes: float | None = None


def _read(file: Path) -> Iterator[_Row]:
    """Rows of an arrivals file, by time.

    Raises:
        ConfigurationError: it cannot be read, or a row says what cannot be meant.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            _require_columns(file, table.fieldnames or ())
            rows = [_row(file, number, row) for number, row in enumerate(table, start=2)]
            _require_one_clock(file, [row[0] for row in rows])
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror}): check traffic.arrivals") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: is not CSV in UTF-8: {error}") from None
    if len(rows) < 2:
        raise ConfigurationError(f"{file}: holds fewer than two arrivals")
    ordered = sorted(rows, key=lambda row: row[0])
    midnight = ordered[0][0].replace(hour=0, minute=0, second=0, microsecond=0)
    for arrived_at, level, truth, reading in ordered:
        arrived = (arrived_at - midnight) / timedelta(minutes=1)
        yield _Row(arrived=arrived, ordered=level, truth=truth, reading_minutes=reading)


def _require_one_clock(file: Path, times: Sequence[datetime]) -> None:
    """Hours of the day are those of one clock: times without an offset, or all with the same."""
    if len({time.utcoffset() for time in times}) > 1:
        raise ConfigurationError(f"{file}: arrived_at has several offsets from UTC: write all times by one clock")


def _require_columns(file: Path, names: Sequence[str]) -> None:
    unknown = sorted(set(names) - set(COLUMNS))
    if "arrived_at" not in names or unknown:
        wrong = f"has the unknown column {unknown[0]!r}" if unknown else "has no column arrived_at"
        raise ConfigurationError(f"{file}: {wrong}: use {', '.join(COLUMNS)}; all but the first may be left out")


def _row(
    file: Path, number: int, row: Mapping[str, str | None]
) -> tuple[datetime, Level | None, frozenset[str] | None, float | None]:
    try:
        arrived_at = datetime.fromisoformat(row["arrived_at"] or "")
        level = Level[level_name] if (level_name := row.get("ordered")) else None
        reading = _minutes(cell) if (cell := row.get("reading_minutes")) else None
        truth = None if row.get("labels") is None else _labels(row["labels"] or "")
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{file}, line {number}: {error}: arrived_at is a time such as 2026-03-01T08:15, ordered one of "
            f"{', '.join(level.name for level in Level)}, labels are names with | between, reading_minutes is positive"
        ) from None
    return arrived_at, level, truth, reading


def _minutes(cell: str) -> float:
    minutes = float(cell)
    if not 0 < minutes < MINUTES_PER_DAY:
        raise ValueError(f"reading_minutes = {minutes:g}")
    return minutes


def _labels(cell: str) -> frozenset[str]:
    names = frozenset(name.strip() for name in cell.split("|") if name.strip())
    unknown = sorted(names - ABNORMALITY_BY_NAME.keys())
    if unknown:
        raise ValueError(f"there is no label {unknown[0]!r}")
    return names
