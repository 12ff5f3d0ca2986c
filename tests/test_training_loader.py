"""Batches: who is in them, and that nothing but the seed, the step and the micro-batch decides it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
import torch
from PIL import Image

from cxr_triage.training.data import MASK_BITS, read_samples
from cxr_triage.training.loader import Batch, Loader, TrainingSet
from cxr_triage.training.recipes import RECIPES, Recipe
from cxr_triage.training.sources import source_of
from cxr_triage.training.targets import outputs_of
from miniature import miniature_folder


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    """All of the miniature."""
    folder = tmp_path_factory.mktemp("loader")
    samples = read_samples(miniature_folder(folder / "data", patients=12))
    return TrainingSet.of(samples, outputs_of(samples), 64, folder / "cache")


def equal(one: Batch, other: Batch) -> bool:
    """Whether two batches hold the same numbers."""
    return (
        np.array_equal(one.rows, other.rows)
        and torch.equal(one.images, other.images)
        and torch.equal(one.masks, other.masks)
        and one.seed == other.seed
    )


def test_batch_depends_on_seed_step_and_micro_batch_alone(training: TrainingSet) -> None:
    """Not on what was asked before, nor on who asks."""
    recipe = replace(RECIPES["smoke"], micro_batches=2)
    one, other = Loader(training, recipe), Loader(training, recipe)
    for step in range(3):
        other.batch(step, 0)
    assert equal(one.batch(7, 1), other.batch(7, 1))
    assert not equal(one.batch(7, 1), one.batch(7, 0))
    assert not equal(one.batch(7, 1), Loader(training, replace(recipe, seed=1)).batch(7, 1))


@pytest.mark.parametrize("threads", [1, 3])
def test_ahead_gives_the_same_batches_in_order(training: TrainingSet, threads: int) -> None:
    """The threads that make them ahead change nothing, and the time that they kept their caller waiting is counted."""
    loader = Loader(training, RECIPES["smoke"], threads=threads)
    batches = list(loader.ahead(range(2, 6), (0,)))
    assert len(batches) == 4
    assert all(equal(batch, loader.batch(step, 0)) for step, batch in zip(range(2, 6), batches, strict=True))
    assert loader.waited > 0


def test_every_image_comes_once_before_any_comes_again(training: TrainingSet) -> None:
    """Kind by kind, over the micro-batches of all steps; those with masks stand first."""
    recipe: Recipe = replace(RECIPES["smoke"], micro_batches=3)
    loader = Loader(training, recipe)
    labelled = [row for row in range(len(training.samples)) if training.samples[row].source == "nih"]
    seen: Counter[int] = Counter()
    for step in range(2):
        for micro in range(3):
            batch = loader.batch(step, micro)
            assert len(batch.masks) == recipe.batch.masked
            assert all(training.samples[row].mask for row in batch.rows[: len(batch.masks)])
            assert not source_of(training.samples[batch.rows[-1]].source).adult
            seen.update(int(row) for row in batch.rows if training.samples[row].source == "nih")
    # 24 adult images carry labels; six micro-batches of four take each of them once.
    assert [seen[row] for row in labelled] == [1] * 12


def test_part_of_a_set_keeps_its_targets(training: TrainingSet) -> None:
    """Rows stay together with what is known of them."""
    part = training.only(training.rows_of(lambda sample: sample.source == "jsrt"))
    assert {sample.source for sample in part.samples} == {"jsrt"}
    column = part.targets.outputs.index("Nodule_jsrt")
    assert [bool(value) for value in part.targets.abnormality[:, column]] == [s.labels["Nodule"] for s in part.samples]


def test_outlines_that_contradict_one_another_do_not_teach(training: TrainingSet, tmp_path: Path) -> None:
    """A left lung over the heart: the image stays, its outlines are left out, and the log says whose."""
    samples = [sample for sample in training.samples if sample.mask][:3]
    bad = samples[1]
    assert bad.mask is not None
    with Image.open(bad.mask) as image:
        bits = np.array(image)
    bits[(bits & MASK_BITS[2]) > 0] |= MASK_BITS[0]
    Image.fromarray(bits).save(tmp_path / "bad.png")
    samples[1] = replace(bad, mask=tmp_path / "bad.png")
    with structlog.testing.capture_logs() as logs:
        part = TrainingSet.of(samples, outputs_of(samples), 64, tmp_path / "cache")
    assert (len(part.images), part.masked_rows.tolist(), len(part.masks)) == (3, [0, 2], 2)
    assert [entry["images"] for entry in logs if entry["event"] == "outlines_left_out"] == [[bad.id]]
