"""Whether a viewer draws an object: each rule fails where it should and nowhere else, and dcmqi agrees."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

import displays
import results
from cxr_triage.daemon.display.command import VIEWERS, explain
from cxr_triage.daemon.display.rules import Verdict, judge


class Break(NamedTuple):
    """One change to an object, and the one rule that then fails."""

    viewer: str
    rule: str
    make: Callable[[], Dataset]
    change: Callable[[Dataset], Any]


def _failed(verdict: Verdict) -> list[str]:
    return [finding.rule for finding in verdict.findings if not finding.ok]


def _judged(viewer: str, dataset: Dataset) -> Verdict:
    return judge(VIEWERS[viewer], dataset)


def _delete(*keywords: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword in keywords:
            delattr(dataset, keyword)

    return change


def _set(keyword: str, value: Any) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, keyword, value)


def _in(find: Callable[[Dataset], Dataset], change: Callable[[Dataset], Any]) -> Callable[[Dataset], Any]:
    return lambda dataset: change(find(dataset))


def _item(sequence: Any, number: int = 0) -> Dataset:
    found: Dataset = sequence[number]
    return found


def _shared(dataset: Dataset) -> Dataset:
    return _item(dataset.SharedFunctionalGroupsSequence)


def _frame(number: int) -> Callable[[Dataset], Dataset]:
    return lambda dataset: _item(dataset.PerFrameFunctionalGroupsSequence, number)


def _orientation(dataset: Dataset) -> Dataset:
    return _item(_shared(dataset).PlaneOrientationSequence)


def _measures(dataset: Dataset) -> Dataset:
    return _item(_shared(dataset).PixelMeasuresSequence)


def _series(dataset: Dataset) -> Dataset:
    return _item(dataset.ReferencedSeriesSequence)


def _source(dataset: Dataset) -> Dataset:
    return _item(_frame(1)(dataset).DerivationImageSequence[0].SourceImageSequence)


def _group(dataset: Dataset) -> Dataset:
    return displays.groups(dataset)[1]


def _region(dataset: Dataset) -> Dataset:
    return displays.regions(dataset)[1]


def _region_image(dataset: Dataset) -> Dataset:
    return _item(_region(dataset).ContentSequence)


def _without(value_type: str, concept: str = "") -> Callable[[Dataset], None]:
    return lambda item: displays.drop(
        item,
        lambda child: child.ValueType == value_type and concept in {"", child.ConceptNameCodeSequence[0].CodeValue},
    )


def _number(group: Dataset) -> Dataset:
    numbers: list[Dataset] = [item for item in group.ContentSequence if item.ValueType == "NUM"]
    return numbers[0]


def _unshare(dataset: Dataset) -> None:
    """Say of each frame what all share, and then nothing of all."""
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.PlaneOrientationSequence = copy.deepcopy(_shared(dataset).PlaneOrientationSequence)
    del dataset.SharedFunctionalGroupsSequence


def _fractional(dataset: Dataset) -> None:
    dataset.SegmentationType, dataset.MaximumFractionalValue = "FRACTIONAL", 255
    dataset.PixelData = bytes(range(256))


def _compress(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = RLELossless


def _share_tracking(dataset: Dataset) -> None:
    first, second, *_ = displays.groups(dataset)
    second.ContentSequence[1].UID = first.ContentSequence[1].UID


def _put_region_below_number(dataset: Dataset) -> None:
    _number(_group(dataset)).ContentSequence = Sequence([copy.deepcopy(_region(dataset))])


def _list_twice(dataset: Dataset) -> None:
    series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    series.ReferencedSOPSequence.append(copy.deepcopy(series.ReferencedSOPSequence[0]))


def _rename_groups(dataset: Dataset) -> None:
    for group in displays.groups(dataset):
        group.ConceptNameCodeSequence = displays.named("125008")


def _annotation(state: Dataset) -> Dataset:
    return _item(state.GraphicAnnotationSequence)


def _graphic(state: Dataset) -> Dataset:
    return _item(_annotation(state).GraphicObjectSequence)


def _words(state: Dataset) -> Dataset:
    return _item(_annotation(state).TextObjectSequence)


def _nothing(_dataset: Dataset) -> None:
    pass


_NAME, _ID = "ConceptNameCodeSequence", "SegmentIdentificationSequence"


OHIF = [
    Break("ohif", "seg-referenced-series", displays.seg, _delete("ReferencedSeriesSequence")),
    Break("ohif", "seg-referenced-instances", displays.seg, _in(_series, _delete("ReferencedInstanceSequence"))),
    Break("ohif", "seg-frames", displays.seg, _delete("PerFrameFunctionalGroupsSequence")),
    Break("ohif", "seg-shared-groups", displays.seg, _unshare),
    Break("ohif", "seg-plane-orientation", displays.seg, _in(_shared, _delete("PlaneOrientationSequence"))),
    Break(
        "ohif", "seg-in-plane", displays.seg, _in(_orientation, _set("ImageOrientationPatient", [1, 0, 0, 0, 0, -1]))
    ),
    Break("ohif", "seg-type", displays.seg, _fractional),
    Break("ohif", "seg-segment-number", displays.seg, _in(_frame(1), _delete(_ID))),
    Break("ohif", "seg-source-image", displays.seg, _in(_frame(2), _delete("DerivationImageSequence"))),
    Break("ohif", "seg-uncompressed", displays.seg, _compress),
    Break("ohif", "sr-names", displays.sr, lambda report: _delete(_NAME)(_number(_group(report)))),
    Break("ohif", "sr-groups", displays.sr, _rename_groups),
    Break("ohif", "sr-tracking-uid", displays.sr, _in(_group, _without("UIDREF"))),
    Break("ohif", "sr-tracking-identifier", displays.sr, _in(_group, _without("TEXT", "112039"))),
    Break("ohif", "sr-coordinates", displays.sr, _in(_group, _without("SCOORD"))),
    Break("ohif", "sr-tracking-apart", displays.sr, _share_tracking),
    Break("ohif", "sr-one-region", displays.sr, lambda report: _group(report).ContentSequence.append(_region(report))),
    Break("ohif", "sr-graphic-type", displays.sr, _in(_region, _set("GraphicType", "POLYGON"))),
    Break("ohif", "sr-image", displays.sr, _in(_region, _delete("ContentSequence"))),
    Break("ohif", "sr-content", displays.text_sr, _delete("ContentSequence")),
    Break("ohif", "image-pixels", displays.secondary_capture, _delete("PixelData")),
    Break("ohif", "image-voi-function", displays.secondary_capture, _set("VOILUTFunction", "LINEAR")),
]


STONE = [
    Break("stone", "sr-class", displays.comprehensive_sr, _set("SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.34")),
    Break("stone", "sr-modality", displays.comprehensive_sr, _set("Modality", "OT")),
    Break("stone", "sr-title", displays.comprehensive_sr, _set(_NAME, displays.named("126001"))),
    Break(
        "stone",
        "sr-template",
        displays.comprehensive_sr,
        _in(lambda report: report.ContentTemplateSequence[0], _set("TemplateIdentifier", "2000")),
    ),
    Break("stone", "sr-evidence", displays.comprehensive_sr, _delete("CurrentRequestedProcedureEvidenceSequence")),
    Break("stone", "sr-evidence-once", displays.comprehensive_sr, _list_twice),
    Break("stone", "sr-groups", displays.comprehensive_sr, _rename_groups),
    Break("stone", "sr-group-template", displays.comprehensive_sr, _in(_group, _delete("ContentTemplateSequence"))),
    Break("stone", "sr-region-place", displays.comprehensive_sr, _put_region_below_number),
    Break("stone", "sr-region", displays.comprehensive_sr, _in(_region, _set(_NAME, displays.named("111031")))),
    Break("stone", "sr-region-type", displays.comprehensive_sr, _in(_region, _set("GraphicType", "CIRCLE"))),
    Break(
        "stone",
        "sr-region-source",
        displays.comprehensive_sr,
        _in(_region_image, _set(_NAME, displays.named("121324"))),
    ),
    Break(
        "stone",
        "sr-region-known",
        displays.comprehensive_sr,
        lambda report: _set("ReferencedSOPInstanceUID", "1.2.3")(_region_image(report).ReferencedSOPSequence[0]),
    ),
    Break("stone", "sr-modality", displays.text_sr, _set("Modality", "OT")),
    Break("stone", "sr-content", displays.text_sr, _delete("ContentSequence")),
    Break("stone", "image-pixels", displays.radiograph, _delete("Rows")),
]


WEASIS = [
    Break("weasis", "seg-frames", displays.air_seg, _delete("PerFrameFunctionalGroupsSequence")),
    Break("weasis", "seg-segment", displays.air_seg, _in(_frame(1), _delete(_ID))),
    Break("weasis", "seg-source-image", displays.air_seg, _in(_frame(2), _delete("DerivationImageSequence"))),
    Break("weasis", "seg-referenced", displays.air_seg, _in(_series, _delete("ReferencedInstanceSequence"))),
    Break("weasis", "seg-preserved", displays.air_seg, _in(_source, _set("SpatialLocationsPreserved", "NO"))),
    Break("weasis", "seg-own-plane", displays.placed_seg, _nothing),
    Break("weasis", "seg-columns", displays.wide_seg, _nothing),
    Break("weasis", "modality", displays.presentation_state, _set("Modality", "OT")),
    Break("weasis", "pr-images", displays.presentation_state, _delete("ReferencedSeriesSequence")),
    Break("weasis", "pr-layers", displays.presentation_state, _delete("GraphicLayerSequence")),
    Break(
        "weasis",
        "pr-annotation-images",
        displays.presentation_state,
        lambda state: _set("ReferencedSOPInstanceUID", "1.2.3")(_annotation(state).ReferencedImageSequence[0]),
    ),
    Break("weasis", "pr-graphic-type", displays.presentation_state, _in(_graphic, _set("GraphicType", "SPLINE"))),
    Break("weasis", "pr-graphic-data", displays.presentation_state, _in(_graphic, _set("GraphicData", [1.0, 1.0]))),
    Break("weasis", "pr-text-place", displays.presentation_state, _in(_words, _delete("AnchorPoint"))),
    Break("weasis", "modality", displays.sr, _set("Modality", "OT")),
    Break("weasis", "sr-image", displays.sr, _in(_region, _delete("ContentSequence"))),
    Break("weasis", "modality", displays.text_sr, _set("Modality", "OT")),
    Break("weasis", "sr-content", displays.text_sr, _delete("ContentSequence")),
    Break("weasis", "modality", displays.key_objects, _set("Modality", "OT")),
    Break("weasis", "ko-images", displays.key_objects, _delete("CurrentRequestedProcedureEvidenceSequence")),
    Break("weasis", "image-pixels", displays.secondary_capture, _delete("PixelData")),
]


DCMQI = [
    Break("dcmqi", "seg-type", displays.seg, _delete("SegmentationType")),
    Break("dcmqi", "seg-pixels", displays.seg, _delete("NumberOfFrames")),
    Break("dcmqi", "seg-pixels", displays.seg, _delete("PixelData")),
    Break("dcmqi", "seg-plane-orientation", displays.seg, _in(_shared, _delete("PlaneOrientationSequence"))),
    Break("dcmqi", "seg-plane-position", displays.seg, _in(_frame(1), _delete("PlanePositionSequence"))),
    Break("dcmqi", "seg-plane-position", displays.seg, _in(_frame(0), _delete("PlanePositionSequence"))),
    Break("dcmqi", "seg-pixel-spacing", displays.seg, _in(_measures, _delete("PixelSpacing"))),
    Break(
        "dcmqi", "seg-slice-spacing", displays.seg, _in(_measures, _delete("SliceThickness", "SpacingBetweenSlices"))
    ),
    Break("dcmqi", "seg-segments", displays.seg, _delete("SegmentSequence")),
    Break("dcmqi", "seg-segment-number", displays.seg, _in(_frame(1), _delete(_ID))),
    Break(
        "dcmqi",
        "seg-algorithm-type",
        displays.seg,
        _in(lambda dataset: dataset.SegmentSequence[0], _delete("SegmentAlgorithmType")),
    ),
    Break("dcmqi", "sr-title", displays.sr, _delete(_NAME)),
    Break("dcmqi", "sr-names", displays.sr, lambda report: _delete(_NAME)(_group(report).ContentSequence[0])),
    Break("dcmqi", "sr-relationships", displays.sr, _in(_region, _delete("RelationshipType"))),
    Break("dcmqi", "sr-groups", displays.sr, _rename_groups),
]


BREAKS = [*OHIF, *STONE, *WEASIS, *DCMQI]


@pytest.mark.parametrize(("viewer", "make"), displays.DRAWN, ids=lambda value: getattr(value, "__name__", value))
def test_what_a_viewer_draws_passes_every_rule(viewer: str, make: Callable[[], Dataset]) -> None:
    """Our own objects for their profile, and the others as they should be."""
    verdict = _judged(viewer, make())
    assert (_failed(verdict), verdict.draws, verdict.since) == ([], True, "")
    assert verdict.line.startswith(f"{verdict.viewer} draws it as ")


@pytest.mark.parametrize(("viewer", "make"), displays.UNKNOWN, ids=lambda value: getattr(value, "__name__", value))
def test_a_kind_that_a_viewer_does_not_know_is_said(viewer: str, make: Callable[[], Dataset]) -> None:
    """With what to send instead."""
    verdict = _judged(viewer, make())
    assert (verdict.known, verdict.draws, _failed(verdict)) == (False, False, ["kind"])
    assert verdict.line.startswith(f"{verdict.viewer} does not know this kind of object (")
    assert verdict.findings[0].change.startswith("send ")


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: f"{broken.viewer}-{broken.rule}")
def test_exactly_one_rule_fails(broken: Break) -> None:
    """A rule says what it says, and nothing else is blamed."""
    dataset = broken.make()
    broken.change(dataset)
    assert _failed(_judged(broken.viewer, dataset)) == [broken.rule]


def test_every_rule_of_every_viewer_is_broken_once() -> None:
    """Sheet by sheet: a rule that no test breaks may be one that never fails."""
    rules = [(name, rule.name) for name, viewer in VIEWERS.items() for sheet in viewer.sheets for rule in sheet.rules]
    assert set(rules) == {(broken.viewer, broken.rule) for broken in BREAKS}
    names = [rule.name for viewer in VIEWERS.values() for sheet in viewer.sheets for rule in sheet.rules]
    assert [name for name in names if not name.replace("-", "").isalpha()] == []


@pytest.mark.parametrize(
    ("profile", "viewer"),
    [
        *(("ohif", "ohif"), ("ohif", "dcmqi"), ("stone", "stone"), ("weasis", "weasis")),
        *(("floor", viewer) for viewer in ("ohif", "stone", "weasis")),
    ],
)
def test_a_viewer_draws_all_of_its_profile(profile: str, viewer: str) -> None:
    """Every object, by every rule; what the floor has, everybody shows."""
    for built in results.objects(results.source(rows=40, columns=32), profile=profile):
        verdict = _judged(viewer, results.written(built.dataset))
        assert (_failed(verdict), verdict.draws) == ([], True), built.kind


def test_the_profiles_are_for_their_viewers() -> None:
    """Profile `air` has no planes for OHIF and dcmqi and no region in a group, and its SEG suits Weasis."""
    assert _failed(_judged("ohif", displays.seg("air"))) == ["seg-plane-orientation"]
    planes = ["seg-plane-orientation", "seg-plane-position", "seg-pixel-spacing", "seg-slice-spacing"]
    assert _failed(_judged("dcmqi", displays.seg("air"))) == planes
    assert _failed(_judged("ohif", displays.sr("air"))) == ["sr-coordinates"]
    assert _failed(_judged("stone", displays.sr("ohif"))) == ["sr-class", "sr-region-source"]
    assert _judged("weasis", displays.air_seg()).draws
    assert not _judged("weasis", displays.placed_seg()).draws


def test_a_rule_that_was_mended_does_not_count_but_is_said() -> None:
    """Who has an earlier version must know."""
    verdict = _judged("weasis", displays.wide_seg())
    assert (verdict.draws, verdict.since) == (True, "4.7")
    assert verdict.line == "Weasis draws it as contours on its image, from version 4.7 on"


def test_nothing_fails_of_a_fraction_that_is_none() -> None:
    """OHIF takes a fractional segmentation of two values as binary."""
    dataset = displays.seg()
    dataset.SegmentationType, dataset.MaximumFractionalValue, dataset.PixelData = "FRACTIONAL", 200, bytes([0, 200])
    assert _failed(_judged("ohif", dataset)) == []


@pytest.mark.parametrize("broken", DCMQI, ids=lambda broken: broken.rule)
def test_dcmqi_agrees(broken: Break, tmp_path: Path) -> None:
    """The real peer does not read what a rule says that it does not read."""
    dataset = broken.make()
    reads = displays.dcmqi_reads_seg if broken.make is displays.seg else displays.dcmqi_reads_sr
    broken.change(dataset)
    assert (_judged("dcmqi", dataset).draws, reads(dataset, tmp_path)) == (False, False)


@pytest.mark.parametrize("profile", ["air", "ohif"])
def test_dcmqi_agrees_on_our_own(profile: str, tmp_path: Path) -> None:
    """As they are: what it draws and what not."""
    (tmp_path / "seg").mkdir()
    segmentation, report = displays.seg(profile), displays.sr(profile)
    assert displays.dcmqi_reads_seg(segmentation, tmp_path / "seg") == _judged("dcmqi", segmentation).draws
    assert displays.dcmqi_reads_sr(report, tmp_path) == _judged("dcmqi", report).draws


def test_an_object_of_nothing_fails_and_raises_nothing() -> None:
    """Whatever a file lacks, a rule says so."""
    for viewer in VIEWERS:
        for make in {make for _, make in displays.DRAWN}:
            bare = Dataset()
            bare.SOPClassUID = make().SOPClassUID
            assert not _judged(viewer, bare).draws


def test_findings_name_so_many_and_count_the_rest(tmp_path: Path) -> None:
    """A SEG may have thousands of frames."""
    dataset = displays.seg("air")
    dataset.PerFrameFunctionalGroupsSequence = Sequence([Dataset() for _ in range(20)])
    [row] = explain([displays.file_of(dataset, tmp_path / "many.dcm")], "ohif")
    [found] = [rule["found"] for rule in row["rules"] if rule["rule"] == "seg-source-image"]
    assert found == "frames: 20 of 20 fail: 1, 2, 3, 4, 5, 6, 7, 8 and 12 more"
