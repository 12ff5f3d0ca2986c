"""A whole training run in miniature: train, go on from a checkpoint, export, load, evaluate."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from cxr_triage.model.bundle import read_card
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.predictor import Predictor
from cxr_triage.training.commands import evaluate, train
from cxr_triage.training.data import DataError, read_samples
from cxr_triage.training.recipes import RECIPES
from cxr_triage.training.train import Trainer
from miniature import miniature_folder


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
    assert figures["ctr"]["images"] + figures["ctr"]["without_outline"] == 32
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
        train(data, tmp_path / "bundle", recipe="large", work=tmp_path)
    with pytest.raises(ConfigurationError, match="choose test, validation, train or all"):
        evaluate(data, split="holdout")


def test_run_goes_on_from_its_checkpoint(data: Path, tmp_path: Path) -> None:
    """The second epoch of a run that was stopped; the log goes on as well."""
    samples = read_samples(data)
    one = replace(RECIPES["smoke"], epochs=1)
    Trainer(one, samples, tmp_path, device="cpu").run()
    resumed = Trainer(replace(one, epochs=2), samples, tmp_path, device="cpu")
    resumed.run()
    assert resumed.epoch == 2
    with (tmp_path / "log.csv").open(newline="") as lines:
        assert [row["epoch"] for row in csv.DictReader(lines)] == ["1", "2"]


def test_same_seed_same_weights(data: Path, tmp_path: Path) -> None:
    """Two runs from nothing agree to the last bit."""
    samples = read_samples(data)
    networks = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        networks.append(Trainer(RECIPES["smoke"], samples, tmp_path / name, device="cpu").run().state_dict())
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])


def test_training_learns(data: Path, tmp_path: Path) -> None:
    """A few passes over drawn chests teach it where their lungs are."""
    recipe = replace(RECIPES["smoke"], epochs=6, ema_decay=0.5)
    Trainer(recipe, read_samples(data), tmp_path, device="cpu").run()
    with (tmp_path / "log.csv").open(newline="") as lines:
        log = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[-1]["lungs_dice"] > max(0.7, log[0]["lungs_dice"])


def test_checkpoint_of_another_recipe_is_refused(data: Path, tmp_path: Path) -> None:
    """Two recipes never mix in one work folder."""
    samples = read_samples(data)
    Trainer(RECIPES["smoke"], samples, tmp_path, device="cpu").run()
    with pytest.raises(DataError, match="name another work folder"):
        Trainer(replace(RECIPES["smoke"], name="other"), samples, tmp_path, device="cpu").run()


def test_too_few_images_are_refused(data: Path, tmp_path: Path) -> None:
    """A batch cannot be filled: said before the first step."""
    samples = [sample for sample in read_samples(data) if sample.source != "kermany"]
    with pytest.raises(DataError, match="2 paediatric images in each batch, the training part has 0"):
        Trainer(RECIPES["smoke"], samples, tmp_path, device="cpu")
