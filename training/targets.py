"""Samples -> what each output of the network is asked for. NaN = not known there: masked in the loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cxr_triage.model.findings import LOCATIONS
from cxr_triage.training.data import NIH_LABELS, Sample, locations_of, read_mask
from cxr_triage.training.sources import Noise, source_of

#: Any abnormality against No Finding, for adults.
ABNORMAL_OUTPUT: Final = "Abnormal"
#: The outputs that are reported; the others only help the encoder.
REPORTED: Final = (*NIH_LABELS, ABNORMAL_OUTPUT)


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """Float32 arrays with one row per sample; NaN = masked."""

    #: Names of the abnormality outputs, in their order.
    outputs: tuple[str, ...]
    #: 0 or 1, (N, outputs).
    abnormality: NDArray[np.float32]
    #: A teacher's probabilities, (N, outputs).
    teacher: NDArray[np.float32]
    #: How far each label is to be believed, (N, outputs): 1 where nothing is known of its noise.
    sensitivity: NDArray[np.float32]
    specificity: NDArray[np.float32]
    #: 0 or 1, (N, locations).
    location: NDArray[np.float32]

    @classmethod
    def together(cls, parts: "Sequence[Targets]") -> "Targets":
        """The rows of all parts, which have the same outputs."""
        names = ("abnormality", "teacher", "sensitivity", "specificity", "location")
        rows = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(outputs=parts[0].outputs, **rows)

    def reported(self) -> NDArray[np.float32]:
        """0 or 1 of the outputs in REPORTED, (N, reported)."""
        return self.abnormality[:, [self.outputs.index(name) for name in REPORTED]]

    def only(self, rows: NDArray[np.int64]) -> "Targets":
        """These rows."""
        return Targets(
            outputs=self.outputs,
            abnormality=self.abnormality[rows],
            teacher=self.teacher[rows],
            sensitivity=self.sensitivity[rows],
            specificity=self.specificity[rows],
            location=self.location[rows],
        )


def outputs_of(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The outputs that these samples can train: the reported ones, then those that only help the encoder."""
    found = {output for sample in samples for output in _known(sample)}
    return (*REPORTED, *sorted(found.difference(REPORTED)))


def targets_of(samples: Sequence[Sample], outputs: Sequence[str]) -> Targets:
    """Collect the targets of all samples.

    Args:
        samples: one row each.
        outputs: as `outputs_of` said for all samples of the run, whichever of them these are.
    """
    noise = [_noise(sample) for sample in samples]
    return Targets(
        outputs=tuple(outputs),
        abnormality=_rows([_known(sample) for sample in samples], outputs),
        teacher=_rows([sample.reference or {} for sample in samples], outputs),
        sensitivity=_rows([{name: one.sensitivity for name, one in row.items()} for row in noise], outputs, 1.0),
        specificity=_rows([{name: one.specificity for name, one in row.items()} for row in noise], outputs, 1.0),
        location=np.array([_location(sample) for sample in samples], dtype=np.float32).reshape(-1, len(LOCATIONS)),
    )


def _known(sample: Sample) -> dict[str, float]:
    """What a sample says of the outputs."""
    source = source_of(sample.source)
    named = {source.output_of(label): float(value) for label, value in sample.labels.items()}
    known = {output: value for output, value in named.items() if output is not None}
    if source.no_finding_is_normal and sample.abnormal is not None:
        known[ABNORMAL_OUTPUT] = float(sample.abnormal)
    return known


def _noise(sample: Sample) -> dict[str, Noise]:
    source = source_of(sample.source)
    named = {source.output_of(label): noise for label, noise in source.noise.items() if label in sample.labels}
    return {output: noise for output, noise in named.items() if output is not None}


def _rows(rows: Sequence[Mapping[str, float]], outputs: Sequence[str], default: float = np.nan) -> NDArray[np.float32]:
    values = [[row.get(name, default) for name in outputs] for row in rows]
    return np.array(values, dtype=np.float32).reshape(-1, len(outputs))


def _location(sample: Sample) -> list[float]:
    if not sample.regions:
        return [np.nan] * len(LOCATIONS)
    if sample.mask is None:
        return [float(value) for value in locations_of(sample.regions).values()]
    lungs = read_mask(sample.mask)[:2]
    rows, height = np.flatnonzero(lungs.any(axis=(0, 2))), lungs.shape[1]
    field = (float(rows[0]) / height, float(rows[-1] + 1) / height)
    return [float(value) for value in locations_of(sample.regions, field).values()]
