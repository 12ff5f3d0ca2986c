"""A whole training run in miniature: train, go on from a checkpoint, export, load, evaluate."""

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch import nn
from typer import Typer
from typer.testing import CliRunner

from cxr_triage.model.bundle import read_card
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.predictor import Predictor
from cxr_triage.model.preparation import CLOSER_LEAST
from cxr_triage.training.commands.evaluate import evaluate
from cxr_triage.training.commands.train import train
from cxr_triage.training.data import DataError, read_samples
from cxr_triage.training.development import out_of_fold
from cxr_triage.training.distributed import Group
from cxr_triage.training.division import by_hash
from cxr_triage.training.loader import TrainingSet
from cxr_triage.training.look import Look
from cxr_triage.training.recipes import RECIPES, Recipe
from cxr_triage.training.train import Trainer
from miniature import miniature_folder

ALONE: Final = Group(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature folder, once for all runs."""
    return miniature_folder(tmp_path_factory.mktemp("data") / "miniature", patients=32)


@pytest.fixture(scope="module")
def commands() -> Typer:
    """The commands as the command line registers them."""
    app = Typer()
    app.command()(train)
    app.command()(evaluate)
    return app


@pytest.fixture(scope="module")
def trained(data: Path, commands: Typer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that `train` made by the smoke recipe."""
    work = tmp_path_factory.mktemp("work")
    words = ["train", "--data", str(data), "--recipe", "smoke", "--work", str(work), "--output", str(work / "bundle")]
    result = CliRunner().invoke(commands, words, catch_exceptions=False)
    assert result.exit_code == 0
    return work / "bundle"


def test_bundle_loads_and_says_what_it_is(trained: Path) -> None:
    """The card names weights, labels, patients and figures."""
    card = read_card(trained)
    assert Predictor.load(trained, "cpu").identity == card.identity
    assert card.training["recipe"] == "smoke"
    assert len(card.labels) == 14
    assert set(card.patients) == {"train", "validation", "test"}
    assert card.figures["split"] == "test"


@pytest.fixture(scope="module")
def folds(data: Path, commands: Typer, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The bundles of a cross-validation of two folds."""
    work = tmp_path_factory.mktemp("folds")
    for fold in ("1", "2"):
        words = ["train", "--data", str(data), "--recipe", "smoke", "--fold", f"{fold}/2"]
        places = ["--work", str(work / fold), "--output", str(work / f"bundle{fold}")]
        assert CliRunner().invoke(commands, [*words, *places], catch_exceptions=False).exit_code == 0
    return [work / "bundle1", work / "bundle2"]


def test_folds_judge_the_patients_that_calibration_is_made_of(
    data: Path, trained: Path, folds: list[Path], commands: Typer
) -> None:
    """Training and validation patients; and all bundles together judge everybody once."""
    words = ["train", "--data", str(data), "--recipe", "smoke", "--work", str(trained.parent)]
    words += [word for fold in folds for word in ("--fold-bundle", str(fold))]
    output = trained.parent / "judged"
    CliRunner().invoke(commands, [*words, "--output", str(output)], catch_exceptions=False)
    judged, alone = read_card(output), read_card(trained)
    assert "each scored by that of 2 networks" in judged.operating_rule
    assert "validation patients, of whom" in alone.operating_rule
    assert judged.labels != alone.labels
    words = ["evaluate", "--data", str(data), "--json"]
    words += [word for bundle in (*folds, output) for word in ("--bundle", str(bundle))]
    figures = json.loads(CliRunner().invoke(commands, words, catch_exceptions=False).stdout)
    assert figures["images"]["evaluated"] == 128
    assert figures["seen_in_training"] == 0


def test_folds_of_other_patients_are_refused(data: Path, trained: Path, folds: list[Path]) -> None:
    """A fold that is missing would leave patients that nobody judges."""
    parts = by_hash(read_samples(data)).parts
    sets = [
        TrainingSet.of(parts[split], read_card(trained).outputs, 128, trained.parent / "cache")
        for split in ("train", "validation")
    ]
    with pytest.raises(DataError, match=r"the folds judge .* images not at all"):
        out_of_fold(folds[:1], *sets)
    with pytest.raises(DataError, match="more than once"):
        out_of_fold([*folds, folds[0]], *sets)


def test_evaluate_prints_the_figures_as_json(trained: Path, data: Path, commands: Typer) -> None:
    """Every key that other programs read."""
    words = ["evaluate", "--data", str(data), "--bundle", str(trained), "--split", "all", "--json"]
    result = CliRunner().invoke(commands, words, catch_exceptions=False)
    figures = json.loads(result.stdout)
    for name in ("lungs", "left_lung", "right_lung", "heart"):
        assert figures["segmentation"][name].keys() >= {"dice", "iou", "hd95_px", "hd95_mm", "worst_id"}
    assert figures["images"] == {
        "evaluated": 128,
        "by_source": {"jsrt": 32, "kermany": 32, "nih": 32, "wingspan": 32},
        "patients": 128,
        "without_a_figure": 0,
        "left_out": 0,
    }
    assert figures["split"] == "all"
    assert 0 < figures["seen_in_training"] < 128
    # The Wingspan images with their published ratio, JSRT's with that of their outlines.
    assert figures["ctr"]["images"] + figures["ctr"]["without_outline"] == 64
    assert figures["classification"]["images"] == 32
    assert figures["classification"]["sources"] == ["nih"]
    hernia = figures["classification"]["labels"]["Hernia"]
    assert hernia["positives"] + hernia["negatives"] == 32
    assert 0 <= figures["classification"]["abnormal_auc"] <= 1
    assert set(figures["classification"]["any_finding"]) == {"sensitivity", "specificity"}
    assert figures["reference"]["images"] == 32
    # The miniature's reference predictions order every image rightly.
    assert figures["reference"]["macro"]["reference"] == 1.0


def test_test_split_holds_only_unseen_patients(trained: Path, data: Path, commands: Typer) -> None:
    """The patients that the card names for the test."""
    words = ["evaluate", "--data", str(data), "--bundle", str(trained), "--json"]
    figures = json.loads(CliRunner().invoke(commands, words, catch_exceptions=False).stdout)
    assert figures["seen_in_training"] == 0
    assert 0 < figures["images"]["evaluated"] < 128
    assert figures["images"]["evaluated"] + figures["images"]["left_out"] == 128


def test_only_the_sources_that_are_asked_for(trained: Path, data: Path, commands: Typer) -> None:
    """And a source that the folder does not have is a mistake."""
    words = ["evaluate", "--data", str(data), "--bundle", str(trained), "--source", "nih", "--source", "jsrt", "--json"]
    figures = json.loads(CliRunner().invoke(commands, words, catch_exceptions=False).stdout)
    assert set(figures["images"]["by_source"]) == {"nih", "jsrt"}
    with pytest.raises(ConfigurationError, match="choose of jsrt, kermany, nih, wingspan"):
        evaluate(data, source=["plco"])


def test_folder_of_strangers_is_evaluated_whole(trained: Path, commands: Typer, tmp_path: Path) -> None:
    """The card names none of its patients: all are unseen."""
    folder = miniature_folder(tmp_path / "strangers", patients=3)
    manifest = folder / "manifest.csv"
    manifest.write_text(re.sub(r",p(\d)", r",stranger\1", manifest.read_text()))
    words = ["evaluate", "--data", str(folder), "--bundle", str(trained), "--json"]
    figures = json.loads(CliRunner().invoke(commands, words, catch_exceptions=False).stdout)
    assert (figures["split"], figures["seen_in_training"], figures["images"]["evaluated"]) == ("all", 0, 12)


def test_unknown_recipe_and_split_are_refused(data: Path, tmp_path: Path) -> None:
    """With the names that there are."""
    with pytest.raises(ConfigurationError, match="choose one of paper, small, smoke"):
        train([data], tmp_path / "bundle", recipe="large", work=tmp_path)
    with pytest.raises(ConfigurationError, match="write 1/5 to 5/5"):
        train([data], tmp_path / "bundle", recipe="smoke", work=tmp_path, fold="6/5")
    with pytest.raises(ConfigurationError, match="choose hash or published"):
        train([data], tmp_path / "bundle", recipe="smoke", work=tmp_path, splits="official")
    with pytest.raises(ConfigurationError, match="leave out --fold or --splits"):
        train([data], tmp_path / "bundle", recipe="smoke", work=tmp_path, fold="1/5", splits="published")
    with pytest.raises(ConfigurationError, match="choose test, validation, train or all"):
        evaluate(data, split="holdout")


def smoke(data: Path, work: Path, recipe: Recipe = RECIPES["smoke"], group: Group = ALONE) -> Trainer:
    """A trainer of the miniature's patients."""
    work.mkdir(exist_ok=True)
    return Trainer(recipe, by_hash(read_samples(data)), work, group)


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Whether two networks' weights are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_run_that_was_stopped_ends_as_one_that_was_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit: weights, averaged weights and the log."""
    recipe = replace(RECIPES["smoke"], epochs=3)
    whole = smoke(data, tmp_path / "whole", recipe)
    expected = whole.run().state_dict()
    stopped = smoke(data, tmp_path / "stopped", recipe)
    monkeypatch.setattr(stopped, "_step", _stops_in_epoch(stopped, 1))
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    resumed = smoke(data, tmp_path / "stopped", recipe)
    assert same(resumed.run().state_dict(), expected)
    assert same(resumed.network.state_dict(), whole.network.state_dict())
    logs = [[(row["epoch"], row["loss"]) for row in log_of(tmp_path / name)] for name in ("whole", "stopped")]
    assert logs[0] == logs[1]
    assert [epoch for epoch, _ in logs[0]] == ["1", "2", "3"]


def _stops_in_epoch(trainer: Trainer, epoch: int) -> Callable[..., float]:
    step = trainer._step  # noqa: SLF001 - where a person's Ctrl-C would come

    def stopping(*arguments: Any) -> float:
        if trainer.epoch == epoch:
            raise KeyboardInterrupt
        return step(*arguments)

    return stopping


def log_of(work: Path) -> list[dict[str, str]]:
    """The rows of a run's log."""
    with (work / "log.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_same_seed_same_weights(data: Path, tmp_path: Path) -> None:
    """Two runs from nothing agree to the last bit; another seed gives another network."""
    one, other = (smoke(data, tmp_path / name).run().state_dict() for name in ("one", "other"))
    third = smoke(data, tmp_path / "third", replace(RECIPES["smoke"], seed=1)).run().state_dict()
    assert same(one, other)
    assert not same(one, third)


def test_training_learns(data: Path, tmp_path: Path) -> None:
    """A few passes over drawn chests teach it where their lungs are."""
    smoke(data, tmp_path, replace(RECIPES["smoke"], epochs=6, ema_decay=0.5)).run()
    log = [{name: float(value) for name, value in row.items()} for row in log_of(tmp_path)]
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[-1]["lungs_dice"] > max(0.7, log[0]["lungs_dice"])
    assert all(0 <= row["loader_share"] < 1 for row in log)


def test_network_looks_closer_once_it_can_outline(data: Path, tmp_path: Path) -> None:
    """The rectangle that it looks at is part of the run's state, and no larger than the frame and its margins."""
    trainer = smoke(data, tmp_path)
    assert trainer.loader.boxes is None
    trainer.run()
    boxes = trainer.loader.boxes
    assert boxes is not None
    assert boxes.shape == (len(trainer.training.samples), 4)
    assert ((boxes[:, 2:] >= CLOSER_LEAST) & (boxes[:, 2:] < 1.3)).all()


def test_one_task_alone_trains_only_what_it_needs(data: Path, tmp_path: Path) -> None:
    """Weights of 0 switch the other two tasks off: their heads stay as they were."""
    recipe = replace(RECIPES["smoke"], segmentation_weight=0.0, location_weight=0.0, weight_decay=0.0, closer_from=None)
    trainer = smoke(data, tmp_path, recipe)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run()
    after = trainer.network.state_dict()
    changed = {name.partition(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    heads = {name for name, _ in trainer.network.decoder.named_parameters()}
    assert changed >= {"encoder", "abnormality"}
    assert all(torch.equal(after[f"decoder.{name}"], before[f"decoder.{name}"]) for name in heads)
    assert torch.equal(after["location.weight"], before["location.weight"])


def test_frozen_norms_stay_as_pretraining_left_them(data: Path, tmp_path: Path) -> None:
    """Statistics, scales and shifts of the encoder's; what lies between them, and the decoder's, learns."""
    trainer = smoke(data, tmp_path)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run()
    norms = {name for name, module in trainer.network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    changed = {name for name, value in trainer.network.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in changed if name.rpartition(".")[0] in norms} == {"decoder"}
    assert any(name.startswith("encoder.head.") for name in changed)


def test_encoder_waits_for_the_heads(data: Path, tmp_path: Path) -> None:
    """Until its epoch it stays as it was, to the last bit; heads and decoder learn meanwhile."""
    trainer = smoke(data, tmp_path, replace(RECIPES["smoke"], encoder_from=RECIPES["smoke"].epochs))
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    trainer.run()
    changed = {name for name, value in trainer.network.named_parameters() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in changed} == {"decoder", "abnormality", "location"}


def test_no_step_throws_the_heads_about(data: Path, tmp_path: Path) -> None:
    """At the peak of the schedule a logit moves by little: else the encoder would learn to shrink its maps."""
    trainer = smoke(data, tmp_path, replace(RECIPES["smoke"], closer_from=None))
    rows = np.arange(8)
    look = Look.at_whole(trainer.network, trainer.training.images, trainer.precision, ALONE.device)
    before = look.abnormality(rows)
    trainer._step([trainer.loader.batch(0, 0)], trainer.loader.steps_per_epoch, None)  # noqa: SLF001 - one step alone
    moved = (look.abnormality(rows) - before).abs()
    assert 0 < float(moved.max()) < 2


def test_checkpoint_of_another_recipe_is_refused(data: Path, tmp_path: Path) -> None:
    """Two recipes never mix in one work folder; the message names what differs."""
    smoke(data, tmp_path).run()
    with pytest.raises(DataError, match=r"another recipe \(noise, seed\): name another work folder"):
        smoke(data, tmp_path, replace(RECIPES["smoke"], seed=1, noise="soft")).run()


def test_damaged_checkpoint_is_refused(data: Path, tmp_path: Path) -> None:
    """Rather than trained over."""
    (tmp_path / "checkpoint.pt").write_bytes(b"half a checkpoint")
    with pytest.raises(DataError, match="cannot be read"):
        smoke(data, tmp_path).run()


def test_too_few_images_are_refused(data: Path, tmp_path: Path) -> None:
    """A batch cannot be filled: said before the first step."""
    samples = [sample for sample in read_samples(data) if sample.source != "kermany"]
    with pytest.raises(DataError, match="2 paediatric images in each batch, the training part has 0"):
        Trainer(RECIPES["smoke"], by_hash(samples), tmp_path, ALONE)


def test_processes_must_share_the_micro_batches_evenly(data: Path, tmp_path: Path) -> None:
    """Two processes and one micro-batch: one of them would have nothing to do."""
    with pytest.raises(ConfigurationError, match="2 processes cannot share 1 micro-batches evenly"):
        smoke(data, tmp_path, group=Group(0, 2, torch.device("cpu")))
