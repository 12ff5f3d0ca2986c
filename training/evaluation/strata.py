"""The same figures for parts of the images: by source, sex, age and view, and by fold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cxr_triage.training.evaluation.classification import MIN_CASES, classification, mean_of, multi_label
from cxr_triage.training.evaluation.scored import UNKNOWN, Scored

#: What the pooled images are split by.
STRATA: Final[Mapping[str, Callable[[Scored], str]]] = {
    "sex": lambda row: row.sample.sex or UNKNOWN,
    "age": lambda row: row.age_band,
    "view": lambda row: row.sample.view or UNKNOWN,
}


def strata(rows: Sequence[Scored]) -> dict[str, Any]:
    """Classification by source, of all labelled images, and by each of STRATA, of those that are pooled.

    A macro AUC here counts the labels that have MIN_CASES positives and negatives in its part.
    """
    labelled = [row for row in rows if row.sample.labels]
    found = {"source": _split(labelled, lambda row: row.sample.source)}
    return found | {name: _split(multi_label(labelled), part_of) for name, part_of in STRATA.items()}


def per_fold(rows: Sequence[Scored]) -> dict[str, Any] | None:
    """Classification by bundle and its mean over them; None with one bundle.

    Pooled over folds, an AUC compares probabilities of several networks, each calibrated on its own; averaged, it
    compares those of one network only. Both are estimates of the same thing.
    """
    parts = _split(multi_label(rows), lambda row: f"{row.bundle.name} {row.bundle.version} {row.bundle.sha256[:8]}")
    if len(parts) < 2:
        return None
    keys = ("macro_auc", "abnormal_auc")
    return {
        "bundles": {
            name: {key: part[key] for key in ("images", "macro_labels", *keys)} for name, part in parts.items()
        },
        "mean": {key: mean_of([part[key] for part in parts.values()]) for key in keys},
        "labels": {
            label: mean_of([part["labels"][label]["auc"] for part in parts.values() if label in part["labels"]])
            for label in sorted({label for part in parts.values() for label in part["labels"]})
        },
    }


def _split(rows: Sequence[Scored], part_of: Callable[[Scored], str]) -> dict[str, Any]:
    names = sorted({part_of(row) for row in rows})
    return {name: classification([row for row in rows if part_of(row) == name], min_cases=MIN_CASES) for name in names}
