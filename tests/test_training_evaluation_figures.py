"""Figures of scored images, without a network: against numbers worked out by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import directed_hausdorff

from builders import prediction, thorax_masks, thorax_pixels
from cxr_triage.model.findings import Zone
from cxr_triage.model.measurements import cardiothoracic_ratio
from cxr_triage.model.prediction import Prediction, Refusal
from cxr_triage.training.data import MASK_BITS, NIH_LABELS, Region, outlines_contradict
from cxr_triage.training.evaluation.classification import classification, multi_label
from cxr_triage.training.evaluation.comparison import reference, selection
from cxr_triage.training.evaluation.figures import figures_of
from cxr_triage.training.evaluation.gate import gate
from cxr_triage.training.evaluation.location import location
from cxr_triage.training.evaluation.ratio import ratio
from cxr_triage.training.evaluation.saliency import MIN_BOXES, box_mask, localisation, localise, map_of
from cxr_triage.training.evaluation.scored import Localisation, Scored, Zones
from cxr_triage.training.evaluation.scoring import scored_of
from cxr_triage.training.evaluation.segmentation import COMPARED, overlaps, segmentation
from cxr_triage.training.evaluation.strata import strata
from cxr_triage.training.evaluation.tables import ratio_table, segmentation_table, tables
from evaluated import labelled, overlap, sample, scored


def masses(positives: list[float], negatives: list[float], **changes: Any) -> list[Scored]:
    """Give images with and without a mass, by their probability of one."""
    return [
        scored({"Mass": value}, labels=labelled(*present), **changes)
        for present, values in ((("Mass",), positives), ((), negatives))
        for value in values
    ]


def test_figures_of_a_label() -> None:
    """Three of four pairs in order; thresholds at 0.5."""
    figures = classification(masses([0.9, 0.4], [0.6, 0.2]))["labels"]["Mass"]
    assert (figures["positives"], figures["negatives"], figures["auc"]) == (2, 2, 0.75)
    assert (figures["sensitivity"], figures["specificity"]) == (0.5, 0.5)
    # Precision 1 at the first positive and 2/3 at the second (average precision).
    assert figures["auprc"] == pytest.approx((1 + 2 / 3) / 2)
    # Each of the four images has a bin of its own.
    assert figures["calibration_error"] == pytest.approx((0.1 + 0.6 + 0.6 + 0.2) / 4)


def test_figures_over_labels() -> None:
    """The macro AUC is of the labels that have both classes; any finding is what raises a study."""
    figures = classification(masses([0.9, 0.4], [0.6, 0.2]))
    assert (figures["macro_labels"], figures["macro_auc"]) == (["Mass"], 0.75)
    assert figures["any_finding"] == {"sensitivity": 0.5, "specificity": 0.5}
    assert (figures["abnormal_auc"], figures["abnormal_positives"]) == (0.75, 2)
    assert classification(masses([0.9], [0.1]), min_cases=2)["macro_auc"] is None


def test_each_image_is_judged_by_the_threshold_of_its_own_bundle() -> None:
    """As in a cross-validation."""
    thresholds = dict.fromkeys(NIH_LABELS, 0.3)
    rows = [*masses([0.4], []), *masses([0.4], [0.2], thresholds=thresholds)]
    assert classification(rows)["labels"]["Mass"]["sensitivity"] == 0.5


def test_sources_with_one_label_are_not_pooled() -> None:
    """They stand by themselves in the split by source."""
    rows = [*masses([0.9], [0.1]), scored({"Nodule": 0.9}, source="jsrt", labels={"Nodule": True, "no_finding": False})]
    assert [row.sample.source for row in multi_label(rows)] == ["nih", "nih"]
    assert {name: part["images"] for name, part in strata(rows)["source"].items()} == {"jsrt": 1, "nih": 2}


def test_strata_by_sex_age_and_view() -> None:
    """Minors apart, the unknown apart; labels with too few cases have no say."""
    rows = [
        *masses([0.9] * 5, [0.1] * 5, sex="F", age="17", view="AP"),
        *masses([0.9], [0.1], sex="M", age="18", view=""),
        *masses([0.9], [0.1], age="paediatric"),
        *masses([0.9], [0.1], age="80"),
        *masses([0.9], [0.1], age=""),
    ]
    figures = strata(rows)
    counts = {name: {part: each["images"] for part, each in parts.items()} for name, parts in figures.items()}
    assert counts["sex"] == {"F": 16, "M": 2}
    assert counts["age"] == {"minors": 12, "18-39": 2, "80+": 2, "unknown": 2}
    assert counts["view"] == {"AP": 10, "PA": 6, "unknown": 2}
    assert figures["view"]["AP"]["macro_labels"] == ["Mass"]
    assert (figures["sex"]["M"]["macro_labels"], figures["sex"]["M"]["abnormal_auc"]) == ([], None)


def test_identical_predictors_differ_by_nothing() -> None:
    """Paired: in every resample."""
    random = np.random.default_rng(1)
    rows = []
    for index in range(40):
        said = {label: float(random.uniform()) for label in NIH_LABELS}
        rows.append(scored(said, labels=labelled("Mass") if index % 2 else labelled(), reference=said))
    figures = reference(rows)
    assert figures["images"] == 40
    for row in (figures["macro"], figures["labels"]["Mass"]):
        assert (row["difference"], row["difference_interval"]) == (0.0, [0.0, 0.0])
        assert row["ours_interval"] == row["reference_interval"]


def test_pairing_narrows_the_interval_of_the_difference() -> None:
    """A reference that is ours without a little noise: what makes an image hard for both cancels out."""
    random = np.random.default_rng(2)
    rows = []
    for index in range(120):
        clean = float(random.normal()) + index % 2
        ours = clean + 0.3 * float(random.normal())
        labels = labelled("Mass") if index % 2 else labelled()
        rows.append(scored({"Mass": ours}, labels=labels, reference=dict.fromkeys(NIH_LABELS, 0.0) | {"Mass": clean}))
    figures = reference(rows)["macro"]
    assert figures["difference"] == pytest.approx(figures["ours"] - figures["reference"])
    widths = {key: np.diff(figures[f"{key}_interval"])[0] for key in ("ours", "reference", "difference")}
    assert widths["difference"] < 0.7 * min(widths["ours"], widths["reference"])


def test_no_reference_no_comparison() -> None:
    """A folder without reference predictions."""
    rows = masses([0.9] * 6, [0.1] * 6)
    assert reference(rows) == {"images": 0, "labels": {}, "macro": None}
    assert selection(rows) is None


def test_reference_that_lacks_a_label_is_not_compared_on_it() -> None:
    """Only where both said something."""
    both = ("Mass", "Nodule")
    rows = [
        scored(dict.fromkeys(both, value), labels=labelled(*present), reference={"Mass": value})
        for value, present in ((0.9, both), (0.1, ()))
        for _ in range(6)
    ]
    assert list(reference(rows)["labels"]) == ["Mass"]


def shortcut_rows(by_source: float, by_disease: float) -> list[Scored]:
    """Give two selections, one mostly with masses, one mostly without, and a network that looks at either."""
    random = np.random.default_rng(3)
    rows = []
    for inside, positives, negatives in ((False, 40, 10), (True, 10, 40)):
        for present in (1,) * positives + (0,) * negatives:
            value = by_source * (not inside) + by_disease * present + float(random.normal(0, 0.1))
            labels = labelled("Mass") if present else labelled()
            said = dict.fromkeys(NIH_LABELS, 0.5) if inside else None
            rows.append(scored({"Mass": value}, labels=labels, reference=said))
    return rows


def test_network_that_tells_the_selections_apart_is_found_out() -> None:
    """Good on both together, chance within each, and its probability tells the selection of normal images."""
    figures = selection(shortcut_rows(by_source=1, by_disease=0))
    assert figures is not None
    assert figures["together"]["macro_auc"] == pytest.approx(0.8, abs=0.05)
    for part in ("with_reference", "without_reference"):
        assert figures[part]["macro_auc"] == pytest.approx(0.5, abs=0.15)
    assert figures["drop_interval"][0] > 0.1
    assert figures["among_normal"]["images"] == 50
    assert figures["among_normal"]["labels"]["Mass"]["auc"] == 0.0


def test_honest_network_loses_nothing_within_a_selection() -> None:
    """It sees the disease, wherever the image comes from."""
    figures = selection(shortcut_rows(by_source=0, by_disease=0.2))
    assert figures is not None
    low, high = figures["drop_interval"]
    assert low < 0 < high
    assert figures["among_normal"]["labels"]["Mass"]["auc"] == pytest.approx(0.5, abs=0.2)


def square(top: int, left: int, side: int, grid: int = 512) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Draw a square."""
    mask = np.zeros((grid, grid), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_overlap_of_shifted_squares() -> None:
    """100 pixels square, shifted by 20: four fifths are shared, and the far edge is 20 pixels away."""
    truth = np.stack([square(50, 50, 100), square(50, 300, 100), square(300, 200, 100)])
    own = np.stack([square(50, 70, 100), square(50, 300, 100), square(300, 200, 100)])
    found = overlaps(own, truth, field_mm=512 * 0.7)
    assert found["left_lung"].dice == pytest.approx(0.8)
    assert found["left_lung"].iou == pytest.approx(80 / 120)
    assert found["left_lung"].hd95_px == 20.0
    assert found["left_lung"].hd95_mm == pytest.approx(14.0)
    assert (found["heart"].dice, found["heart"].hd95_px) == (1.0, 0.0)
    assert found["lungs"].dice == pytest.approx(0.9)


def test_hausdorff_distance_forgives_a_speck() -> None:
    """The maximum would be the speck's 200 pixels (SciPy), the 95th percentile is not."""
    truth = np.stack([square(50, 50, 100)] * 3)
    own = truth.copy()
    own[:, 100, 350] = True
    whole = directed_hausdorff(np.argwhere(own[0]), np.argwhere(truth[0]))[0]
    assert whole == 201.0
    assert overlaps(own, truth, None)["heart"].hd95_px == 0.0


def test_no_distance_to_an_empty_mask() -> None:
    """Counted instead; the truth may have another size."""
    truth = np.stack([square(8, 8, 16, grid=64)] * 3)
    found = overlaps(np.zeros((3, 512, 512), dtype=bool), truth, field_mm=350.0)["heart"]
    assert (found.dice, found.hd95_px, found.hd95_mm) == (0.0, None, None)
    figures = segmentation([scored(overlap=dict.fromkeys(("left_lung", "right_lung", "heart", "lungs"), found))])
    assert figures["heart"]["without_distance"] == 1
    assert figures["heart"]["hd95_px"] is None


def test_segmentation_names_the_worst_case() -> None:
    """Mean, median and worst, of all and by source."""
    names = ("left_lung", "right_lung", "heart", "lungs")
    rows = [
        scored(id=f"case{value}", source=source, overlap={name: overlap(value, hd95_px=10 - value) for name in names})
        for source, value in (("jsrt", 0.9), ("jsrt", 0.8), ("wingspan", 0.4))
    ]
    figures = segmentation([*rows, scored()])
    assert figures["images"] == 3
    assert figures["heart"]["dice"] == pytest.approx({"mean": 0.7, "median": 0.8, "worst": 0.4})
    assert figures["heart"]["hd95_px"]["worst"] == pytest.approx(9.6)
    assert figures["heart"]["worst_id"] == "case0.4"
    assert figures["by_source"]["jsrt"]["lungs"]["worst_id"] == "case0.8"
    assert figures["heart"]["hd95_mm"] is None


def test_outlines_that_contradict_one_another_are_told_apart() -> None:
    """They stay in the figures of all images; beside them stand those that they have no part in."""
    rows = [
        scored(id="good", overlap={name: overlap(0.9, hd95_px=1) for name in COMPARED}),
        scored(id="bad", overlap={name: overlap(0.5, hd95_px=9) for name in COMPARED}, contradictory=True),
    ]
    figures = segmentation(rows)
    assert figures["lungs"]["dice"]["mean"] == pytest.approx(0.7)
    assert figures["consistent"]["lungs"]["dice"]["mean"] == pytest.approx(0.9)
    assert (figures["consistent"]["images"], figures["contradictory"]) == (1, 1)
    shown = [row[0] for row in segmentation_table(figures).rows]
    assert "true outlines without contradiction (1)" in shown
    alone = segmentation_table(segmentation(rows[:1]))
    assert not any("contradiction" in row[0] for row in alone.rows)


@pytest.mark.parametrize(("columns", "contradict"), [(2, False), (8, True)])
def test_a_lung_over_the_heart_contradicts(columns: int, contradict: bool) -> None:
    """A border's width is how people draw; a third of the heart is a lung that was not outlined beside it."""
    masks = np.zeros((3, 64, 64), dtype=bool)
    masks[2, 20:50, 20:44] = True
    masks[1, 10:50, 2:20] = True
    masks[0, 10:50, 44 - columns : 60] = True
    assert outlines_contradict(masks) is contradict


@pytest.mark.parametrize(
    ("order", "contradict"),
    [((0, 1, 2), False), ((2, 1, 0), True), ((0, 2, 1), True), ((1, 0, 2), True)],
    ids=["as they are", "left lung and heart", "right lung and heart", "the lungs"],
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_one_outline_for_another_contradicts(order: tuple[int, ...], contradict: bool, mirrored: bool) -> None:
    """The heart lies between the lungs on whichever side it is; the left lung is on the image's right."""
    masks = np.zeros((3, 64, 64), dtype=bool)
    masks[2, 30:50, 18:38] = True
    masks[1, 10:50, 2:18] = True
    masks[0, 10:50, 44:60] = True
    if mirrored:
        masks = masks[[1, 0, 2], :, ::-1]
    assert outlines_contradict(masks[list(order)]) is contradict


def test_a_heart_that_was_not_outlined_contradicts_nothing() -> None:
    """Nor does a lung: they are somewhere."""
    masks = np.zeros((3, 64, 64), dtype=bool)
    masks[1, 10:50, 2:18] = True
    assert not outlines_contradict(masks)


def test_ratio_agreement() -> None:
    """Errors of -0.04 and +0.02; one image without outline, one without a true ratio."""
    rows = [
        scored(id="low", ctr=0.46, true_ctr=0.5),
        scored(ctr=0.52, true_ctr=0.5),
        scored(ctr=None, true_ctr=0.5),
        scored(ctr=0.9),
    ]
    figures = ratio(rows)
    assert (figures["images"], figures["without_outline"], figures["worst_id"]) == (2, 1, "low")
    assert figures["mae"] == pytest.approx(0.03)
    assert figures["bias"] == pytest.approx(-0.01)
    deviation = 0.03 * math.sqrt(2)
    assert figures["limits_of_agreement"] == pytest.approx([-0.01 - 1.96 * deviation, -0.01 + 1.96 * deviation])
    assert figures["worst_error"] == pytest.approx(-0.04)
    nothing = {"images": 0, "without_outline": 1, "mae": None}
    assert ratio(rows[2:]) == nothing | {"consistent": nothing, "contradictory": 0, "by_source": {"nih": nothing}}


@pytest.mark.parametrize("published", [None, 0.4])
def test_true_ratio_is_the_published_one_or_that_of_the_outlines(tmp_path: Path, published: float | None) -> None:
    """JSRT's outlines come without a ratio, most of the Wingspan set's with one."""
    masks = thorax_masks()
    Image.fromarray(np.tensordot(MASK_BITS, masks, axes=1).astype(np.uint8)).save(tmp_path / "mask.png")
    Image.fromarray(thorax_pixels() // 16).convert("L").save(tmp_path / "image.png")
    truth = sample(image=tmp_path / "image.png", mask=tmp_path / "mask.png", ctr=published)
    row = scored_of(truth, prediction(masks_CHW=masks), seen=False)
    assert row.true_ctr == (cardiothoracic_ratio(masks) if published is None else published)
    assert row.overlap["heart"].dice == 1


def test_ratio_agreement_by_source_and_without_contradiction() -> None:
    """As the outlines that it is measured on."""
    jsrt = [scored(source="jsrt", ctr=0.5, true_ctr=true) for true in (0.49, 0.47)]
    bad = scored(source="wingspan", ctr=0.5, true_ctr=0.9, contradictory=True)
    figures = ratio([*jsrt, bad, scored(source="wingspan", ctr=0.5, true_ctr=0.5)])
    assert figures["mae"] == pytest.approx(0.11)
    assert (figures["consistent"]["images"], figures["contradictory"]) == (3, 1)
    assert figures["consistent"]["mae"] == pytest.approx(0.04 / 3)
    assert figures["by_source"]["jsrt"]["mae"] == pytest.approx(0.02)
    shown = [row[0] for row in ratio_table(figures).rows]
    assert shown == ["all (4)", "true outlines without contradiction (3)", "jsrt (2)", "wingspan (2)"]


def test_gate_counts_adults_and_minors_apart() -> None:
    """And those of unknown age: the false rejection rate is that of known adults."""
    refusal = Refusal(reason="lungs_implausible", explanation="")
    rows = [
        *(scored(age="30") for _ in range(3)),
        scored(age="30", refusal=refusal),
        scored(age="3", refusal=Refusal(reason="paediatric", explanation="")),
        scored(age=""),
    ]
    figures = gate(rows)
    assert figures["adults"]["refused"] == {"lungs_implausible": 1}
    assert figures["adults"]["rate"] == 0.25
    assert figures["minors"]["refused"] == {"paediatric": 1}
    assert {group: row["images"] for group, row in figures.items()} == {"adults": 4, "minors": 1, "unknown": 1}


def test_location_is_compared_with_the_boxes() -> None:
    """A box on the image's left is the patient's right."""
    right = (Region(label="Mass", x0=0.2, y0=0.2, x1=0.3, y1=0.3),)
    left = (Region(label="Mass", x0=0.7, y0=0.2, x1=0.8, y1=0.3),)
    said = dict.fromkeys(scored().locations, 0.5)
    rows = [scored(regions=right, locations=said | {"right": 0.9}), scored(regions=left, locations=said), scored()]
    figures = location(rows)
    assert figures["images"] == 2
    assert figures["labels"]["right"]["auc"] == 1.0
    assert figures["labels"]["left"]["auc"] == 0.5
    assert figures["labels"]["diffuse"]["auc"] is None
    assert figures["macro_auc"] == 0.75


def pointed(row: int, column: int) -> Prediction:
    """Predict a pneumothorax whose map has one hot cell of 8 x 8; the image of 80 x 60 was padded to a square."""
    saliency = np.zeros((2, 8, 8), dtype=np.uint8)
    saliency[0, row, column] = 255
    masks = np.zeros((3, 80, 60), dtype=bool)
    masks[0, 10:60, 30:50] = masks[1, 10:60, 10:25] = True
    return prediction(saliency_LHW=saliency, saliency_frame=(0.0, -10.0, 80.0, 80.0), masks_CHW=masks)


def test_map_lies_where_its_frame_says() -> None:
    """Cell (2, 4) of a frame that begins 10 pixels left of the image: rows 20 to 30, columns 30 to 40."""
    hot = map_of(pointed(2, 4), "Pneumothorax")
    assert hot.shape == (80, 60)
    row, column = np.unravel_index(hot.argmax(), hot.shape)
    assert 20 <= row < 30
    assert 30 <= column < 40


def test_localisation_of_one_image() -> None:
    """A box around the hot cell is hit; one beside it is not. A box of a label that is not reported has no map."""
    around = Region(label="Pneumothorax", x0=0.5, y0=0.25, x1=2 / 3, y1=0.375)
    beside = Region(label="Effusion", x0=0.0, y0=0.0, x1=0.5, y1=0.5)
    found = localise(pointed(2, 4), [around, beside, Region(label="Hernia", x0=0, y0=0, x1=1, y1=1)])
    assert set(found) == {"Pneumothorax", "Effusion"}
    hit = found["Pneumothorax"]
    assert (hit.boxes, hit.pointing) == (1, True)
    assert max(hit.ious) > 0.5
    assert hit.image_share == pytest.approx(100 / 4800)
    # The lungs' box is 50 x 40 pixels and holds the whole of the drawn one.
    assert hit.lung_box_share == pytest.approx(100 / 2000)
    empty = found["Effusion"]
    assert (empty.pointing, max(empty.ious)) == (None, 0.0)
    # Lungs of 50 x 20 and 50 x 15 pixels, and a box of 40 x 30 that holds 30 x 15 of the right one.
    assert empty.lungs_iou == pytest.approx(450 / (1000 + 750 + 1200 - 450))


def test_boxes_on_the_images_edge_stay_in_it() -> None:
    """And the smallest box covers a pixel."""
    covered = box_mask(
        [Region(label="Mass", x0=0.9, y0=0.9, x1=1.0, y1=1.0), Region(label="Mass", x0=0.0, y0=0.0, x1=0.01, y1=0.01)],
        (10, 10),
    )
    assert np.argwhere(covered).tolist() == [[0, 0], [9, 9]]


def test_localisation_figures_take_the_best_threshold_of_all_images() -> None:
    """One for all, not one for each; labels with few boxes are left out."""
    ious = ((0.1, 0.6), (0.5, 0.2))
    each = [
        Localisation(
            boxes=MIN_BOXES // 2,
            pointing=pointing,
            ious=(*pair, *(0.0,) * 17),
            image_share=0.1,
            lung_box_share=share,
            lungs_iou=0.3,
        )
        for pair, pointing, share in zip(ious, (True, None), (0.2, None), strict=True)
    ]
    rows = [scored(localisation={"Mass": found}) for found in each]
    rows.append(scored(localisation={"Nodule": each[0]}))
    figures = localisation(rows)
    assert set(figures) == {"Mass"}
    mass = figures["Mass"]
    assert (mass["boxes"], mass["images"], mass["without_map"], mass["pointing"]) == (20, 2, 1, 0.5)
    assert (mass["iou"], mass["iou_threshold"]) == (pytest.approx(0.4), 0.1)
    assert mass["gain"] == pytest.approx(0.1)
    assert (mass["chance_lung_box"], mass["chance_image"]) == (0.2, pytest.approx(0.1))


def test_figures_of_nothing_are_empty_not_an_error() -> None:
    """A folder of masks only has no labels, one of labels only no masks."""
    figures = figures_of([scored(overlap={}), scored()])
    nothing = {"images": 0, "consistent": {"images": 0}, "contradictory": 0, "by_source": {}}
    assert figures["segmentation"] == nothing
    assert figures["classification"]["macro_auc"] is None
    assert [table.name for table in tables(figures)] == ["gate"]


def test_every_row_has_as_many_cells_as_its_head() -> None:
    """In every table."""
    names = ("left_lung", "right_lung", "heart", "lungs")
    box = (Region(label="Mass", x0=0.2, y0=0.2, x1=0.3, y1=0.3),)
    local = Localisation(boxes=20, pointing=True, ious=(0.1,) * 19, image_share=0.1, lung_box_share=0.1, lungs_iou=0.1)
    zones = {"Mass": Zones(boxes=frozenset({Zone("left_lung", "upper")}), told=Zone("left_lung", "lower"))}
    common = {"overlap": dict.fromkeys(names, overlap(0.9)), "ctr": 0.5, "true_ctr": 0.4, "regions": box}
    said = dict.fromkeys(NIH_LABELS, 0.3)
    rows = [
        *masses([0.9] * 10, [0.1] * 10, localisation={"Mass": local}, zones=zones, **common),
        *masses([0.9] * 6, [0.1] * 6, reference=said),
    ]
    figures = figures_of(rows)
    evidence = {"images": {"evaluated": 32}, "bundles": [{}], **figures}
    made = tables(figures | {"whereabouts": evidence})
    assert [table.name for table in made] == [
        *("labels", "strata", "selection", "reference", "segmentation", "ratio", "location", "localisation", "zones"),
        *("whereabouts_localisation", "whereabouts_zones", "gate"),
    ]
    for table in made:
        assert {len(row) for row in table.rows} == {len(table.head)}, table.name
