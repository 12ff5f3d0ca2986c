"""What a bundle's maps may tell readers: by figures that are worked out here, and as the command writes it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builders import finding, prediction, thorax_masks
from cxr_triage.model.bundle import BUNDLED, Whereabouts, read_card
from cxr_triage.model.findings import Zone
from cxr_triage.training.data import Region
from cxr_triage.training.evaluation.figures import figures_of
from cxr_triage.training.evaluation.scored import Localisation, Scored, Zones
from cxr_triage.training.evaluation.zones import zones, zones_of
from cxr_triage.training.whereabouts import EVIDENCE, whereabouts_of
from evaluated import scored

LEFT, RIGHT = Zone("left_lung", "lower"), Zone("right_lung", "lower")


def pointed(*hits: tuple[Zone, Zone | None], **changes: Any) -> list[Scored]:
    """Give images with one box of pneumonia each: the zone of the box, and that of the map."""
    return [scored(zones={"Pneumonia": Zones(boxes=frozenset({box}), told=told)}, **changes) for box, told in hits]


def mapped(*, iou: float, lungs_iou: float, pointing: bool = True) -> Localisation:
    """Give how a map lies on a box: its overlap at a threshold of 0.1, and that of both lungs."""
    return Localisation(
        boxes=1,
        pointing=pointing,
        ious=(0.0, iou, *(0.0,) * 17),
        image_share=0.1,
        lung_box_share=0.2,
        lungs_iou=lungs_iou,
    )


def test_a_side_is_judged_where_boxes_lie_on_one_side() -> None:
    """Three of four on the left, one of two on the right; what has boxes on both sides is no test."""
    rows = pointed(*[(LEFT, LEFT)] * 9, *[(LEFT, RIGHT)] * 3, *[(RIGHT, RIGHT)] * 5, *[(RIGHT, None)] * 5)
    rows.append(scored(zones={"Pneumonia": Zones(boxes=frozenset({LEFT, RIGHT}), told=LEFT)}))
    figures = zones(rows)["Pneumonia"]
    assert (figures["images"], figures["one_sided"], figures["left"]) == (23, 22, 12)
    assert figures["side"] == pytest.approx((0.75 + 0.5) / 2)
    assert figures["side_interval"][0] < figures["side"] < figures["side_interval"][1]


def test_a_third_is_judged_against_the_best_guess() -> None:
    """18 of 20 boxes lie in the lower third: who always says so is right as often."""
    upper = Zone("left_lung", "upper")
    figures = zones(pointed(*[(LEFT, LEFT)] * 18, *[(upper, upper)] * 2))["Pneumonia"]
    assert (figures["third"], figures["third_guess"]) == (1.0, 0.9)
    assert figures["side"] is None


def test_few_images_say_nothing() -> None:
    """Of a map that was looked at on 19 of them."""
    assert zones(pointed(*[(LEFT, LEFT)] * 19)) == {}


@pytest.mark.parametrize(("right", "wrong", "told"), [(40, 0, True), (30, 10, True), (20, 20, False), (12, 8, False)])
def test_a_side_is_told_by_its_lower_bound(right: int, wrong: int, told: bool) -> None:
    """12 of 20 might be chance."""
    rows = pointed(*[(LEFT, LEFT), (RIGHT, RIGHT)] * (right // 2), *[(LEFT, RIGHT), (RIGHT, LEFT)] * (wrong // 2))
    assert whereabouts_of(figures_of(rows), "Pneumonia") == Whereabouts(side=told)


def test_a_handful_on_one_side_vouches_for_nothing() -> None:
    """Half of the balanced accuracy would rest on nine images."""
    few = pointed(*[(LEFT, LEFT)] * 9, *[(RIGHT, RIGHT)] * 40)
    assert whereabouts_of(figures_of(few), "Pneumonia") == Whereabouts()
    assert whereabouts_of(figures_of([*few, *pointed((LEFT, LEFT))]), "Pneumonia") == Whereabouts(side=True)


@pytest.mark.parametrize(
    ("found", "outline_at"),
    [
        (mapped(iou=0.5, lungs_iou=0.3), 0.1),
        # No better than both lungs; better, but beside the boxes.
        (mapped(iou=0.3, lungs_iou=0.3), None),
        (mapped(iou=0.5, lungs_iou=0.3, pointing=False), None),
    ],
)
def test_an_outline_is_drawn_where_it_beats_both_lungs(found: Localisation, outline_at: float | None) -> None:
    """And points into the boxes."""
    rows = [scored(localisation={"Pneumonia": found}) for _ in range(20)]
    assert whereabouts_of(figures_of(rows), "Pneumonia") == Whereabouts(outline_at=outline_at)
    # RSNA's boxes of opacities are compared with the same map: both must do.
    rows += [scored(localisation={"Lung_Opacity": mapped(iou=0.2, lungs_iou=0.3)}) for _ in range(20)]
    assert whereabouts_of(figures_of(rows), "Pneumonia") == Whereabouts()


def test_nothing_is_told_without_boxes() -> None:
    """Of any label."""
    assert whereabouts_of(figures_of([scored()]), "Pneumonia") == Whereabouts()


def test_zones_of_one_image() -> None:
    """Boxes are pooled by the map that they are compared with; one of the heart has no zone."""
    said = prediction(masks_CHW=thorax_masks(80, 80), findings=(finding("Pneumonia"), finding("Cardiomegaly")))
    at = {"y0": 0.6, "y1": 0.7}
    boxes = [
        Region(label="Lung_Opacity", x0=0.25, x1=0.3, **at),
        Region(label="Pneumonia", x0=0.7, x1=0.75, **at),
        Region(label="Cardiomegaly", x0=0.5, x1=0.6, **at),
    ]
    found = zones_of(said, boxes)
    assert set(found) == {"Pneumonia"}
    assert {zone.site for zone in found["Pneumonia"].boxes} == {"left_lung", "right_lung"}
    assert zones_of(prediction(masks_CHW=thorax_masks(80, 80) & False), boxes) == {}


def test_figures_of_more_images_are_put_on_a_card(tmp_path: Path) -> None:
    """By the command that the page on training names; the card then vouches, and shows what for."""
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLED, bundle)
    rows = pointed(*[(LEFT, LEFT), (RIGHT, RIGHT)] * 20)
    done = {"bundles": [{"name": "fold"}], "split": "test", "images": {"evaluated": 40}, "date": "2026-11-28"}
    measured = tmp_path / "figures.json"
    measured.write_text(json.dumps(figures_of(rows) | done), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "cxr_triage.training.whereabouts", bundle, measured], check=True)
    card, before = read_card(bundle), read_card(BUNDLED)
    told = {label.name: label.whereabouts for label in card.labels}
    assert told["Pneumonia"] == Whereabouts(side=True)
    assert {name for name, whereabouts in told.items() if whereabouts != Whereabouts()} == {"Pneumonia"}
    assert set(card.figures["whereabouts"]) == set(EVIDENCE)
    assert card.figures["zones"] == before.figures["zones"]
