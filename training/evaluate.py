"""Measures a bundle on a folder with a manifest.csv, through the same code that the service runs."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_triage.model.bundle import Card
from cxr_triage.model.findings import LOCATIONS, STRUCTURES
from cxr_triage.model.measurements import cardiothoracic_ratio
from cxr_triage.model.prediction import Prediction, Refusal
from cxr_triage.model.predictor import Predictor
from cxr_triage.model.radiograph import Radiograph
from cxr_triage.model.suitability import check_header
from cxr_triage.training.calibration import expected_calibration_error
from cxr_triage.training.data import NIH_LABELS, DataError, Sample, locations_of, read_image, read_mask
from cxr_triage.training.metrics import auc, dice, iou

EvaluatedSplit = Literal["test", "validation", "train", "all"]

#: Masks are compared on a grid of this side, pixels.
MASK_GRID: Final = 512
#: Labels with fewer positives among the images with reference predictions do not enter the comparison.
REFERENCE_MIN_POSITIVES: Final = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """One evaluated image: what is known, and what the bundle said."""

    sample: Sample
    probabilities: dict[str, float]
    thresholds: dict[str, float]
    abnormal: float
    locations: dict[str, float]
    ctr: float | None
    #: Dice and IoU per structure name, empty without a mask.
    overlap: dict[str, tuple[float, float]]
    refusal: Refusal | None


def choose(samples: Iterable[Sample], card: Card, split: EvaluatedSplit) -> list[Sample]:
    """The samples of a split, by the patients that the card names.

    Raises:
        DataError: the card names none of the folder's patients for this split.
    """
    if split == "all":
        return list(samples)
    named = set(card.patients[split])
    chosen = [sample for sample in samples if sample.patient in named]
    if not chosen:
        raise DataError(f"the bundle's card names no patient of this folder for the split {split!r}: try --split all")
    return chosen


def default_split(samples: Iterable[Sample], card: Card) -> EvaluatedSplit:
    """The card's test patients; in a folder of patients that the card does not know, all of them."""
    named = {patient for patients in card.patients.values() for patient in patients}
    return "all" if named.isdisjoint(sample.patient for sample in samples) else "test"


