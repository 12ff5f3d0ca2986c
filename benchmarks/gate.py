"""What the gate refuses of a folder's radiographs, turned, inverted or cut, and what is remarked on those that pass.

Of minors also where no age is known; and of images of no chest.

    .venv/bin/python benchmarks/gate.py FOLDER [--others FOLDER]

FOLDER has a manifest.csv (docs/reference/training-data.md); test patients of the bundled card, minors apart. Images of
no chest are those of training/evaluation/others.py, and the files of a folder.
"""

import argparse
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cxr_triage.model.predictor import Predictor
from cxr_triage.model.radiograph import Radiograph
from cxr_triage.training.data import read_samples
from cxr_triage.training.evaluation.folds import assign
from cxr_triage.training.evaluation.others import others
from cxr_triage.training.evaluation.scoring import has_truth, radiograph_of
from cxr_triage.training.minors import is_minor

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
    parser.add_argument("--others", type=Path, help="folder of DICOM files or images of no chest")
    choice = parser.parse_args()
    predictor = Predictor.load(None)
    assigned = assign(read_samples(choice.folder), [predictor.card], "test")
    samples = [sample for sample, _ in assigned.rows if has_truth(sample)]
    adults = [radiograph_of(sample) for sample in samples if not is_minor(sample)]
    table = Table("radiographs", "refused", "reasons", "remarks on those that pass", title="What the gate refuses")
    for name, spoil in SPOILS.items():
        _add(table, predictor, name, (_spoiled(each, spoil) for each in adults))
    for source in sorted({sample.source for sample in samples}):
        minors = [radiograph_of(sample) for sample in samples if sample.source == source and is_minor(sample)]
        ageless = [dataclasses.replace(each, age_years=None) for each in minors]
        if ageless:
            _add(table, predictor, f"minors of {source}, no age", ageless)
    _add(table, predictor, "adults, no age", (dataclasses.replace(each, age_years=None) for each in adults))
    elsewhere = list(others(sorted(choice.others.iterdir()) if choice.others else ()).values())
    _add(table, predictor, "no chest", elsewhere)
    _add(table, predictor, "no chest, inverted", (_spoiled(each, SPOILS["inverted"]) for each in elsewhere))
    Console().print(table)


def _spoiled(radiograph: Radiograph, spoil: Spoil) -> Radiograph:
    return dataclasses.replace(radiograph, pixels_HW=np.ascontiguousarray(spoil(radiograph.pixels_HW)))


def _add(table: Table, predictor: Predictor, name: str, radiographs: Iterable[Radiograph]) -> None:
    reasons: Counter[str] = Counter()
    remarks: Counter[str] = Counter()
    passed = 0
    for each in radiographs:
        prediction = predictor.predict(each)
        if prediction.refusal is not None:
            reasons[prediction.refusal.reason] += 1
        else:
            passed += 1
            remarks.update(remark.word for remark in prediction.remarks)
    refused = reasons.total()
    table.add_row(name, f"{refused} of {refused + passed}", _listed(reasons), _listed(remarks))


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.most_common()) or "-"


if __name__ == "__main__":
    main()
