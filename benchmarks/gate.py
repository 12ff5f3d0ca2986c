"""What the gate refuses when the radiographs of a folder are turned, inverted or cut.

    .venv/bin/python benchmarks/gate.py FOLDER

FOLDER has a manifest.csv (docs/reference/training-data.md); adult test patients of the bundled card are used.
"""

import argparse
import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cxr_triage.model.predictor import Predictor
from cxr_triage.training.data import read_samples
from cxr_triage.training.evaluation.folds import assign
from cxr_triage.training.evaluation.scoring import radiograph_of
from cxr_triage.training.sources import source_of

Spoil = Callable[[NDArray[np.float32]], NDArray[np.float32]]

SPOILS: dict[str, Spoil] = {
    "as they are": lambda pixels: pixels,
    "mirrored": np.fliplr,
    "upside down": np.flipud,
    "turned by 90 degrees": np.rot90,
    "turned by 180 degrees": lambda pixels: np.rot90(pixels, 2),
    "inverted": lambda pixels: np.float32(1) - pixels,
    "upper third only": lambda pixels: pixels[: pixels.shape[0] // 3],
    "upper half only": lambda pixels: pixels[: pixels.shape[0] // 2],
    "lower half only": lambda pixels: pixels[pixels.shape[0] // 2 :],
    "upper 70 % only": lambda pixels: pixels[: int(pixels.shape[0] * 0.7)],
    "lower 70 % only": lambda pixels: pixels[int(pixels.shape[0] * 0.3) :],
    "left 60 % only": lambda pixels: pixels[:, : int(pixels.shape[1] * 0.6)],
    "left third only": lambda pixels: pixels[:, : pixels.shape[1] // 3],
    "noise": lambda pixels: np.random.default_rng(0).random(pixels.shape, dtype=np.float32),
}


def main() -> None:
    """Print how many of each kind are refused, and why."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    predictor = Predictor.load(None)
    assigned = assign(read_samples(parser.parse_args().folder), [predictor.card], "test")
    radiographs = [radiograph_of(sample) for sample, _ in assigned.rows if source_of(sample.source).adult]
    table = Table("radiographs", "refused", "reasons", title=f"The gate on {len(radiographs)} radiographs")
    for name, spoil in SPOILS.items():
        spoiled = (
            dataclasses.replace(each, pixels_HW=np.ascontiguousarray(spoil(each.pixels_HW))) for each in radiographs
        )
        refusals = [predictor.predict(each).refusal for each in spoiled]
        reasons = Counter(refusal.reason for refusal in refusals if refusal)
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        table.add_row(name, f"{reasons.total()} of {len(radiographs)}", counts or "-")
    Console().print(table)


if __name__ == "__main__":
    main()
