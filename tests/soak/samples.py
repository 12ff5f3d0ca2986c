"""What the daemon held, image by image: a row of a CSV file per sample, and the line through them."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TextIO

import numpy as np

from vitals import Vitals


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The daemon at one moment."""

    #: Since the first association.
    seconds: float
    #: Associations begun, good and bad ones.
    associations: int
    #: Images so far: answered with success; scored, as the daemon's metrics say; their SEG at the PACS.
    acknowledged: int
    scored: int
    delivered: int
    #: By role.
    vitals: dict[str, Vitals]


class Samples:
    """Every sample so far, here and in the file."""

    def __init__(self, file: TextIO) -> None:
        self.all: list[Sample] = []
        self._file = file
        self._csv = csv.writer(file)

    @classmethod
    @contextmanager
    def written_to(cls, path: Path) -> Iterator["Samples"]:
        """Hold the file open."""
        with path.open("x", newline="") as file:
            yield cls(file)

    def add(self, sample: Sample) -> None:
        """Keep one more; the roles are always the same ones."""
        counts = [each.name for each in fields(Sample)][:-1]
        if not self.all:
            held = [f"{role} {each.name}" for role in sorted(sample.vitals) for each in fields(Vitals)]
            self._csv.writerow([*counts, *held])
        self.all.append(sample)
        held = [value for role in sorted(sample.vitals) for value in astuple(sample.vitals[role])]
        self._csv.writerow([*(round(getattr(sample, name), 1) for name in counts), *held])
        self._file.flush()


def slope(samples: Sequence[Sample], role: str) -> float:
    """Bytes that a role grows by with each delivered image: the straight line of least squares."""
    images = np.array([sample.delivered for sample in samples], float)
    held = np.array([sample.vitals[role].resident_bytes for sample in samples], float)
    images -= images.mean()
    return float(images @ held / (images @ images))
