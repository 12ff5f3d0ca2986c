"""`cxr-triage manifest`: a data set as it was published -> a folder to train on."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cxr_triage.model.errors import ConfigurationError
from cxr_triage.training.sources import Source, known_sources
from cxr_triage.training.sources.folder import named
from cxr_triage.training.sources.manifest import write_manifest
from cxr_triage.training.sources.published import Published


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
