"""Figures of an evaluation -> what a bundle's maps may tell readers of where findings lie.

`python -m cxr_triage.training.whereabouts BUNDLE FIGURES.json` takes the figures of more images than the card's own:
those that `cxr-triage evaluate --json` gives of the bundles of a cross-validation.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cxr_triage.model.bundle import Card, Whereabouts, read_card, write_card
from cxr_triage.training.evaluation.saliency import MIN_BOXES

#: What of the figures goes on the card beside its own: what its word rests on.
EVIDENCE: Final = ("bundles", "split", "images", "date", "localisation", "zones")


def vouching(card: Card, figures: Mapping[str, Any]) -> Card:
    """The same card; its labels' maps tell what these figures let them tell."""
    labels = (replace(label, whereabouts=whereabouts_of(figures, label.name)) for label in card.labels)
    return replace(card, labels=tuple(labels))


def with_evidence(card: Card, figures: Mapping[str, Any]) -> Card:
    """The same card; its labels' maps tell what these figures let them tell, and the figures stand on it."""
    evidence = {key: figures[key] for key in EVIDENCE}
    return replace(vouching(card, figures), figures={**card.figures, "whereabouts": evidence})


def whereabouts_of(figures: Mapping[str, Any], label: str) -> Whereabouts:
    """What a label's map may tell, by figures of an evaluation.

    A side, where its balanced accuracy is above a half; a third, where it is right more often than the one third that
    is right most often; an outline, where maps point into boxes more often than any point of the lungs' box would, and
    cover them better than both lungs together do. Each by the lower bound of its interval.

    Args:
        figures: of `evaluate`.
        label: in model.findings.ABNORMALITIES.
    """
    zone = figures["zones"].get(label, {})
    boxed = [row for row in figures["localisation"].values() if row["map"] == label]
    outlined = bool(boxed) and all(
        _above(row["pointing_interval"], row["chance_lung_box"]) and _above(row["gain_interval"], 0.0) for row in boxed
    )
    return Whereabouts(
        side=bool(zone) and _both_sides(zone) and _above(zone["side_interval"], 0.5),
        third=bool(zone) and _above(zone["third_interval"], zone["third_guess"]),
        outline_at=max(boxed, key=lambda row: row["boxes"])["iou_threshold"] if outlined else None,
    )


def _both_sides(zone: Mapping[str, Any]) -> bool:
    """Whether enough images have boxes on either side alone: half of the balanced accuracy rests on each."""
    return bool(min(zone["left"], zone["one_sided"] - zone["left"]) >= MIN_BOXES // 2)


def _above(bounds: Sequence[float] | None, least: float | None) -> bool:
    return bounds is not None and least is not None and bounds[0] > least


if __name__ == "__main__":
    _, bundle, measured = sys.argv
    write_card(with_evidence(read_card(Path(bundle)), json.loads(Path(measured).read_text())), Path(bundle))
