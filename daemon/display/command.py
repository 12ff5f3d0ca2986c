"""`cxr-triage explain-display`: whether a viewer draws an object, and why not. It prints nothing of the patient."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset
from rich.console import Console
from rich.table import Table

from cxr_triage.daemon.display.contents import is_known_kind
from cxr_triage.daemon.display.dcmqi import DCMQI
from cxr_triage.daemon.display.ohif import OHIF
from cxr_triage.daemon.display.rules import Finding, Verdict, judge, kind_name
from cxr_triage.daemon.display.stone import STONE
from cxr_triage.daemon.display.weasis import WEASIS
from cxr_triage.model.errors import ConfigurationError, UnreadableImageError
from cxr_triage.model.header import open_dataset, quiet_pydicom

VIEWERS: Final = {"ohif": OHIF, "stone": STONE, "weasis": WEASIS, "dcmqi": DCMQI}


def explain(files: Sequence[Path], viewer: str) -> list[dict[str, Any]]:
    """Judge every file, in the order in which they are named, as plain values for JSON.

    Raises:
        ConfigurationError: there is no such viewer, or one of the files cannot be read.
    """
    if viewer not in VIEWERS:
        raise ConfigurationError(f"viewer {viewer!r} is none: write one of {', '.join(VIEWERS)}")
    with quiet_pydicom():
        objects = [_read(file) for file in files]
        return [_row(file, judge(VIEWERS[viewer], dataset)) for file, dataset in zip(files, objects, strict=True)]


def all_drawn(explained: Sequence[dict[str, Any]]) -> bool:
    """Whether the viewer draws every one of them."""
    return all(row["draws"] for row in explained)


def print_explained(explained: Sequence[dict[str, Any]], console: Console) -> None:
    """The same for a person: a verdict for each file, then its rules, what failed first."""
    for row in explained:
        console.print(f"{row['file']}: {row['verdict']}", markup=False, soft_wrap=True)
        table = Table("", title=f"Rules of {row['viewer']}, {row['versions']}", show_lines=True)
        for name in ("the viewer needs", "found", "change", "source"):
            table.add_column(name, overflow="fold")
        for rule in sorted(row["rules"], key=lambda rule: bool(rule["passed"])):
            change = "" if rule["passed"] else rule["change"]
            table.add_row(_mark(rule), rule["needs"], rule["found"], change, rule["source"])
        console.print(table)


def _mark(rule: dict[str, Any]) -> str:
    if rule["passed"]:
        return "[green]passed[/]"
    return f"[yellow]failed\nbefore {rule['mended_in']}[/]" if rule["mended_in"] else "[red]failed[/]"


def _read(file: Path) -> Dataset:
    try:
        dataset = open_dataset(file)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({type(error).__name__}): name a DICOM file") from None
    except UnreadableImageError:
        raise ConfigurationError(f"{file} is no DICOM file (PS3.10): name one as it was stored or sent") from None
    if not is_known_kind(dataset):
        raise ConfigurationError(
            f"{file}: there are no rules for this kind of object ({kind_name(dataset)}), but for images, SEG, SR, "
            "presentation states and key object selections"
        )
    return dataset


def _row(file: Path, verdict: Verdict) -> dict[str, Any]:
    return {
        "file": str(file),
        "viewer": verdict.viewer,
        "versions": verdict.versions,
        "kind": verdict.kind,
        "known": verdict.known,
        "draws": verdict.draws,
        "since": verdict.since,
        "verdict": verdict.line,
        "rules": [_rule(finding) for finding in verdict.findings],
    }


def _rule(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "passed": finding.ok,
        "mended_in": finding.mended_in,
        "needs": finding.needs,
        "found": finding.found,
        "change": finding.change,
        "source": finding.source,
    }
