"""Scored images -> every figure, as one JSON-ready mapping, and what was done to get them."""

import platform
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from cxr_triage.model.bundle import Card
from cxr_triage.model.predictor import Predictor
from cxr_triage.training.data import Sample
from cxr_triage.training.evaluation.classification import classification, multi_label
from cxr_triage.training.evaluation.comparison import reference, selection
from cxr_triage.training.evaluation.folds import Assignment, EvaluatedSplit, assign
from cxr_triage.training.evaluation.gate import gate
from cxr_triage.training.evaluation.location import location
from cxr_triage.training.evaluation.ratio import ratio
from cxr_triage.training.evaluation.saliency import localisation
from cxr_triage.training.evaluation.scored import Scored
from cxr_triage.training.evaluation.scoring import has_truth, score
from cxr_triage.training.evaluation.segmentation import segmentation
from cxr_triage.training.evaluation.strata import per_fold, strata
from cxr_triage.training.evaluation.zones import zones

#: Packages whose version may change a figure.
VERSIONED: Final = ("cxr-triage", "torch", "numpy", "scikit-learn", "scipy", "monai")


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The scored images and their figures."""

    scored: Sequence[Scored]
    figures: dict[str, Any]


def evaluate(
    samples: Sequence[Sample],
    predictors: Sequence[Predictor],
    *,
    split: EvaluatedSplit,
    progress: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score a split of a folder and compute every figure.

    Args:
        samples: the folder's samples.
        predictors: one bundle, or one per fold of a cross-validation.
        split: whose patients.
        progress: called after each image.

    Raises:
        ConfigurationError, DataError: as `assign`.
    """
    cards = [predictor.card for predictor in predictors]
    assignment = assign(samples, cards, split)
    rows = [row for row in assignment.rows if has_truth(row[0])]
    scored = score(rows, predictors, progress)
    return Evaluation(scored=scored, figures=_done(scored, cards, split, assignment) | figures_of(scored))


def figures_of(scored: Sequence[Scored]) -> dict[str, Any]:
    """Every figure that follows from predictions, wherever they were made."""
    pooled = multi_label(scored)
    return {
        "seen_in_training": sum(row.seen for row in scored),
        "segmentation": segmentation(scored),
        "ctr": ratio(scored),
        "classification": classification(pooled) | {"sources": sorted({row.sample.source for row in pooled})},
        "folds": per_fold(scored),
        "strata": strata(scored),
        "selection": selection(pooled),
        "reference": reference(pooled),
        "location": location(scored),
        "localisation": localisation(scored),
        "zones": zones(scored),
        "gate": gate(scored),
    }


def _done(
    scored: Sequence[Scored], cards: Sequence[Card], split: EvaluatedSplit, assignment: Assignment
) -> dict[str, Any]:
    """What was done: by which weights, on which images, when, with what."""
    return {
        "bundles": [
            {
                "name": card.name,
                "version": card.version,
                "sha256": card.sha256,
                "abnormal_formula": card.abnormal_formula,
            }
            for card in cards
        ],
        "split": split,
        "images": {
            "evaluated": len(scored),
            "by_source": dict(sorted(Counter(row.sample.source for row in scored).items())),
            "patients": len({row.sample.patient for row in scored}),
            "without_a_figure": len(assignment.rows) - len(scored),
            "left_out": assignment.left_out,
        },
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONED},
    }
