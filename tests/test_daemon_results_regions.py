"""Where findings lie, as the objects say it: in words, codes, lines and boxes."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

import builders
import displays
import results
from cxr_triage.daemon.results.drawing import FINDINGS, drawing_of
from cxr_triage.daemon.results.meanings import MEANINGS
from cxr_triage.daemon.results.objects import BuiltObject, build_objects
from cxr_triage.daemon.results.outlines import Points
from cxr_triage.daemon.results.profiles import AIR, OHIF, PROFILES
from cxr_triage.daemon.results.regions import regions, zone_in_words
from cxr_triage.daemon.results.uids import finding_uid
from cxr_triage.model.findings import ABNORMALITIES, SITES, Finding, Zone
from cxr_triage.storage.image_records import StoredPrediction
from cxr_triage.storage.result_records import ObjectKind

ROWS, COLUMNS = 96, 80
LEFT = Zone("left_lung", "upper")


def found(label: str, zone: Zone | None = None, probability: float = 0.9) -> Finding:
    """Give a finding that lies somewhere."""
    return dataclasses.replace(builders.finding(label, probability), zone=zone)


def spot(top: int = 20, left: int = 50) -> NDArray[np.bool_]:
    """Give a region of 10 x 12 pixels."""
    region = np.zeros((ROWS, COLUMNS), dtype=bool)
    region[top : top + 10, left : left + 12] = True
    return region


def located(header: Dataset, *findings: Finding, **regions_: NDArray[np.bool_]) -> StoredPrediction:
    """Give the prediction of a radiograph, with these findings and regions."""
    return results.stored(header, findings=findings, regions=regions_)


def built(stored: StoredPrediction, header: Dataset, profile: str) -> list[BuiltObject]:
    """Give all objects of a profile."""
    return build_objects(results.revision(), [stored], results.sources(header), PROFILES[profile])


def report(profile: str, *findings: Finding, **regions_: NDArray[np.bool_]) -> Dataset:
    """Give the SR of a radiograph with these findings and regions."""
    header = results.source(rows=ROWS, columns=COLUMNS)
    made = built(located(header, *findings, **regions_), header, profile)
    return results.written(results.of_kind(made, ObjectKind.SR))


def groups(sr: Dataset) -> dict[str, list[Dataset]]:
    """Contents of each measurement group, by tracking identifier."""
    (measurements,) = [item for item in sr.ContentSequence if _name(item) == "Imaging Measurements"]
    return {
        _texts(group, "Tracking Identifier")[0]: list(group.ContentSequence) for group in measurements.ContentSequence
    }


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning) if "ConceptNameCodeSequence" in item else ""


def _texts(item: Dataset, name: str) -> list[str]:
    return [child.TextValue for child in item.ContentSequence if _name(child) == name]


def _lines(items: list[Dataset]) -> list[Points]:
    return [np.array(item.GraphicData).reshape(-1, 2) for item in items if item.ValueType == "SCOORD"]


def test_a_finding_site_is_coded() -> None:
    """Lung and third; what is not told has none."""
    said = groups(report("air", found("Pneumonia", LEFT), found("Mass", Zone("right_lung")), found("Edema")))
    codes = {}
    for name, items in said.items():
        for item in items:
            if _name(item) == "Finding Site":
                third = [child.ConceptCodeSequence[0].CodeValue for child in item.get("ContentSequence", ())]
                codes[name] = (item.ConceptCodeSequence[0].CodeValue, third)
    assert codes["Pneumonia 0.90, Left lung, upper, image 1"] == ("44029006", ["261183002"])
    assert codes["Mass 0.90, Right lung, image 1"] == ("3341006", [])
    assert "Edema 0.90, image 1" in said
    assert "Edema 0.90, image 1" not in codes


@pytest.mark.parametrize("profile", ["air", "ohif", "stone", "weasis"])
def test_an_outline_is_a_region_of_the_report(profile: str) -> None:
    """A closed line around the pixels of the region, in every profile with measurements."""
    said = groups(report(profile, found("Pneumonia", LEFT), Pneumonia=spot()))
    (items,) = [items for name, items in said.items() if name.startswith("Pneumonia")]
    (line,) = _lines(items)
    assert (line.min(axis=0).tolist(), line.max(axis=0).tolist()) == ([50, 20], [62, 30])
    assert line[0].tolist() == line[-1].tolist()


def test_without_an_outline_air_says_no_place() -> None:
    """A box around the lungs would be more than is known."""
    said = groups(report("air", found("Pneumonia", LEFT)))
    assert _lines(said["Pneumonia 0.90, Left lung, upper, image 1"]) == []


def test_a_box_is_around_the_zone() -> None:
    """For a viewer that must have a line: the upper third of the left lung, the heart, or all that was outlined."""
    header = results.source(rows=ROWS, columns=COLUMNS)
    findings = [found("Pneumonia", LEFT), found("Cardiomegaly", Zone("heart")), found("Mass")]
    stored = located(header, *findings)
    left, right, heart = stored.prediction.masks_CHW
    boxes = [_mask(box) for box in regions(stored, findings, OHIF) if box is not None]
    third = (np.flatnonzero((left | right).any(axis=1))[-1] + 1 - np.flatnonzero((left | right).any(axis=1))[0]) / 3
    assert (left & boxes[0]).sum() > 0
    assert not (right & boxes[0]).any()
    assert abs(boxes[0].any(axis=1).sum() - third) <= 2
    assert (heart <= boxes[1]).all()
    assert ((left | right | heart) <= boxes[2]).all()
    assert boxes[1].sum() < boxes[2].sum()


def _mask(box_N2: Points) -> NDArray[np.bool_]:
    (left, top), (right, bottom) = box_N2.min(axis=0).astype(int), np.ceil(box_N2.max(axis=0)).astype(int)
    mask = np.zeros((ROWS, COLUMNS), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def test_boxes_of_the_same_place_have_middles_of_different_heights() -> None:
    """A viewer writes beside the middle: all words at one place could not be read. No box leaves the image."""
    header = results.source(rows=ROWS, columns=COLUMNS)
    findings = [found(abnormality.name) for abnormality in ABNORMALITIES[:4]]
    boxes = [box for box in regions(located(header, *findings), findings, OHIF) if box is not None]
    middles = sorted((box[:, 1].min() + box[:, 1].max()) / 2 for box in boxes)
    assert np.diff(middles).min() >= 0.02 * ROWS
    anywhere = located(header).prediction.masks_CHW.any(axis=0)
    assert all((anywhere <= _mask(box)).all() for box in boxes)
    many = [found(abnormality.name) for abnormality in ABNORMALITIES]
    drawn = np.concatenate([box for box in regions(located(header, *many), many, OHIF) if box is not None])
    assert (drawn.min() >= 0, drawn[:, 0].max() <= COLUMNS, drawn[:, 1].max() <= ROWS) == (True, True, True)


def test_words_keep_away_from_those_of_structures_and_outlines() -> None:
    """Beside a lung's box stand the lung's own numbers, beside an outline its finding's: the box is made higher."""
    header = results.source(rows=ROWS, columns=COLUMNS)
    findings = [found("Mass"), found("Pneumonia", Zone("left_lung")), found("Edema")]
    stored = located(header, *findings, Mass=spot(top=40))
    left_lung = stored.prediction.masks_CHW[0]
    lines = [line for line in regions(stored, findings, OHIF) if line is not None]
    heights = [(line[:, 1].min() + line[:, 1].max()) / 2 for line in lines]
    assert heights[0] == 45.0
    assert min(abs(height - 45.0) for height in heights[1:]) >= 0.0225 * ROWS
    middle = np.flatnonzero(left_lung.any(axis=1))[[0, -1]].mean() + 0.5
    assert abs(heights[1] - middle) >= 0.0225 * ROWS - 0.5
    # OHIF 3.12 takes the middle of the first two points, 3.13 that of all.
    assert all(line[:2, 1].mean() == height for line, height in zip(lines[1:], heights[1:], strict=True))
    assert all((line[:2, 0] == line[:, 0].max()).all() for line in lines[1:])


