"""Does training several tasks together help? Cross-validated, task by task, over several seeds.

    .venv/bin/python benchmarks/ablation.py --data FOLDER --work ablation-run

Each step adds one thing to the one before. A run that was stopped goes on where it was: one small file per step, seed
and fold holds the out-of-fold scores, and the table is made of those that are there.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from cxr_triage.training.closed_form import refit
from cxr_triage.training.data import NIH_LABELS, Sample, read_samples, split_of
from cxr_triage.training.development import first_look
from cxr_triage.training.distributed import Group
from cxr_triage.training.division import Fold, for_fold
from cxr_triage.training.evaluation.intervals import interval, macro, resample, resampled_auc
from cxr_triage.training.minors import only
from cxr_triage.training.recipes import BatchShare, Recipe
from cxr_triage.training.train import Trainer

#: What every step shares. Smaller than what ships, so that all of it can be done in an evening.
BASE: Final = Recipe(
    name="plain",
    encoder="efficientnet_lite0",
    input_size=128,
    epochs=6,
    pooling="pyramid",
    frozen_blocks=3,
    frozen_norms=True,
    encoder_learning_rate_share=0.1,
    encoder_from=1,
    ema_decay=0.99,
    batch=BatchShare(labelled=12, masked=4, paediatric=2),
    location_weight=0.0,
    segmentation_weight=0.0,
    distillation_weight=0.0,
)
#: Each step's change to the one before.
CHANGES: Final = (
    ("plain", {}),
    ("+ segmentation", {"segmentation_weight": 1.0}),
    ("+ location", {"location_weight": 0.2}),
    ("+ normalization", {"closer_from": 2}),
    ("+ noise model", {"noise": "forward"}),
    ("+ distillation", {"distillation_weight": 0.5}),
    ("+ head in closed form", {"closed_form": True}),
)
#: The last step changes nothing in the training: it is scored on the network of the step before.
TRAINED, SOLVED = (step for step, _ in CHANGES[-2:])
FOLDS: Final = 3

#: Logits of the NIH labels, (14,), by image.
Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Run:
    """One training run of the ablation."""

    step: str
    seed: int
    fold: int

    def path(self, work: Path) -> Path:
        """Where its scores are."""
        return work / f"{self.step.strip('+ ').replace(' ', '-')}-seed{self.seed}-fold{self.fold + 1}.npz"


def steps() -> dict[str, Recipe]:
    """Every step's recipe, by name."""
    found, recipe = {}, BASE
    for name, change in CHANGES:
        recipe = replace(recipe, name=name, **change)
        found[name] = recipe
    return found


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with a manifest.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder of the scores; a run goes on there")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at the same time, one thread each")
    parser.add_argument("--table", action="store_true", help="only the table of what is there")
    choice = parser.parse_args()
    choice.work.mkdir(parents=True, exist_ok=True)
    # Seed by seed: a run that is stopped early has all steps of the first seeds.
    trained = [step for step in steps() if step != SOLVED]
    runs = [Run(step, seed, fold) for seed in range(choice.seeds) for fold in range(FOLDS) for step in trained]
    if not choice.table:
        _train([run for run in runs if not run.path(choice.work).exists()], choice.data, choice.work, choice.jobs)
    sys.stdout.write(table(read_samples(choice.data), choice.work, choice.seeds))


def _train(runs: Sequence[Run], data: Path, work: Path, jobs: int) -> None:
    with (
        Progress(console=Console(stderr=True)) as progress,
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool,
    ):
        task = progress.add_task("runs", total=len(runs))
        for done in as_completed([pool.submit(_run, run, data, work) for run in runs]):
            done.result()
            progress.advance(task)


def _run(run: Run, data: Path, work: Path) -> None:
    """Train one network and keep what it says of the fold's own patients; of the last two steps, with both heads."""
    torch.set_num_threads(1)
    samples = read_samples(data)
    division = for_fold(samples, Fold(run.fold, FOLDS))
    folder = run.path(work).with_suffix("")
    folder.mkdir(exist_ok=True)
    (folder / "cache").unlink(missing_ok=True)
    (folder / "cache").symlink_to(_cache(work))  # prepared images are the same for all runs
    trainer = Trainer(replace(steps()[run.step], seed=run.seed), division, folder, Group(0, 1, torch.device("cpu")))
    network = trainer.run()
    judged = [sample for sample in division.parts["test"] if sample.source == "nih"]
    scores = _scores(trainer, judged)
    if run.step == TRAINED:
        adults = only(trainer.training, minors=False)
        refit(network, [first_look(network, adults).closest], adults.targets)
        _keep(_scores(trainer, judged), replace(run, step=SOLVED).path(work))
    _keep(scores, run.path(work))  # last: whether it is there says whether the run is still to do
    shutil.rmtree(folder)


