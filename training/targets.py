"""Samples -> what each output of the network is asked for. NaN = not known there: masked in the loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cxr_triage.model.findings import LOCATIONS
from cxr_triage.training.data import NIH_LABELS, Sample, locations_of, read_mask

#: Outputs that help the encoder and are not reported: labels that share a name across sets stay separate outputs.
AUXILIARY_OUTPUTS: Final = ("Pneumonia_paediatric", "Nodule_jsrt")
#: Any abnormality against No Finding, for adults.
ABNORMAL_OUTPUT: Final = "Abnormal"
OUTPUTS: Final = (*NIH_LABELS, ABNORMAL_OUTPUT, *AUXILIARY_OUTPUTS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """Float32 arrays with one row per sample; NaN = masked."""

    #: 0 or 1, (N, outputs) in the order of OUTPUTS.
    abnormality: NDArray[np.float32]
    #: A teacher's probabilities, (N, outputs).
    teacher: NDArray[np.float32]
    #: 0 or 1, (N, locations).
    location: NDArray[np.float32]


def targets_of(samples: Sequence[Sample]) -> Targets:
    """Collect the targets of all samples."""
    return Targets(
        abnormality=np.array([_abnormality(sample) for sample in samples], dtype=np.float32),
        teacher=np.array([_teacher(sample) for sample in samples], dtype=np.float32),
        location=np.array([_location(sample) for sample in samples], dtype=np.float32),
    )


def _abnormality(sample: Sample) -> list[float]:
    known: Mapping[str, bool | None]
    if sample.source == "kermany":
        known = {"Pneumonia_paediatric": sample.labels.get("Pneumonia")}
    elif sample.source == "jsrt":
        known = {"Nodule_jsrt": sample.labels.get("Nodule")}
    else:
        known = {**sample.labels, ABNORMAL_OUTPUT: sample.abnormal}
    return _row(known)


def _teacher(sample: Sample) -> list[float]:
    return _row(sample.reference or {})


def _row(known: Mapping[str, float | None]) -> list[float]:
    values = (known.get(name) for name in OUTPUTS)
    return [np.nan if value is None else float(value) for value in values]


def _location(sample: Sample) -> list[float]:
    if not sample.regions:
        return [np.nan] * len(LOCATIONS)
    if sample.mask is None:
        return [float(value) for value in locations_of(sample.regions).values()]
    lungs = read_mask(sample.mask)[:2]
    rows, height = np.flatnonzero(lungs.any(axis=(0, 2))), lungs.shape[1]
    field = (float(rows[0]) / height, float(rows[-1] + 1) / height)
    return [float(value) for value in locations_of(sample.regions, field).values()]
