"""A report of a real run: the shipped bundle on the demo's radiographs, with made-up truth about them."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from builders import thorax_masks
from cxr_triage.model.radiograph import read_radiograph
from cxr_triage.training.commands.evaluate import evaluate
from cxr_triage.training.commands.train import train
from cxr_triage.training.data import NIH_LABELS
from miniature import COLUMNS

RADIOGRAPHS: Final = Path(__file__).parents[1] / "daemon" / "demo" / "radiographs"
SHOWN: Final = ("02-birch-cr", "04-dogwood-dx", "09-hazel-cr")
#: Side of the copies, pixels.
SIDE: Final = 224
#: In each of the two selections.
IMAGES: Final = 12
SECTIONS: Final = (
    *("labels", "strata", "selection", "reference", "segmentation", "ratio", "location", "localisation", "gate"),
    *("overlays", "saliency"),
)


class Page(HTMLParser):
    """What a page consists of: its sections, its images, and every address that it names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.images: dict[str, list[str]] = {}
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        given = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        if tag == "section":
            self.sections.append(given["id"])
        if tag == "img":
            self.images.setdefault(self.sections[-1], []).append(given["src"])
        self.addresses += [given[name] for name in ("src", "href", "srcset", "data") if name in given]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three radiographs of the demo, each for eight patients: two selections, masks, ratios and boxes."""
    folder = tmp_path_factory.mktemp("demo")
    for name in SHOWN:
        pixels = Image.fromarray(np.uint8(255 * read_radiograph(RADIOGRAPHS / f"{name}.dcm").pixels_HW))
        pixels.resize((SIDE, SIDE)).save(folder / f"{name}.png")
        bits = (thorax_masks(SIDE, SIDE) * np.array([1, 2, 4])[:, None, None]).sum(axis=0)
        Image.fromarray(np.uint8(bits)).save(folder / f"{name}-mask.png")
    rows = [_row(number) for number in range(2 * IMAGES)]
    _write(folder / "manifest.csv", COLUMNS, rows)
    said = [{"id": row["id"], **dict.fromkeys(NIH_LABELS, row["Mass"])} for row in rows[:IMAGES]]
    _write(folder / "reference_predictions.csv", ("id", *NIH_LABELS), said)
    box = {"x0": 0.2, "y0": 0.4, "x1": 0.4, "y1": 0.6}
    boxes = [{"id": row["id"], "label": "Mass", **box} for row in rows[:10] for _ in range(2)]
    _write(folder / "regions.csv", ("id", "label", *box), boxes)
    return folder


def _row(number: int) -> dict[str, Any]:
    name, present = SHOWN[number % len(SHOWN)], number % 2
    common = {"id": f"case{number:02}", "source": "nih", "patient": f"secret{number}"}
    masked = {"mask": f"{name}-mask.png", "ctr": 0.45} if number < IMAGES else {}
    labels = dict.fromkeys(NIH_LABELS, present)
    person = {"sex": "FM"[number % 2], "age": str(15 + 3 * number), "view": "PA"}
    return common | masked | labels | person | {"path": f"{name}.png", "no_finding": 1 - present}


def _write(path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def report(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `evaluate --report` writes."""
    app = Typer()
    app.command()(train)
    app.command()(evaluate)
    written = tmp_path_factory.mktemp("reports") / "new" / "report"
    result = CliRunner().invoke(
        app, ["evaluate", "--data", str(folder), "--report", str(written), "--device", "cpu"], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "Source shortcut check" in result.stdout
    return written


@pytest.fixture(scope="module")
def text(report: Path) -> str:
    """The page."""
    return (report / "report.html").read_text(encoding="utf-8")


def test_report_is_two_files(report: Path) -> None:
    """Nothing else is needed to read it."""
    assert sorted(path.name for path in report.iterdir()) == ["report.html", "report.json"]


def test_json_has_every_figure(report: Path) -> None:
    """And says what was done."""
    figures = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert figures["images"]["evaluated"] == 2 * IMAGES
    assert figures["split"] == "all"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", figures["date"])
    assert {"python", "cxr-triage", "torch"} <= figures["versions"].keys()
    assert figures["bundles"][0]["sha256"]
    assert figures["localisation"]["Mass"]["boxes"] == 20
    assert figures["reference"]["macro"]["reference"] == 1.0
    assert 0 < figures["segmentation"]["heart"]["dice"]["mean"] < 1
    assert figures["ctr"]["images"] + figures["ctr"]["without_outline"] == IMAGES


def test_page_has_every_section_and_its_plots(text: str) -> None:
    """ROC and reliability, Dice, Bland-Altman; for each structure, and for the boxes, the best and the two worst."""
    page = Page(text)
    assert tuple(page.sections) == SECTIONS
    counts = {section: len(images) for section, images in page.images.items()}
    assert counts == {"labels": 2, "segmentation": 1, "ratio": 1, "overlays": 4 * 3, "saliency": 3}


def test_page_stands_alone(text: str) -> None:
    """Every image is in it, and it refers to no other place."""
    page = Page(text)
    assert all(address.startswith(("data:image/svg+xml;", "data:image/png;")) for address in page.addresses)
    assert page.tags.isdisjoint({"script", "link", "iframe", "object"})
    assert "://" not in text
    assert "url(" not in text


def test_page_names_images_by_their_id_only(text: str, report: Path, folder: Path) -> None:
    """Neither the manifest's patients nor the folder's path."""
    for written in (text, (report / "report.json").read_text(encoding="utf-8")):
        assert "case0" in written
        assert "secret" not in written
        assert str(folder) not in written
