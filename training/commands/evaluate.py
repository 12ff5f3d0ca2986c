"""`cxr-triage evaluate`: how good weights bundles are on a folder of radiographs."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from cxr_triage.model.bundle import BUNDLED
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.predictor import Predictor
from cxr_triage.training.data import Sample, read_samples
from cxr_triage.training.evaluation.figures import evaluate as evaluate_bundles
from cxr_triage.training.evaluation.folds import EvaluatedSplit, assign, default_split
from cxr_triage.training.evaluation.report import write_report
from cxr_triage.training.evaluation.tables import show


def evaluate(
    data: Annotated[Path, typer.Option(help="Folder with manifest.csv, images and masks.")],
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of the bundle; default: the bundled one. Several times: the bundles of a cross-validation, "
            "each scores the patients that its card names."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Whose patients: test, validation or train (by the bundle's card), or all. "
            "Default: test, or all where the card names none of the folder's patients."
        ),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Only images of this source; several times: of these. Default: all.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    report: Annotated[Path | None, typer.Option(help="Folder for report.html, with plots, and report.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,  # noqa: FBT002 - an option
) -> None:
    """Measure a bundle on a folder of radiographs with a manifest.csv."""
    samples = _of_sources(read_samples(data), source)
    predictors = [Predictor.load(folder, device) for folder in bundle or [BUNDLED]]
    cards = [predictor.card for predictor in predictors]
    chosen = default_split(samples, cards) if split is None else _split(split)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("images", total=len(assign(samples, cards, chosen).rows))
        evaluation = evaluate_bundles(samples, predictors, split=chosen, progress=lambda: progress.advance(task))
    if report is not None:
        write_report(evaluation, predictors, report)
    if as_json:
        typer.echo(json.dumps(evaluation.figures))
    else:
        show(evaluation.figures, Console())


def _of_sources(samples: list[Sample], sources: list[str] | None) -> list[Sample]:
    if not sources:
        return samples
    known = {sample.source for sample in samples}
    unknown = sorted(set(sources) - known)
    if unknown:
        raise ConfigurationError(f"there is no source {unknown[0]!r}: choose of {', '.join(sorted(known))}")
    return [sample for sample in samples if sample.source in sources]


def _split(name: str) -> EvaluatedSplit:
    match name:
        case "test" | "validation" | "train" | "all":
            return name
    raise ConfigurationError(f"there is no split {name!r}: choose test, validation, train or all")
