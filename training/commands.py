"""The commands that the daemon's command line finds by entry point: train, evaluate and manifest."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.predictor import Predictor
from cxr_triage.training.data import Sample, read_samples
from cxr_triage.training.distributed import joined
from cxr_triage.training.division import Division, Fold, as_published, by_hash, for_fold
from cxr_triage.training.evaluate import EvaluatedSplit, choose, default_split
from cxr_triage.training.evaluate import evaluate as evaluate_bundle
from cxr_triage.training.export import BundleName, add_figures, export
from cxr_triage.training.recipes import RECIPES, Recipe
from cxr_triage.training.sources import Source, known_sources
from cxr_triage.training.sources.folder import named
from cxr_triage.training.sources.manifest import write_manifest
from cxr_triage.training.sources.published import Published
from cxr_triage.training.train import Trainer

DataFolder = Annotated[Path, typer.Option(help="Folder with manifest.csv, images and masks.")]


def train(  # noqa: PLR0913, PLR0917 - each is an option
    data: Annotated[list[Path], typer.Option(help="Folder with manifest.csv; several times: all of them together.")],
    output: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "small",
    work: Annotated[
        Path, typer.Option(help="Folder for the cache, checkpoints and the log; a run goes on there.")
    ] = Path("training-run"),
    fold: Annotated[str, typer.Option(help="Train one fold of a cross-validation: 1/5 to 5/5.")] = "",
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
            card = export(network, parts=parts, division=division, recipe=chosen, name=bundle, folder=output)
            figures = evaluate_bundle(samples, Predictor.load(output, device), split="test")
            add_figures(card, figures, output)
            _show(figures, Console())


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


def evaluate(
    data: DataFolder,
    bundle: Annotated[Path | None, typer.Option(help="Folder of the bundle; default: the bundled one.")] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Whose patients: test, validation or train (by the bundle's card), or all. "
            "Default: test, or all where the card names none of the folder's patients."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,  # noqa: FBT002 - an option
) -> None:
    """Measure a bundle on a folder of radiographs with a manifest.csv."""
    samples = read_samples(data)
    predictor = Predictor.load(bundle, device)
    chosen = default_split(samples, predictor.card) if split is None else _split(split)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("images", total=len(choose(samples, predictor.card, chosen)))
        figures = evaluate_bundle(samples, predictor, split=chosen, progress=lambda: progress.advance(task))
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        _show(figures, Console())


def manifest(
    source: Annotated[str, typer.Option(help="The data set: nih, plco, jsrt, kermany, rsna, ... or folder.")],
    folder: Annotated[Path, typer.Option(help="The data set as it was published.")],
    output: Annotated[Path, typer.Option(help="The folder to write: manifest.csv, regions.csv, masks, report.json.")],
    name: Annotated[str, typer.Option(help="With --source folder: what to call the data set.")] = "",
    column: Annotated[
        list[str] | None, typer.Option(help="With --source folder: OURS=THEIRS, a column of its table; repeatable.")
    ] = None,
    decode: Annotated[bool, typer.Option(help="Read every image to its last pixel, or its header only.")] = True,  # noqa: FBT002 - an option
    strict: Annotated[bool, typer.Option(help="Exit with 1 if anything is wrong.")] = False,  # noqa: FBT002 - an option
) -> None:
    """Make a published data set a folder to train on, and say what is wrong with it."""
    chosen = _source(source, name, columns := _pairs(column or []))
    published = Published(path=folder, columns=columns)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("images", total=None)
        summary = write_manifest(chosen, published, output, decode=decode, progress=lambda: progress.advance(task))
    _show_summary(summary, Console())
    if strict and summary["problems"]:
        raise typer.Exit(1)


def _source(name: str, own_name: str, columns: dict[str, str]) -> Source:
    if name == "folder":
        return named(own_name)
    if own_name or columns:
        raise ConfigurationError("--name and --column go with --source folder: other data sets have theirs")
    if name not in known_sources():
        raise ConfigurationError(f"there is no source {name!r}: choose one of {', '.join(known_sources())}")
    return known_sources()[name]


def _pairs(columns: list[str]) -> dict[str, str]:
    wrong = [column for column in columns if not all(column.partition("="))]
    if wrong:
        raise ConfigurationError(f"--column {wrong[0]!r} is not of the form OURS=THEIRS")
    return {ours: theirs for ours, _, theirs in (column.partition("=") for column in columns)}


def _show_summary(summary: dict[str, Any], console: Console) -> None:
    """Print what report.json says."""
    console.print(
        f"{summary['source']}: {summary['images']} images of {summary['patients']} patients, "
        f"{summary['masks']} masks, {summary['boxes']} boxes"
    )
    if summary["unverified"]:
        console.print(f"UNVERIFIED: {summary['unverified']}", style="yellow")
    console.print(f"Terms: {summary['terms']}")
    labels = Table("label", "positives", "negatives")
    for label, counts in summary["labels"].items():
        labels.add_row(label, str(counts["positive"]), str(counts["negative"]))
    console.print(labels)
    for title, entries in (("Left out", summary["left_out"]), ("Problems", summary["problems"])):
        for kind, entry in entries.items():
            console.print(f"{title}: {entry['count']} x {kind} ({entry['meaning']}): {', '.join(entry['first'])}")
    if not summary["problems"]:
        console.print("Problems: none")


def _split(name: str) -> EvaluatedSplit:
    match name:
        case "test" | "validation" | "train" | "all":
            return name
    raise ConfigurationError(f"there is no split {name!r}: choose test, validation, train or all")


def _show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as tables."""
    bundle = figures["bundle"]
    console.print(
        f"{bundle['name']} {bundle['version']} on {figures['images']['evaluated']} images ({figures['split']})"
    )
    if figures["seen_in_training"]:
        console.print(f"{figures['seen_in_training']} of them are of patients that it was trained on.", style="yellow")
    masks = Table("structure", "Dice", "IoU", title=f"Masks, {figures['segmentation']['images']} images")
    for name in ("lungs", "left_lung", "right_lung", "heart"):
        if name in figures["segmentation"]:
            row = figures["segmentation"][name]
            masks.add_row(name, _number(row["dice"]), _number(row["iou"]))
    console.print(masks)
    console.print(
        f"Cardiothoracic ratio: mean error {_number(figures['ctr']['mae'])}, {figures['ctr']['images']} images"
    )
    classes = figures["classification"]
    labels = Table("label", "AUC", "positives", "negatives", "sensitivity", "specificity", title="NIH labels")
    for name, row in classes["labels"].items():
        counts = (str(row["positives"]), str(row["negatives"]))
        labels.add_row(name, _number(row["auc"]), *counts, _number(row["sensitivity"]), _number(row["specificity"]))
    console.print(labels)
    console.print(
        f"Macro AUC {_number(classes['macro_auc'])}, abnormal against normal {_number(classes['abnormal_auc'])}"
    )
    peer = figures["reference"]
    console.print(
        f"On {peer['images']} images with reference predictions, macro AUC: "
        f"ours {_number(peer['macro_auc_ours'])}, reference {_number(peer['macro_auc_reference'])}"
    )
    console.print(f"The gate would refuse: {figures['refused'] or 'none'}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
