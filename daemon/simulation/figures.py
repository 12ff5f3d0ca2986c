"""Runs -> figures: how long studies wait in the ordered list and in the triaged one, by kind of study."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cxr_triage.daemon.simulation.cases import Case, Detector, draw_cases
from cxr_triage.daemon.simulation.reading_room import Read, read_all
from cxr_triage.daemon.simulation.scenario import Scenario
from cxr_triage.model.priority import Level, Mode, Policy

#: Share of a run at its beginning and at its end that does not count: the list fills, and runs dry.
BEGINNING: Final = 0.1
END: Final = 0.02
CONFIDENCE: Final = 0.95

#: Kinds of studies, by name; a study may be of several.
Kinds = dict[str, Callable[[Case], bool]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One run: the same studies, the same reading times, in both lists."""

    cases: Sequence[Case]
    #: Without findings: first come, first served within what was ordered.
    ordered: Sequence[Read]
    triaged: Sequence[Read]


def simulate(
    scenario: Scenario,
    policy: Policy,
    found_by: Mapping[str, Detector],
    progress: Callable[[], None] = lambda: None,
) -> list[Run]:
    """Play all runs.

    Args:
        scenario: traffic, readers, findings.
        policy: what findings may do; its mode does not count: one list is without them, the other is reordered.
        found_by: how each label is found.
        progress: called after each run.
    """
    runs = []
    for seed in np.random.SeedSequence(scenario.seed).spawn(scenario.runs):
        cases = draw_cases(scenario, found_by, np.random.default_rng(seed))
        scoring = scenario.findings.scoring_seconds / 60
        ordered, triaged = (
            read_all(cases, readers=scenario.readers, policy=each, scoring_minutes=scoring)
            for each in (replace(policy, mode=Mode.SHADOW), replace(policy, mode=Mode.REORDER))
        )
        runs.append(Run(cases=cases, ordered=ordered, triaged=triaged))
        progress()
    return runs


def figures_of(runs: Sequence[Run], scenario: Scenario, policy: Policy) -> dict[str, Any]:
    """Every figure, JSON-ready; times are minutes."""
    critical = frozenset(scenario.findings.critical)
    return {
        "runs": len(runs),
        "studies_per_run": len(runs[0].cases),
        "critical": sorted(critical),
        "kinds": {name: made for name, kind in _kinds(critical, policy).items() if (made := _kind_figures(runs, kind))},
    }


def _kinds(critical: frozenset[str], policy: Policy) -> Kinds:
    def flagged(case: Case) -> bool:
        return any(policy.severity[finding.label] > 0 for finding in case.findings)

    levels: Kinds = {
        f"ordered {level.name}": lambda case, level=level: case.ordered is level  # type: ignore[misc]
        for level in Level
    }
    return {
        "all": lambda _: True,
        "critical": lambda case: bool(case.truth & critical),
        "with a finding": lambda case: bool(case.truth),
        "without a finding": lambda case: not case.truth,
        # What may move: a finding whose label has a weight.
        "flagged": flagged,
        "not flagged": lambda case: not flagged(case),
        **levels,
    }


def _kind_figures(runs: Sequence[Run], kind: Callable[[Case], bool]) -> dict[str, Any] | None:
    """None where a run has none of this kind."""
    chosen = [_counted(run, kind) for run in runs]
    if not all(len(places) for places in chosen):
        return None
    figures: dict[str, Any] = {"studies": sum(len(places) for places in chosen)}
    for arm in ("ordered", "triaged"):
        waited = [_values(getattr(run, arm), places, "waited") for run, places in zip(runs, chosen, strict=True)]
        turnaround = [
            _values(getattr(run, arm), places, "turnaround") for run, places in zip(runs, chosen, strict=True)
        ]
        figures[arm] = {"wait": _spread(waited), "turnaround": _spread(turnaround)}
    saved = [
        _values(run.ordered, places, "waited") - _values(run.triaged, places, "waited")
        for run, places in zip(runs, chosen, strict=True)
    ]
    figures["saved"] = _mean(saved) | {
        # What one study lost at most: triage moves others ahead of it.
        "worst": float(min(each.min() for each in saved)),
    }
    return figures


def _counted(run: Run, kind: Callable[[Case], bool]) -> NDArray[np.int64]:
    """Places of the studies of a kind that lie neither at the run's beginning nor at its end."""
    count = len(run.cases)
    first, last = int(count * BEGINNING), count - int(count * END)
    return np.array([case.number for case in run.cases[first:last] if kind(case)], dtype=np.int64)


def _values(read: Sequence[Read], places: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    return np.array([getattr(read[place], name) for place in places])


def _spread(values: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    together = np.concatenate(values)
    return _mean(values) | {"p95": float(np.percentile(together, 95)), "maximum": float(together.max())}


def _mean(values: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """The mean over runs, with Student's interval: runs are independent, studies of one run are not."""
    means = np.array([each.mean() for each in values])
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(means) - 1) * stats.sem(means)
    return {"mean": float(means.mean()), "mean_interval": [float(means.mean() - half), float(means.mean() + half)]}
