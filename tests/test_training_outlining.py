"""The last phase of a training: outlines learn by blocks of their own, and nothing else changes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch

from cxr_triage.model.network import MultiTaskNetwork
from cxr_triage.training import outlining
from cxr_triage.training.data import DataError, read_samples
from cxr_triage.training.distributed import Group
from cxr_triage.training.division import by_hash
from cxr_triage.training.loader import Loader, TrainingSet
from cxr_triage.training.outlining import OutliningTrainer, with_own_blocks
from cxr_triage.training.pretrained import load_pretrained
from cxr_triage.training.recipes import RECIPES, Outlining, Recipe
from cxr_triage.training.targets import outputs_of
from miniature import miniature_folder

ALONE: Final = Group(0, 1, torch.device("cpu"))
RECIPE: Final = replace(RECIPES["smoke"], outlining=Outlining(steps=8, images=4))


def nothing(done: int) -> None:
    """Nobody watches."""
    assert done


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """Batches of drawn chests."""
    data = miniature_folder(tmp_path_factory.mktemp("data") / "miniature", patients=32)
    training = by_hash(read_samples(data)).parts["train"]
    cache = tmp_path_factory.mktemp("cache")
    return Loader(TrainingSet.of(training, outputs_of(training), RECIPE.prepared_size, cache), RECIPE)


@pytest.fixture
def network() -> MultiTaskNetwork:
    """One that knows what ImageNet teaches, the same each time."""
    torch.manual_seed(1)
    network = MultiTaskNetwork(RECIPE.network_shape(5)).eval()
    load_pretrained(network.encoder)
    return network


def trainer_of(network: MultiTaskNetwork, loader: Loader, work: Path, recipe: Recipe = RECIPE) -> OutliningTrainer:
    """The phase of a network."""
    return OutliningTrainer(network, loader, recipe, work, ALONE)


def test_blocks_start_as_the_encoder_s(network: MultiTaskNetwork) -> None:
    """From stride 8 on; of the decoder only what reads the bottleneck starts anew."""
    split = with_own_blocks(network).eval()
    stages = network.encoder.stages(torch.rand(2, 1, 64, 64), 5)  # type: ignore[operator]  # an attribute of a module
    assert split.outlining is not None
    for own, shared in zip(split.outlining(stages), stages, strict=True):
        assert torch.equal(own, shared)
    before = network.state_dict()
    anew = [name for name, value in split.state_dict().items() if name in before and not _equal(value, before[name])]
    assert anew == ["decoder.blocks.0.conv.weight"]


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def test_outlines_learn_and_findings_stay(network: MultiTaskNetwork, loader: Loader, tmp_path: Path) -> None:
    """The outlines of the chests that taught fit better; encoder and heads are what they were, to the last bit."""
    recipe = replace(RECIPE, outlining=Outlining(steps=40, images=4), ema_decay=0.5)
    batch = loader.outlined(1000, 8)
    before = network(batch.images).mask
    steps: list[int] = []
    trained = trainer_of(network, loader, tmp_path, recipe).run(steps.append)
    learned = {name.partition(".")[0] for name, weight in trained.named_parameters() if weight.grad is not None}
    assert learned == {"outlining", "decoder"}
    weights = trained.state_dict()
    rest = {name: value for name, value in network.state_dict().items() if not name.startswith("decoder.")}
    assert all(torch.equal(value, weights[name]) for name, value in rest.items())
    assert _overlap(trained(batch.images).mask, batch.masks) > _overlap(before, batch.masks) + 0.2
    assert steps == list(range(1, 41))
    assert (tmp_path / "outlining.csv").read_text().startswith("step,loss\n40,")


def _overlap(logits: torch.Tensor, truth: torch.Tensor) -> float:
    found, true = logits > 0, truth > 0.5
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


def test_batches_are_of_outlined_images_alone(loader: Loader) -> None:
    """As many as asked for, each with its mask; the same whenever asked, and other ones in the next step."""
    batch, again, following = loader.outlined(3, 4), loader.outlined(3, 4), loader.outlined(4, 4)
    assert batch.images.shape == (4, 1, 64, 64)
    assert batch.masks.shape == (4, 3, 32, 32)
    assert torch.equal(batch.images, again.images)
    assert not set(batch.rows.tolist()) & set(following.rows.tolist())
    assert np.isin(batch.rows, loader._data.masked_rows).all()  # noqa: SLF001 - whose rows they are


def test_phase_that_was_stopped_ends_as_one_that_was_not(
    network: MultiTaskNetwork, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit."""
    monkeypatch.setattr(outlining, "SAVED", 2)
    works = [tmp_path / name for name in ("whole", "stopped")]
    for work in works:
        work.mkdir()
    whole = trainer_of(network, loader, works[0]).run(nothing).state_dict()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(network, loader, works[1]).run(_stopping_after(5))
    taken: list[int] = []
    resumed = trainer_of(network, loader, works[1]).run(taken.append).state_dict()
    assert taken == [5, 6, 7, 8]  # the last checkpoint was after the fourth
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def _stopping_after(steps: int) -> Callable[[int], None]:
    def tell(done: int) -> None:
        if done == steps:
            raise KeyboardInterrupt

    return tell


def test_another_phase_starts_anew(network: MultiTaskNetwork, loader: Loader, tmp_path: Path) -> None:
    """As does the same phase of another network: a work folder's outlines never come from what was there before."""
    trainer_of(network, loader, tmp_path).run(nothing)
    longer = replace(RECIPE, outlining=Outlining(steps=9, images=4))
    steps: list[int] = []
    trainer_of(network, loader, tmp_path, longer).run(steps.append)
    assert steps == list(range(1, 10))
    with torch.no_grad():
        network.abnormality.bias.add_(1)
    steps.clear()
    trainer_of(network, loader, tmp_path, longer).run(steps.append)
    assert steps == list(range(1, 10))
    assert (tmp_path / "outlining.csv").read_text().count("\n") == 2
    steps.clear()
    trainer_of(network, loader, tmp_path, longer).run(steps.append)
    assert steps == []


def test_too_few_outlined_images_are_refused(loader: Loader) -> None:
    """Before the first step of all phases."""
    many = replace(RECIPE, outlining=Outlining(steps=1, images=1000))
    with pytest.raises(DataError, match="1000 masked images in each batch of its last phase"):
        Loader(loader._data, many)  # noqa: SLF001 - the same images


def test_phase_is_for_the_light_encoder_alone() -> None:
    """Said when the recipe is made."""
    with pytest.raises(ValueError, match="efficientnet_lite0 alone"):
        replace(RECIPES["paper"], outlining=Outlining(steps=1))
