"""`cxr-triage train`: radiographs with labels -> a weights bundle."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.predictor import Predictor
from cxr_triage.training.data import Sample, read_samples
from cxr_triage.training.distributed import joined
from cxr_triage.training.division import Division, Fold, as_published, by_hash, for_fold
from cxr_triage.training.evaluation.figures import evaluate
from cxr_triage.training.evaluation.tables import show
from cxr_triage.training.export import BundleName, add_figures, export
from cxr_triage.training.recipes import RECIPES, Recipe
from cxr_triage.training.train import Trainer


def train(  # noqa: PLR0913, PLR0917 - each is an option
    data: Annotated[list[Path], typer.Option(help="Folder with manifest.csv; several times: all of them together.")],
    output: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "small",
    work: Annotated[
        Path, typer.Option(help="Folder for the cache, checkpoints and the log; a run goes on there.")
    ] = Path("training-run"),
    fold: Annotated[str, typer.Option(help="Train one fold of a cross-validation: 1/5 to 5/5.")] = "",
    fold_bundle: Annotated[
        list[Path] | None,
        typer.Option(
            help="Bundle of a fold of the same data; once for each. They then judge the training patients for "
            "calibration and operating points, in place of the few validation patients."
        ),
    ] = None,
    splits: Annotated[
        str, typer.Option(help="Who trains, tunes and judges: hash, or published where the publishers say so.")
    ] = "hash",
    name: Annotated[str, typer.Option(help="Name on the card.")] = "",
    version: Annotated[str, typer.Option(help="Version on the card; default: year and month.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a network, calibrate it, and write a bundle with the figures that it reaches on the test patients.

    Under torchrun, several processes train one network together.
    """
    chosen = _recipe(recipe)
    samples = read_samples(*data)
    division = _division(samples, fold, splits)
    work.mkdir(parents=True, exist_ok=True)
    with joined(device) as group:
        trainer = Trainer(chosen, division, work, group)
        network = trainer.run()
        if group.leads:
            bundle = BundleName(name=name or recipe, version=version or f"{datetime.now(UTC):%Y.%m}")
            parts = {"train": trainer.training, "validation": trainer.validation}
            card = export(
                network,
                parts=parts,
                division=division,
                recipe=chosen,
                name=bundle,
                folder=output,
                folds=fold_bundle or (),
            )
            figures = evaluate(samples, [Predictor.load(output, device)], split="test").figures
            add_figures(card, figures, output)
            show(figures, Console())


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise ConfigurationError(f"there is no recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def _division(samples: Sequence[Sample], fold: str, splits: str) -> Division:
    if splits not in ("hash", "published"):
        raise ConfigurationError(f"there are no splits {splits!r}: choose hash or published")
    if fold and splits == "published":
        raise ConfigurationError("a fold has splits of its own: leave out --fold or --splits")
    if fold:
        return for_fold(samples, Fold.parse(fold))
    return as_published(samples) if splits == "published" else by_hash(samples)
