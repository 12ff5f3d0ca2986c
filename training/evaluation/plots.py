"""Scored images -> plots, each a matplotlib figure: no window, no global state."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from cxr_triage.training.data import NIH_LABELS
from cxr_triage.training.evaluation.classification import Column, column
from cxr_triage.training.evaluation.comparison import paired
from cxr_triage.training.evaluation.ratio import LIMITS_SD, pairs
from cxr_triage.training.evaluation.scored import Scored
from cxr_triage.training.evaluation.segmentation import COMPARED
from cxr_triage.training.metrics import auc

COLUMNS: Final = 4
#: Side of a small plot, inches.
PANEL: Final = 2.6
OURS, REFERENCE, CHANCE = "tab:blue", "tab:orange", "0.7"
RELIABILITY_BINS: Final = 5


def roc(rows: Sequence[Scored]) -> Figure | None:
    """ROC per label: ours on all images; ours and the reference on the images that have both."""

    def draw(axes: Axes, label: str, each: Column) -> None:
        _curve(axes, each.truth_N, each.probability_N, "ours", color=OURS)
        both, scores_N = paired(rows, label)
        if both.positives and both.negatives:
            _curve(axes, both.truth_N, both.probability_N, "ours, same images", color=OURS, linestyle=":")
            _curve(axes, both.truth_N, scores_N, "reference", color=REFERENCE)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity")
        axes.legend(loc="lower right", fontsize="xx-small")

    return _panels(rows, draw)


def reliability(rows: Sequence[Scored]) -> Figure | None:
    """Frequency over probability per label, in equally filled bins."""

    def draw(axes: Axes, _: str, each: Column) -> None:
        known = ~np.isnan(each.truth_N)
        frequency, mean = calibration_curve(
            each.truth_N[known], each.probability_N[known], n_bins=RELIABILITY_BINS, strategy="quantile"
        )
        axes.plot(mean, frequency, marker="o", markersize=3, color=OURS)
        end = 1.1 * max(*frequency, *mean)
        axes.set(xlim=(0, end), ylim=(0, end), xlabel="probability", ylabel="frequency")

    return _panels(rows, draw)


def bland_altman(rows: Sequence[Scored]) -> Figure | None:
    """Error of the cardiothoracic ratio over the mean of both, with bias and limits of agreement."""
    both = pairs(rows)
    if len(both) < 2:
        return None
    values = np.array([(own, true) for _, own, true in both])
    errors = values[:, 0] - values[:, 1]
    figure = Figure(figsize=(2 * PANEL, 1.4 * PANEL), layout="constrained")
    axes = figure.subplots()
    axes.scatter(values.mean(axis=1), errors, s=10, color=OURS)
    for height, style in ((0, "-"), (LIMITS_SD, "--"), (-LIMITS_SD, "--")):
        axes.axhline(errors.mean() + height * errors.std(ddof=1), color=REFERENCE, linestyle=style)
    axes.set(xlabel="mean of both ratios", ylabel="ours - true", title="Cardiothoracic ratio")
    return figure


def dice_distribution(rows: Sequence[Scored]) -> Figure | None:
    """Dice of every image, by structure and source."""
    masked = [row for row in rows if row.overlap]
    if not masked:
        return None
    sources = sorted({row.sample.source for row in masked})
    figure = Figure(figsize=(4 * PANEL, 1.4 * PANEL), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(COMPARED), sharey=True), COMPARED, strict=True):
        values = [[row.overlap[name].dice for row in masked if row.sample.source == source] for source in sources]
        axes.boxplot(values, tick_labels=sources, whis=(5, 95), flierprops={"markersize": 3})
        axes.set_title(name, fontsize="small")
    figure.axes[0].set_ylabel("Dice")
    return figure


def _curve(
    axes: Axes,
    truth_N: NDArray[np.float64],
    scores_N: NDArray[np.float64],
    name: str,
    *,
    color: str,
    linestyle: str = "-",
) -> None:
    known = ~np.isnan(truth_N)
    false_positives, true_positives, _ = roc_curve(truth_N[known], scores_N[known])
    area = auc(truth_N, scores_N)
    axes.plot(false_positives, true_positives, color=color, linestyle=linestyle, label=f"{name} {area:.2f}")


def _panels(rows: Sequence[Scored], draw: Callable[[Axes, str, Column], None]) -> Figure | None:
    """A small plot for each label that has positives and negatives, with the diagonal in it."""
    columns = {label: each for label in NIH_LABELS if min((each := column(rows, label)).positives, each.negatives)}
    if not columns:
        return None
    lines = -(-len(columns) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * PANEL, lines * PANEL), layout="constrained")
    panels = figure.subplots(lines, COLUMNS, squeeze=False).flat
    for label, each in columns.items():
        axes = next(panels)
        axes.axline((0, 0), slope=1, color=CHANCE, linewidth=0.8)
        draw(axes, label, each)
        axes.set_title(f"{label} ({each.positives} of {each.positives + each.negatives})", fontsize="small")
    for axes in panels:
        axes.remove()
    return figure
