"""What a data set is to training: its labels, which outputs they train, how far they are to be believed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_triage.training.data import Region
from cxr_triage.training.sources.published import Published


@dataclass(frozen=True, slots=True)
class Noise:
    """How a label of a data set compares with the truth, as a re-reading of a part of it found."""

    #: P(labelled | present), 0 to 1.
    sensitivity: float
    #: P(not labelled | absent), 0 to 1.
    specificity: float


@dataclass(frozen=True, kw_only=True)
class Record:
    """One radiograph as its data set publishes it: a row of the manifest that is to be."""

    #: Unique within the source.
    id: str
    #: The published file: PNG, JPEG, TIFF or DICOM, unless `pixels` reads it.
    image: Path
    #: Within the source; all images of a person carry the same.
    patient: str
    #: The source whose patients these are, when this one re-publishes another's images; else empty.
    patient_source: str = ""
    sex: str = ""
    age: str = ""
    view: str = ""
    #: One of training.data.OFFICIAL_SPLITS.
    split: str = ""
    #: By label column; what is not known is left out.
    labels: Mapping[str, bool] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    #: Reads a format of the source's own: uint16 (H, W), bright = dense. It is then kept as PNG beside the manifest.
    pixels: Callable[[], NDArray[np.uint16]] | None = None
    #: Reads left lung, right lung and heart, the patient's sides: bool (3, H, W). Kept as a bit field.
    mask: Callable[[], NDArray[np.bool_]] | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set. Its file in this folder makes one and calls it SOURCE."""

    #: What manifests call it.
    name: str
    #: Who may use it for what, in one sentence.
    terms: str
    #: The label columns that it fills, besides "no_finding".
    labels: tuple[str, ...]
    #: Label -> output that it trains. A label that is not named trains an output of its own, `LABEL_source`: a name
    #: that two data sets share does not mean the same in both.
    outputs: Mapping[str, str] = field(default_factory=dict)
    #: Whether the patients are adults.
    adult: bool = True
    #: Whether "no_finding" speaks of everything that a radiologist may see, so that it trains normal against abnormal.
    no_finding_is_normal: bool = False
    #: Public re-readings of the labels, by label.
    noise: Mapping[str, Noise] = field(default_factory=dict)
    #: What was never seen of it by whoever wrote its reader; empty when it was read.
    unverified: str = ""
    #: Reads the folder as published; None where only manifests with its name are known.
    read: Callable[[Published], Iterator[Record]] | None = None

    def output_of(self, label: str) -> str | None:
        """The network's output that a label trains; None for a column that is not one of the source's labels."""
        return self.outputs.get(label, f"{label}_{self.name}") if label in self.labels else None


class UnknownSource(Source):
    """A source that no file here describes: each of its labels trains an output of its own."""

    def output_of(self, label: str) -> str | None:
        """`LABEL_source`; None for "no_finding", of which nobody said what it means there."""
        return None if label == "no_finding" else f"{label}_{self.name}"
