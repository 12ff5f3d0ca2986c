"""Ours beside another network on the same images, and on the images that it predicted beside those that it did not."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_triage.training.data import NIH_LABELS
from cxr_triage.training.evaluation.classification import Column, abnormal_truth, column, mean_of
from cxr_triage.training.evaluation.intervals import interval, macro, resample, resampled_auc
from cxr_triage.training.evaluation.scored import Scored
from cxr_triage.training.metrics import auc

#: An AUC, and that of each resample.
Areas = tuple[float | None, NDArray[np.float64]]


def reference(rows: Sequence[Scored]) -> dict[str, Any]:
    """AUC of ours and of the reference predictions, and of their difference (ours - reference), paired.

    Both are measured on the same resamples, so that what makes an image hard for both cancels out.
    """
    both = [row for row in rows if row.sample.reference is not None]
    weights = resample([row.sample.patient for row in both])
    columns = {label: pair for label in NIH_LABELS if (pair := paired(both, label))[0].enough()}
    ours = {label: _areas(each, each.probability_N, weights) for label, (each, _) in columns.items()}
    theirs = {label: _areas(each, scores, weights) for label, (each, scores) in columns.items()}
    labels = {label: _difference(ours[label], theirs[label]) for label in columns}
    return {
        "images": len(both),
        "labels": labels,
        "macro": _difference(_mean(ours), _mean(theirs)) if columns else None,
    }


def paired(rows: Sequence[Scored], label: str) -> tuple[Column, NDArray[np.float64]]:
    """One label over the images that have ours and the reference's probability, and the latter (N,)."""
    scores_N = np.array([(row.sample.reference or {}).get(label, np.nan) for row in rows])
    return _within(column(rows, label), ~np.isnan(scores_N)), scores_N


def _areas(each: Column, scores_N: NDArray[np.float64], weights_RN: NDArray[np.uint16]) -> Areas:
    return auc(each.truth_N, scores_N), resampled_auc(each.truth_N, scores_N, weights_RN)


def _mean(areas: Mapping[str, Areas]) -> Areas:
    return mean_of([area for area, _ in areas.values()]), macro([resampled for _, resampled in areas.values()])


def _difference(ours: Areas, theirs: Areas) -> dict[str, Any]:
    assert ours[0] is not None
    assert theirs[0] is not None
    return {
        "ours": ours[0],
        "ours_interval": interval(ours[1]),
        "reference": theirs[0],
        "reference_interval": interval(theirs[1]),
        "difference": ours[0] - theirs[0],
        "difference_interval": interval(ours[1] - theirs[1]),
    }


def selection(rows: Sequence[Scored]) -> dict[str, Any] | None:
    """Whether figures rest on telling two selections of images apart; None where there are no two.

    Images with and without reference predictions were selected differently, and some labels come mostly from one of
    the selections. A network that tells the selections apart scores well on both together and badly within each.
    """
    sources = {row.sample.source for row in rows if row.sample.reference is not None}
    mixed = [row for row in rows if row.sample.source in sources]
    inside = np.array([row.sample.reference is not None for row in mixed], dtype=bool)
    columns = {label: each for label in NIH_LABELS if _enough_in_both(each := column(mixed, label), inside)}
    if not columns:
        return None
    weights = resample([row.sample.patient for row in mixed])
    parts = {"together": np.ones_like(inside), "with_reference": inside, "without_reference": ~inside}
    labels = {
        name: {label: _areas(_within(each, part), each.probability_N, weights) for label, each in columns.items()}
        for name, part in parts.items()
    }
    macros = {name: _mean(areas) for name, areas in labels.items()}
    figures = {
        name: {
            "images": int(parts[name].sum()),
            "macro_auc": area,
            "macro_auc_interval": interval(resampled),
            "labels": {label: area for label, (area, _) in labels[name].items()},
        }
        for name, (area, resampled) in macros.items()
    }
    normal = np.where(abnormal_truth(mixed) == 0, inside, np.nan)
    return figures | _drop(macros) | {"among_normal": _among_normal(columns, normal, weights)}


def _enough_in_both(each: Column, inside_N: NDArray[np.bool_]) -> bool:
    return _within(each, inside_N).enough() and _within(each, ~inside_N).enough()


def _within(each: Column, part_N: NDArray[np.bool_]) -> Column:
    truth = np.where(part_N, each.truth_N, np.nan)
    return Column(truth_N=truth, probability_N=each.probability_N, flagged_N=each.flagged_N)


def _drop(macros: Mapping[str, Areas]) -> dict[str, Any]:
    """What the macro AUC loses when each selection is looked at on its own."""
    (together, resampled), *within = macros.values()
    inside = mean_of([area for area, _ in within])
    assert together is not None
    assert inside is not None
    return {
        "drop": together - inside,
        "drop_interval": interval(resampled - macro([areas for _, areas in within])),
    }


def _among_normal(
    columns: Mapping[str, Column], inside_N: NDArray[np.float64], weights_RN: NDArray[np.uint16]
) -> dict[str, Any]:
    """How well a label's probability tells the selection where there is no disease to see: AUC 0.5 = not at all."""
    areas = {label: resampled_auc(inside_N, each.probability_N, weights_RN) for label, each in columns.items()}
    return {
        "images": int((~np.isnan(inside_N)).sum()),
        "labels": {
            label: {"auc": auc(inside_N, each.probability_N), "auc_interval": interval(areas[label])}
            for label, each in columns.items()
        },
    }