def evaluate(
    samples: Sequence[Sample],
    predictor: Predictor,
    *,
    split: EvaluatedSplit,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Every figure, as one JSON-ready mapping.

    The gate is off: every labelled image counts, and what the gate would refuse is counted apart.

    Args:
        samples: the folder's samples.
        predictor: the bundle.
        split: whose patients.
        progress: called after each image.
    """
    chosen = choose(samples, predictor.card, split)
    useful = [sample for sample in chosen if sample.source == "nih" or sample.mask or sample.ctr is not None]
    scored = []
    for sample in useful:
        scored.append(_score(sample, predictor))
        progress()
    nih = [row for row in scored if row.sample.source == "nih"]
    seen = {*predictor.card.patients["train"], *predictor.card.patients["validation"]}
    return {
        "bundle": {"name": predictor.card.name, "version": predictor.card.version, "sha256": predictor.card.sha256},
        "split": split,
        "images": {"evaluated": len(scored), "without_a_figure": len(chosen) - len(useful)},
        "seen_in_training": sum(row.sample.patient in seen for row in scored),
        "segmentation": _segmentation(scored),
        "ctr": _ctr(scored),
        "classification": _classification(nih, predictor.card),
        "location": _location(scored),
        "reference": _reference(nih),
        "refused": dict(Counter(row.refusal.reason for row in scored if row.refusal)),
    }


def radiograph_of(sample: Sample) -> Radiograph:
    """A sample as the service would see it after reading its DICOM file."""
    return Radiograph(
        pixels_HW=read_image(sample.image),
        spacing_mm=None,
        spacing_source=None,
        view=sample.view,
        body_part="CHEST",
        age_years=float(sample.age) if sample.age.isdecimal() else None,
        patient_orientation=None,
        sop_instance_uid=sample.id,
        sop_class_uid="",
    )


def _score(sample: Sample, predictor: Predictor) -> Scored:
    radiograph = radiograph_of(sample)
    prediction = predictor.predict(radiograph)
    return Scored(
        sample=sample,
        probabilities={finding.label: finding.probability for finding in prediction.findings},
        thresholds={finding.label: finding.threshold for finding in prediction.findings},
        abnormal=prediction.abnormal_probability,
        locations=prediction.locations,
        ctr=cardiothoracic_ratio(prediction.masks_CHW),
        overlap=_overlap(prediction, sample),
        refusal=check_header(radiograph) or prediction.refusal,
    )


def _overlap(prediction: Prediction, sample: Sample) -> dict[str, tuple[float, float]]:
    if sample.mask is None:
        return {}
    truth, own = _on_grid(read_mask(sample.mask)), _on_grid(prediction.masks_CHW)
    pairs = {structure.name: (own[index], truth[index]) for index, structure in enumerate(STRUCTURES)}
    pairs["lungs"] = (own[0] | own[1], truth[0] | truth[1])
    return {name: (dice(mask, true), iou(mask, true)) for name, (mask, true) in pairs.items()}


def _on_grid(masks_CHW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if masks_CHW.shape[1:] == (MASK_GRID, MASK_GRID):
        return masks_CHW
    side = (MASK_GRID, MASK_GRID)
    return np.stack([np.asarray(Image.fromarray(mask).resize(side, Image.Resampling.NEAREST)) for mask in masks_CHW])


def _segmentation(scored: Sequence[Scored]) -> dict[str, Any]:
    rows = [row.overlap for row in scored if row.overlap]
    if not rows:
        return {"images": 0}
    figures: dict[str, Any] = {
        name: {
            "dice": float(np.mean([row[name][0] for row in rows])),
            "iou": float(np.mean([row[name][1] for row in rows])),
        }
        for name in rows[0]
    }
    return figures | {"images": len(rows)}


def _ctr(scored: Sequence[Scored]) -> dict[str, Any]:
    pairs = [(row.ctr, row.sample.ctr) for row in scored if row.sample.ctr is not None]
    errors = [abs(own - published) for own, published in pairs if own is not None and published is not None]
    return {
        "mae": float(np.mean(errors)) if errors else None,
        "images": len(errors),
        "without_outline": len(pairs) - len(errors),
    }


def _classification(nih: Sequence[Scored], card: Card) -> dict[str, Any]:
    labels = {label: _label_figures(nih, label) for label in NIH_LABELS}
    areas = [figures["auc"] for figures in labels.values() if figures["auc"] is not None]
    abnormal = [np.nan if row.sample.abnormal is None else float(row.sample.abnormal) for row in nih]
    return {
        "images": len(nih),
        "labels": labels,
        "macro_auc": float(np.mean(areas)) if areas else None,
        "abnormal_auc": auc(abnormal, [row.abnormal for row in nih]) if nih else None,
        "abnormal_formula": card.abnormal_formula,
        "any_finding": _any_finding(nih),
    }


def _any_finding(rows: Sequence[Scored]) -> dict[str, float | None]:
    """How often at least one label reaches its threshold: what raises a study."""
    flagged = {
        abnormal: [
            any(row.probabilities[label] >= threshold for label, threshold in row.thresholds.items())
            for row in rows
            if row.sample.abnormal is abnormal
        ]
        for abnormal in (True, False)
    }
    return {
        "sensitivity": float(np.mean(flagged[True])) if flagged[True] else None,
        "specificity": float(1 - np.mean(flagged[False])) if flagged[False] else None,
    }


def _label_figures(rows: Sequence[Scored], label: str) -> dict[str, Any]:
    known = [row for row in rows if label in row.sample.labels and label in row.probabilities]
    truth = np.array([row.sample.labels[label] for row in known], dtype=float)
    scores = np.array([row.probabilities[label] for row in known])
    flagged = np.array([row.probabilities[label] >= row.thresholds[label] for row in known], dtype=bool)
    return {
        "auc": auc(truth, scores) if known else None,
        "positives": int((truth == 1).sum()),
        "negatives": int((truth == 0).sum()),
        "sensitivity": float(flagged[truth == 1].mean()) if (truth == 1).any() else None,
        "specificity": float(1 - flagged[truth == 0].mean()) if (truth == 0).any() else None,
        "calibration_error": expected_calibration_error(scores, truth) if known else None,
    }


def _location(scored: Sequence[Scored]) -> dict[str, Any]:
    rows = [row for row in scored if row.sample.regions]
    truths = [locations_of(row.sample.regions) for row in rows]
    areas = {
        name: auc([truth[name] for truth in truths], [row.locations[name] for row in rows]) if rows else None
        for name in LOCATIONS
    }
    known = [area for area in areas.values() if area is not None]
    return {"images": len(rows), "auc": areas, "macro_auc": float(np.mean(known)) if known else None}


def _reference(nih: Sequence[Scored]) -> dict[str, Any]:
    rows = [row for row in nih if row.sample.reference is not None]
    counts = Counter(label for row in rows for label in NIH_LABELS if row.sample.labels.get(label))
    labels = [label for label in NIH_LABELS if counts[label] >= REFERENCE_MIN_POSITIVES]
    truths = {label: [float(row.sample.labels.get(label, np.nan)) for row in rows] for label in labels}
    ours = [auc(truths[label], [row.probabilities[label] for row in rows]) for label in labels]
    peer = [auc(truths[label], [(row.sample.reference or {})[label] for row in rows]) for label in labels]
    return {
        "images": len(rows),
        "labels": labels,
        "macro_auc_ours": _mean(ours),
        "macro_auc_reference": _mean(peer),
    }


def _mean(areas: Sequence[float | None]) -> float | None:
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else None
