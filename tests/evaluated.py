"""Scored images for tests of figures: no network, each with what matters to the test."""

import dataclasses
from itertools import count
from pathlib import Path
from typing import Any, Final

from cxr_triage.model.findings import LOCATIONS
from cxr_triage.model.prediction import BundleIdentity
from cxr_triage.training.data import NIH_LABELS, Sample
from cxr_triage.training.evaluation.scored import Overlap, Scored

BUNDLE: Final = BundleIdentity(name="first", version="1", sha256="ab" * 32)

_numbers = count(1)


def sample(**changes: Any) -> Sample:
    """Give an unlabelled adult's image; each call another patient."""
    number = next(_numbers)
    plain = Sample(
        id=f"image{number}",
        image=Path(f"image{number}.png"),
        source="nih",
        patient=f"nih/p{number}",
        sex="F",
        age="50",
        view="PA",
        labels={},
        mask=None,
        ctr=None,
        regions=(),
        reference=None,
    )
    return dataclasses.replace(plain, **changes)


def scored(probabilities: dict[str, float] | None = None, **changes: Any) -> Scored:
    """Give a scored image; what is no field of Scored is one of its sample."""
    own = {field.name for field in dataclasses.fields(Scored)}
    truth = sample(**{name: value for name, value in changes.items() if name not in own})
    said = dict.fromkeys(NIH_LABELS, 0.1) | (probabilities or {})
    plain = Scored(
        sample=truth,
        bundle=BUNDLE,
        seen=False,
        probabilities=said,
        thresholds=dict.fromkeys(said, 0.5),
        abnormal=max(said.values()),
        locations=dict.fromkeys(LOCATIONS, 0.5),
        ctr=None,
    )
    return dataclasses.replace(plain, **{name: value for name, value in changes.items() if name in own})


def labelled(*present: str) -> dict[str, bool]:
    """Every label, true where it is named; No Finding where none is."""
    return {label: label in present for label in NIH_LABELS} | {"no_finding": not present}


def overlap(dice: float, **changes: Any) -> Overlap:
    """Give an overlap of which the Dice matters."""
    return dataclasses.replace(Overlap(dice=dice, iou=dice / (2 - dice), hd95_px=4.0, hd95_mm=None), **changes)