def test_ohif_calls_each_number_by_its_finding() -> None:
    """Its code is that of any probability; what is below threshold stands in a sentence alone."""
    sr = report("ohif", found("Pneumonia", LEFT), found("Mass"), found("Nodule", probability=0.1))
    named = {}
    for name, items in groups(sr).items():
        for item in items:
            if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeValue == "122157":
                named[name] = _name(item)
    assert named == {
        "Pneumonia 0.90, Left lung, upper, image 1": "Pneumonia (Left lung, upper), probability",
        "Mass 0.90, image 1": "Lung mass, probability",
    }
    assert "Image 1: below threshold, absence is not stated: Nodule 0.10 (threshold 0.50)." in _texts(sr, "Comment")
    assert not any("below threshold" in text for text in _texts(report("air", found("Mass", None, 0.1)), "Comment"))


@pytest.mark.parametrize("language", MEANINGS)
def test_no_name_of_a_number_is_too_long(language: str) -> None:
    """At most 64 characters (PS3.5 6.2, LO): a zone that does not fit is left to the finding site."""
    header = results.source(rows=ROWS, columns=COLUMNS, SpecificCharacterSet="ISO_IR 192")
    profile = dataclasses.replace(OHIF, meanings=MEANINGS[language] | {"SCT:309529002": "x" * 64})
    zones = [Zone(site, "middle") for site in SITES]
    findings = [found(each.name, zones[place % len(zones)]) for place, each in enumerate(ABNORMALITIES)]
    made = build_objects(results.revision(), [located(header, *findings)], results.sources(header), profile)
    items = [item for each in groups(results.of_kind(made, ObjectKind.SR)).values() for item in each]
    names = [_name(item) for item in items if item.ValueType == "NUM"]
    assert max(len(name) for name in names) <= 64
    assert "Probability" in names
    assert sum(name.endswith(", probability") for name in names) == len(ABNORMALITIES) - 1


