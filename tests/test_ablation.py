"""The ablation: what each step adds, of whatever runs are there."""

import importlib.util
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cxr_triage.training.data import NIH_LABELS, Sample, fold_of, read_samples, split_of
from cxr_triage.training.recipes import BatchShare
from miniature import miniature_folder


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    """benchmarks/ablation.py, which no package holds."""
    path = Path(__file__).parent.parent / "benchmarks" / "ablation.py"
    spec = importlib.util.spec_from_file_location("ablation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature folder."""
    return miniature_folder(tmp_path_factory.mktemp("ablation") / "data", patients=40)


def judged_in(samples: list[Sample], fold: int, folds: int) -> list[Sample]:
    """The NIH images of a fold; those of the test patients are in none."""
    known = [one for one in samples if one.source == "nih" and split_of(one.patient) != "test"]
    return [one for one in known if fold_of(one.patient, folds) == fold]


def write_scores(ablation: ModuleType, samples: list[Sample], work: Path, step: str, *, noise: float) -> None:
    """Scores of one seed in all folds: the labels and noise."""
    generator = np.random.default_rng(0)
    for fold in range(ablation.FOLDS):
        judged = judged_in(samples, fold, ablation.FOLDS)
        truth = np.array([[float(one.labels[label]) for label in NIH_LABELS] for one in judged])
        logits = truth + noise * generator.normal(size=truth.shape)
        np.savez(ablation.Run(step, 0, fold).path(work), ids=[one.id for one in judged], logits=logits)


def test_table_says_what_a_step_adds(ablation: ModuleType, data: Path, tmp_path: Path) -> None:
    """A step with less noise adds AUC, with an interval above 0; steps without all folds are left out."""
    samples = read_samples(data)
    write_scores(ablation, samples, tmp_path, "plain", noise=3.0)
    write_scores(ablation, samples, tmp_path, "+ segmentation", noise=0.1)
    np.savez(ablation.Run("+ location", 0, 0).path(tmp_path), ids=["nih0"], logits=np.zeros((1, 14)))
    rows = [line.split(" | ") for line in ablation.table(samples, tmp_path, 1).splitlines()[2:]]
    assert [row[0] for row in rows] == ["| plain", "| + segmentation"]
    assert rows[0][3] == ""
    assert float(rows[1][2].split()[0]) > 0.98
    lower = float(rows[1][3].split("(")[1].split(" to ")[0])
    assert lower > 0.2


def test_run_scores_the_patients_of_its_fold(
    ablation: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One network, small, with both heads: who is judged, by how many outputs, and what is left at the end."""
    small = BatchShare(labelled=4, masked=2, paediatric=2)
    monkeypatch.setattr(ablation, "BASE", replace(ablation.BASE, input_size=32, epochs=1, batch=small))
    run = ablation.Run(ablation.TRAINED, 1, 2)
    ablation._run(run, data, tmp_path)  # noqa: SLF001 - what a worker process is given
    expected = {one.id for one in judged_in(read_samples(data), 2, ablation.FOLDS)}
    paths = [run.path(tmp_path), ablation.Run(ablation.SOLVED, 1, 2).path(tmp_path)]
    trained, solved = (np.load(path) for path in paths)
    assert set(trained["ids"]) == set(solved["ids"]) == expected
    assert trained["logits"].shape == solved["logits"].shape == (len(expected), len(NIH_LABELS))
    assert not np.allclose(trained["logits"], solved["logits"])
    assert {path.name for path in tmp_path.iterdir()} == {"cache", *(path.name for path in paths)}


def test_each_step_changes_one_thing(ablation: ModuleType) -> None:
    """And keeps what the steps before it changed."""
    recipes = list(ablation.steps().values())
    for before, after in pairwise(recipes):
        changed = [name for name in vars(before) if getattr(before, name) != getattr(after, name)]
        assert len([name for name in changed if name != "name"]) == 1


def test_last_step_needs_no_training_of_its_own(ablation: ModuleType) -> None:
    """It differs from the step before in its head alone."""
    trained, solved = (ablation.steps()[step] for step in (ablation.TRAINED, ablation.SOLVED))
    assert replace(trained, name=ablation.SOLVED, closed_form=True) == solved