def _scores(trainer: Trainer, judged: Sequence[Sample]) -> Scores:
    """What the trainer's network says of some images."""
    columns = [trainer.outputs.index(label) for label in NIH_LABELS]
    logits = trainer.logits_of(judged)[:, columns]
    return {sample.id: row for sample, row in zip(judged, logits, strict=True)}


def _keep(scores: Scores, path: Path) -> None:
    """Write scores, whole or not at all."""
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, ids=list(scores), logits=list(scores.values()))
    partial.rename(path)


def _cache(work: Path) -> Path:
    """Folder of the prepared images."""
    cache = (work / "cache").resolve()
    cache.mkdir(exist_ok=True)
    return cache


def table(samples: Sequence[Sample], work: Path, seeds: int) -> str:
    """Markdown: macro AUC per step, mean over the seeds, and what the step adds, with 95 % intervals over patients."""
    nih = [sample for sample in samples if sample.source == "nih" and split_of(sample.patient) != "test"]
    selections = (nih, [sample for sample in nih if sample.reference is not None])
    lines = [
        "| step | seeds | macro AUC | added | macro AUC, reference selection | added |",
        "| --- | ---: | --- | --- | --- | --- |",
    ]
    before: list[Scores] = []
    for step in steps():
        found = list(_complete(step, work, seeds))
        if not found:
            continue
        cells = [cell for chosen in selections for cell in _cells(chosen, found, before[: len(found)])]
        lines.append(f"| {step} | {len(found)} | {' | '.join(cells)} |")
        before = found
    return "\n".join(lines) + "\n"


def _complete(step: str, work: Path, seeds: int) -> Iterator[Scores]:
    """The out-of-fold logits by image, of each seed whose folds are all there."""
    for seed in range(seeds):
        paths = [Run(step, seed, fold).path(work) for fold in range(FOLDS)]
        if all(path.exists() for path in paths):
            yield {key: logits for path in paths for key, logits in _standardised(path).items()}


def _standardised(path: Path) -> Scores:
    """A fold's logits, each label with mean 0 and deviation 1: no fold's network has the scale of another's."""
    with np.load(path) as part:
        logits = part["logits"].astype(np.float64)
        standard = (logits - logits.mean(axis=0)) / np.maximum(logits.std(axis=0), 1e-6)
        return dict(zip(part["ids"].tolist(), standard, strict=True))


def _cells(samples: Sequence[Sample], found: Sequence[Scores], before: Sequence[Scores]) -> tuple[str, str]:
    """Macro AUC and its change, each with an interval over the same resampled patients."""
    area, areas = _macro(samples, found)
    if not before:
        return _cell(area, areas), ""
    earlier, earliers = _macro(samples, before)
    return _cell(area, areas), _cell(area - earlier, areas - earliers, sign="+")


def _macro(samples: Sequence[Sample], found: Sequence[Scores]) -> tuple[float, NDArray[np.float64]]:
    """Macro AUC, mean over the seeds: of the images as they are, and of each resample."""
    weights = resample([sample.patient for sample in samples])
    whole = np.ones((1, len(samples)), dtype=np.uint16)
    truth = np.array([[float(sample.labels[label]) for label in NIH_LABELS] for sample in samples])
    areas, resampled = [], []
    for scores in found:
        logits = np.array([scores[sample.id] for sample in samples])
        columns = list(zip(truth.T, logits.T, strict=True))
        areas.append(float(macro([resampled_auc(*column, whole) for column in columns])[0]))
        resampled.append(macro([resampled_auc(*column, weights) for column in columns]))
    return float(np.mean(areas)), np.mean(resampled, axis=0)


def _cell(value: float, resampled: NDArray[np.float64], sign: str = "") -> str:
    bounds = interval(resampled)
    assert bounds is not None
    return f"{value:{sign}.3f} ({bounds[0]:{sign}.3f} to {bounds[1]:{sign}.3f})"


if __name__ == "__main__":
    main()