def test_outlines_are_drawn_under_the_report_s_tracking_uid() -> None:
    """On a layer of their own, so that a reader can switch them off."""
    header = results.source(rows=ROWS, columns=COLUMNS)
    stored = located(header, found("Pneumonia", LEFT), Pneumonia=spot())
    lines = [line for line in drawing_of(stored, AIR).lines if line.layer == FINDINGS]
    assert [(line.name, line.tracking_uid) for line in lines] == [("Pneumonia", finding_uid(stored, "Pneumonia"))]
    sr = results.of_kind(built(stored, header, "air"), ObjectKind.SR)
    assert finding_uid(stored, "Pneumonia") in str(sr)
    assert "Pneumonia 0.90 (threshold 0.50), Left lung, upper" in drawing_of(stored, AIR).notes


def test_sentences_say_where() -> None:
    """Where there are no codes."""
    sr = report("floor", found("Pneumonia", LEFT), found("Mass"))
    (section,) = [item for item in sr.ContentSequence if _name(item) == "Findings"]
    assert _texts(section, "Finding") == [
        "Pneumonia: probability 0.90, threshold 0.50: present, Left lung, upper",
        "Lung mass: probability 0.90, threshold 0.50: present",
    ]


def test_zones_are_told_in_the_profile_s_language() -> None:
    """Both words of it."""
    assert zone_in_words(LEFT, dataclasses.replace(AIR, meanings=MEANINGS["de"])) == "Linke Lunge, oben"
    assert zone_in_words(Zone("heart"), AIR) == "Heart"


SOURCES: dict[str, dict[str, Any]] = {
    "DX": {},
    "CR without spacing": {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1",
        "Modality": "CR",
        "ImagerPixelSpacing": None,
    },
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("source", SOURCES)
def test_validators_accept_what_lies_somewhere(tmp_path: Path, profile: str, source: str) -> None:
    """Zones, outlines and boxes: dciodvfy has no error, DCMTK and dcmqi read them."""
    header = results.source(rows=ROWS, columns=COLUMNS, **SOURCES[source])
    stored = located(
        header, found("Pneumonia", LEFT), found("Cardiomegaly", Zone("heart")), found("Mass"), Pneumonia=spot()
    )
    for each in built(stored, header, profile):
        assert results.errors(each.dataset, tmp_path) == [], each.kind
        if each.kind is ObjectKind.SR:
            assert "Pneumonia" in results.dump(each.dataset, tmp_path)
            if profile != "floor":
                values = displays.dcmqi_numbers(each.dataset, tmp_path)
                assert {name for name, code, _ in values if code == "122157"} >= {"Mass 0.90, image 1"}
