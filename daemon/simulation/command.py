"""`cxr-triage simulate`: the figures for a person, for a machine, and as a plot."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cxr_triage.daemon.simulation import closed_form
from cxr_triage.daemon.simulation.cases import Detector, detectors
from cxr_triage.daemon.simulation.figures import figures_of, simulate
from cxr_triage.daemon.simulation.plots import save_plot
from cxr_triage.daemon.simulation.scenario import Scenario
from cxr_triage.model.bundle import Card
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.priority import Policy

ASSUMED: Final = (
    "Assumed: a label is found or missed independently of all others, and of the study's difficulty; readers take "
    "the next study as soon as they are done, and follow the list. A simulation says what an order does to waiting; it "
    "does not say what waiting does to patients."
)


def play(
    scenario: Scenario,
    policy: Policy,
    card: Card,
    *,
    error: Console,
    sensitivity: float | None = None,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Simulate; all figures, JSON-ready, times in minutes.

    Args:
        scenario: traffic, readers, findings.
        policy: what findings may do.
        card: says how each label is found, unless the scenario does.
        error: where progress is shown, if that is a terminal.
        sensitivity: that of the site's operating points; None = the card's.
        plot: where to write one; None: nowhere.

    Raises:
        ConfigurationError: more studies arrive than are read, or plots need a package that is not installed.
    """
    found_by = detectors(scenario, card, sensitivity)
    _require_stable(scenario)
    with Progress(console=error, disable=not error.is_terminal) as progress:
        task = progress.add_task("runs", total=scenario.runs)
        runs = simulate(scenario, policy, found_by, progress=lambda: progress.advance(task))
    if plot is not None:
        save_plot(runs, scenario, plot)
    return figures_of(runs, scenario, policy) | {
        "load": load_of(scenario),
        "flagged_by": {name: _points(detector) for name, detector in found_by.items()},
        "closed_form": first_come_in_theory(scenario),
        "assumed": ASSUMED,
    }


def load_of(scenario: Scenario) -> float | None:
    """Reading time that arrives through reading time that there is; None where arrivals are a site's own."""
    if scenario.traffic.arrivals is not None:
        return None
    hours = scenario.readers.by_hour
    readers = sum(hours) / len(hours) if hours else scenario.readers.number
    return scenario.traffic.per_hour / 60 * scenario.readers.minutes / readers


def first_come_in_theory(scenario: Scenario) -> float | None:
    """Mean wait without findings where all are ordered alike, by queueing theory; None where it has no closed form."""
    traffic, readers = scenario.traffic, scenario.readers
    if traffic.arrivals or traffic.by_hour or readers.by_hour or len(scenario.mix()) > 1:
        return None
    if readers.number > 1 and readers.variation != 1.0:
        return None
    rates = [traffic.per_hour / 60]
    return closed_form.waits(rates, readers=readers.number, minutes=readers.minutes, variation=readers.variation)[0]


def _require_stable(scenario: Scenario) -> None:
    load = load_of(scenario)
    if load is not None and load >= 1:
        raise ConfigurationError(
            f"the readers' load is {load:.2f}: more arrives than is read, and the list grows without end; lower "
            "traffic.per_hour, or add readers"
        )


def _points(detector: Detector) -> dict[str, float]:
    """What share is flagged, with the label and without."""
    return {
        "sensitivity": sum(_above(detector, detector.with_label)),
        "false_alarms": sum(_above(detector, detector.without)),
    }


def _above(detector: Detector, shares: tuple[float, ...]) -> Iterator[float]:
    yield from (share for (_, lower), share in zip(detector.edges, shares, strict=True) if lower >= detector.threshold)


def print_figures(figures: Mapping[str, Any], console: Console) -> None:
    """The same for a person."""
    table = Table(
        title=f"Waiting for a reader, minutes: {figures['runs']} runs of {figures['studies_per_run']} studies"
    )
    for name in ("studies", "", "as ordered", "triaged", "saved on average (95 %)", "most lost"):
        table.add_column(name, justify="left" if name in ("studies", "") else "right")
    for name, kind in figures["kinds"].items():
        saved = kind["saved"]
        low, high = saved["mean_interval"]
        for row, what in enumerate(("mean", "p95", "maximum")):
            table.add_row(
                name if row == 0 else "",
                what,
                f"{kind['ordered']['wait'][what]:.1f}",
                f"{kind['triaged']['wait'][what]:.1f}",
                f"{saved['mean']:.1f} ({low:.1f} to {high:.1f})" if row == 0 else "",
                f"{max(-saved['worst'], 0.0):.1f}" if row == 0 else "",
                end_section=what == "maximum",
            )
    console.print(table)
    for sentence in _sentences(figures):
        console.print(sentence, highlight=False)


def _sentences(figures: Mapping[str, Any]) -> Iterator[str]:
    kinds = figures["kinds"]
    if "critical" in kinds:
        saved, everyone = kinds["critical"]["saved"], kinds["all"]
        longest = [everyone[arm]["wait"]["maximum"] for arm in ("ordered", "triaged")]
        yield (
            f"Per critical study ({', '.join(figures['critical'])}) {saved['mean']:.1f} minutes are saved on average. "
            f"The longest wait of any study goes from {longest[0]:.0f} to {longest[1]:.0f} minutes; one study lost "
            f"{max(-everyone['saved']['worst'], 0):.0f}."
        )
    if figures["load"] is not None:
        yield f"Load of the readers: {figures['load']:.2f}."
    if figures["closed_form"] is not None:
        yield f"Mean wait as ordered by queueing theory: {figures['closed_form']:.3f} minutes."
    yield figures["assumed"]
