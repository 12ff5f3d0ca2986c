"""Runs -> one plot: how many studies still wait after how long. Needs matplotlib, which comes with `[train]`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from cxr_triage.daemon.simulation.figures import Run
from cxr_triage.daemon.simulation.scenario import Scenario
from cxr_triage.model.errors import ConfigurationError

#: Inches.
SIZE: Final = (8.0, 4.5)
ORDERED, TRIAGED = "tab:gray", "tab:blue"


def save_plot(runs: Sequence[Run], scenario: Scenario, file: Path) -> None:
    """Write the shares of critical and of all other studies that wait longer than a time, in both lists.

    Args:
        runs: played.
        scenario: says what is critical.
        file: its ending says the format: .png, .svg or .pdf.

    Raises:
        ConfigurationError: matplotlib is not installed, or the file cannot be written so.
    """
    try:
        from matplotlib.axes import Axes  # noqa: PLC0415 - an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError("plots need matplotlib: pip install 'cxr-triage[train]'") from None
    figure = Figure(figsize=SIZE, layout="constrained")
    critical = frozenset(scenario.findings.critical)
    panels: list[Axes] = list(figure.subplots(1, 2, sharey=True))
    for axes, name in zip(panels, ("critical", "others"), strict=True):
        for arm, colour in (("ordered", ORDERED), ("triaged", TRIAGED)):
            waited = np.sort(_waits(runs, arm, critical, those=name == "critical"))
            axes.step(waited, 1 - np.arange(1, len(waited) + 1) / max(len(waited), 1), color=colour, label=arm)
        axes.set(title=name, xlabel="minutes", yscale="log", ylim=(1e-4, 1))
        axes.legend()
    figure.supylabel("share that waits longer")
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file}: cannot be written: {error}") from None


def _waits(runs: Sequence[Run], arm: str, critical: frozenset[str], *, those: bool) -> list[float]:
    """Of the critical studies, or of all others."""
    return [
        read.waited
        for run in runs
        for case, read in zip(run.cases, getattr(run, arm), strict=True)
        if bool(case.truth & critical) == those
    ]
