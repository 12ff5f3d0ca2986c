"""The SR of one study revision."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import highdicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import SegmentationStorage

import builders
import results
from cxr_triage.daemon.results.meanings import MEANINGS
from cxr_triage.daemon.results.objects import build_objects
from cxr_triage.daemon.results.profiles import AIR, OHIF, WEASIS
from cxr_triage.model.errors import ResultError
from cxr_triage.model.findings import ABNORMALITIES, Measurement
from cxr_triage.model.remarks import HEART_ON_RIGHT
from cxr_triage.storage.result_records import ObjectKind, ObjectReference, ResultObject


def _sr(*headers: Dataset, profile: str = "air", **changes: Any) -> Dataset:
    *_, sr = results.objects(*headers, profile=profile, **changes)
    return results.written(sr.dataset)


def _sr_of(**prediction: Any) -> Dataset:
    header = results.source()
    stored = results.stored(header, **prediction)
    *_, sr = build_objects(results.revision(), [stored], results.sources(header), AIR)
    return results.written(sr.dataset)


def _walk(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", ()):
        yield from _walk(child)


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeMeaning) if names else ""


def _groups(sr: Dataset) -> dict[str, list[Dataset]]:
    """Contents of each measurement group, by tracking identifier."""
    found = {}
    for item in _walk(sr):
        if _name(item) == "Measurement Group":
            identifier = next(
                child.TextValue for child in item.ContentSequence if _name(child) == "Tracking Identifier"
            )
            found[identifier] = list(item.ContentSequence)
    return found


def _values(items: list[Dataset]) -> dict[str, str]:
    said = {}
    for item in items:
        if item.ValueType == "CODE":
            said[_name(item)] = item.ConceptCodeSequence[0].CodeMeaning
        elif item.ValueType == "NUM":
            said[_name(item)] = f"{item.MeasuredValueSequence[0].NumericValue}"
    return said


def _texts(sr: Dataset) -> list[str]:
    return [item.TextValue for item in sr.ContentSequence if _name(item) == "Comment"]


def test_a_present_finding_stands_with_its_probability_and_threshold() -> None:
    """Coded, named for viewers that show the tracking identifier only."""
    said = _values(_groups(_sr(results.source()))["Pneumothorax 0.90, image 1"])
    assert (
        said["Finding"],
        said["Pneumothorax"],
        said["Probability"],
        said["Operating threshold of probability"],
    ) == ("Pneumothorax", "Present", "0.9", "0.5")


def test_below_its_threshold_nothing_is_found_and_nothing_denied() -> None:
    """No "Finding", no "Absent", no "Normal" anywhere."""
    sr = _sr(results.source())
    said = _values(_groups(sr)["Effusion 0.10, image 1"])
    assert "Finding" not in said
    assert said["Pleural effusion"] == "Below threshold, absence is not stated"
    meanings = {str(item.ConceptCodeSequence[0].CodeMeaning) for item in _walk(sr) if item.ValueType == "CODE"}
    assert set() == {meaning for meaning in meanings if meaning in {"Absent", "Normal"}}


def test_every_label_can_be_said() -> None:
    """All labels of the vocabulary, codes within the lengths of SH and LO."""
    findings = tuple(builders.finding(abnormality.name) for abnormality in ABNORMALITIES)
    groups = _groups(_sr_of(findings=findings))
    assert {f"{abnormality.name} 0.90, image 1" for abnormality in ABNORMALITIES} <= set(groups)
    for abnormality in ABNORMALITIES:
        assert len(abnormality.code.value) <= 64
        assert len(abnormality.code.meaning) <= 64


def test_numbers_fit_a_decimal_string() -> None:
    """Four decimals are enough, and 16 characters all there are (PS3.5 6.2)."""
    sr = _sr_of(
        findings=(builders.finding("Mass", 2 / 3, 1 / 3),),
        measurements=(Measurement(name="left_lung_area", value=123456.78901234567, unit="mm2"),),
    )
    numbers = [str(item.MeasuredValueSequence[0].NumericValue) for item in _walk(sr) if item.ValueType == "NUM"]
    assert {"0.6667", "0.3333", "123456.789"} <= set(numbers)
    assert max(map(len, numbers)) <= 16


def test_structures_refer_to_their_segments() -> None:
    """Measurements stand with the segment they were made on; a reference names a segment and no frame."""
    seg, _ = results.objects(results.source())
    groups = _groups(_sr(results.source()))
    for number, name in enumerate(("Left lung", "Right lung", "Heart"), start=1):
        items = groups[f"{name}, image 1"]
        reference = next(
            item for item in items if _name(item) == "Referenced Segmentation Frame"
        ).ReferencedSOPSequence[0]
        assert (SegmentationStorage, seg.dataset.SOPInstanceUID, number) == (
            reference.ReferencedSOPClassUID,
            reference.ReferencedSOPInstanceUID,
            reference.ReferencedSegmentNumber,
        )
        assert "ReferencedFrameNumber" not in reference
    assert _values(groups["Heart, image 1"])["Cardiothoracic ratio"] == "0.52"


def test_an_area_without_calibration_says_so() -> None:
    """The lung's area is in the detector plane; a calibrated one says nothing of the kind."""
    uncalibrated = _groups(_sr_of())["Left lung, image 1"]
    calibrated = _groups(_sr_of(measurements=(Measurement(name="left_lung_area", value=1.0, unit="mm2"),)))
    for items, expected in ((uncalibrated, ["In Detector Plane"]), (calibrated["Left lung, image 1"], [])):
        area = next(item for item in items if item.ValueType == "NUM")
        methods = [i for i in area.ContentSequence if _name(i) == "Measurement Method"]
        assert expected == [method.ConceptCodeSequence[0].CodeMeaning for method in methods]


def test_an_unknown_qualifier_is_not_dropped() -> None:
    """A number without its restriction would say more than is known."""
    with pytest.raises(ResultError, match="QUALIFIER_CODES"):
        _sr_of(measurements=(Measurement(name="left_lung_area", value=1.0, unit="mm2", qualifier="guessed"),))


def test_it_is_unverified_preliminary_and_for_research() -> None:
    """In the flags, in the title, in the series' description and in the first comment."""
    sr = _sr(results.source(), number=3)
    assert (sr.VerificationFlag, sr.PreliminaryFlag, sr.CompletionFlag) == ("UNVERIFIED", "PRELIMINARY", "COMPLETE")
    assert sr.SeriesDescription == "Chest triage (AI), research, not for diagnosis, rev 3"
    assert "research, not for diagnosis" in sr.ConceptNameCodeSequence[0].CodeMeaning
    statement, reason, summary = _texts(sr)
    assert "not a medical device" in statement
    assert reason == "Reading list: Raised to HIGH: Pneumothorax 0.90, threshold 0.50."
    assert summary == "At or above threshold: Pneumothorax 0.90 (threshold 0.50)."


def test_a_study_without_findings_is_not_called_normal() -> None:
    """It is not prioritised; that is all."""
    *_, summary = _texts(_sr_of(findings=(builders.finding("Mass", 0.1),)))
    assert summary == "No finding reached its operating threshold: not prioritised by findings."


def test_what_is_remarked_on_an_image_is_said() -> None:
    """By the image's number in the report."""
    *_, summary, remark = _texts(_sr_of(remarks=(HEART_ON_RIGHT,)))
    assert summary.startswith("At or above threshold")
    assert remark == f"Image 1: {HEART_ON_RIGHT.sentence}"


def test_the_observer_is_these_weights() -> None:
    """A device with the weights' digest for a serial number; each group names the algorithm."""
    sr = _sr(results.source())
    said = {_name(item): item.get("TextValue") for item in sr.ContentSequence}
    assert "ab" * 32 == said["Device Observer Serial Number"] == sr.DeviceSerialNumber
    for items in _groups(sr).values():
        parameters = next(item.TextValue for item in items if _name(item) == "Algorithm Parameters")
        assert parameters == "weights-sha256=" + "ab" * 32


def test_the_procedure_is_the_imaging() -> None:
    """By the source's own code, else a plain chest X-ray; a code without all its parts is not used."""
    own, broken = Dataset(), Dataset()
    own.CodeValue, own.CodingSchemeDesignator, own.CodeMeaning = "THX1", "99KLINIK", "Thorax übersicht"
    broken.CodeValue = "THX1"
    for sequence, expected in (([own], "Thorax übersicht"), ([broken], "Plain chest X-ray"), ([], "Plain chest X-ray")):
        sr = _sr(results.source(ProcedureCodeSequence=Sequence(sequence)))
        item = next(item for item in sr.ContentSequence if _name(item) == "Procedure reported")
        assert expected == item.ConceptCodeSequence[0].CodeMeaning


def test_it_supersedes_the_earlier_one() -> None:
    """By Predecessor Documents; a first revision has none."""
    earlier = ObjectReference("1.2.840.10008.5.1.4.1.1.88.34", "1.2.3.4.9.1", "1.2.3.4.9", results.STUDY)
    later = _sr(results.source(), number=2, predecessors={"air": [earlier]}).PredecessorDocumentsSequence[0]
    series = later.ReferencedSeriesSequence[0]
    document = series.ReferencedSOPSequence[0]
    assert earlier == (
        document.ReferencedSOPClassUID,
        document.ReferencedSOPInstanceUID,
        series.SeriesInstanceUID,
        later.StudyInstanceUID,
    )
    assert "PredecessorDocumentsSequence" not in _sr(results.source())


def test_it_lists_all_images_and_segs() -> None:
    """In the image library and as evidence."""
    other = results.source(SOPInstanceUID="1.2.3.4.1.2", ImagerPixelSpacing=None, PatientOrientation="")
    first, second, built = results.objects(results.source(), other)
    sr = results.written(built.dataset)
    evidence = {
        instance.ReferencedSOPInstanceUID
        for series in sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    segs = {first.dataset.SOPInstanceUID, second.dataset.SOPInstanceUID}
    assert segs | {"1.2.3.4.1.1", "1.2.3.4.1.2"} == evidence
    entries = [i for i in _walk(sr) if _name(i) == "Source" and i.ValueType == "IMAGE"]
    assert [e.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for e in entries] == ["1.2.3.4.1.1", "1.2.3.4.1.2"]
    assert "Heart, image 2" in _groups(sr)


def test_ohif_has_coordinates_in_every_group() -> None:
    """A group without any blanks its view; the box is around what was outlined, within the image."""
    for items in _groups(_sr(results.source(), profile="ohif")).values():
        region = next(item for item in items if item.ValueType == "SCOORD")
        columns, rows = region.GraphicData[0::2], region.GraphicData[1::2]
        assert 0 <= min(columns) < max(columns) <= 29
        assert 0 <= min(rows) < max(rows) <= 37
        assert (columns[0], rows[0]) == (columns[-1], rows[-1])


def test_highdicom_reads_it() -> None:
    """As a TID 1500 with its groups."""
    document = highdicom.sr.Comprehensive3DSR.from_dataset(_sr(results.source()))
    content = document.content
    assert isinstance(content, highdicom.sr.MeasurementReport)
    assert len(content.get_image_measurement_groups()) == 2
    assert len(content.get_planar_roi_measurement_groups()) == 3


def test_segs_that_exist_are_cited_and_not_made_again() -> None:
    """A later revision of the same images consists of an SR only."""
    header = results.source()
    seg, _ = results.objects(header)
    made = ResultObject(
        kind=ObjectKind.SEG,
        sop_instance_uid=seg.dataset.SOPInstanceUID,
        sop_class_uid=seg.dataset.SOPClassUID,
        series_instance_uid=seg.dataset.SeriesInstanceUID,
        study_instance_uid=seg.dataset.StudyInstanceUID,
        source_sop_instance_uid=header.SOPInstanceUID,
        profile="air",
        path=builders.result_object().path,
        sha256="0" * 64,
    )
    sources, prediction = results.sources(header), results.stored(header)
    later = build_objects(results.revision(number=2), [prediction], sources, AIR, made=[made])
    assert [built.kind for built in later] == [ObjectKind.SR]
    both = build_objects(results.revision(number=2), [prediction], sources, OHIF, made=[made])
    assert [built.kind for built in both] == [ObjectKind.SEG, ObjectKind.SR]


@pytest.mark.parametrize(
    ("charset", "said"),
    [
        ("ISO_IR 100", "Lungenödem"),
        ("ISO_IR 192", "Lungenödem"),
        (None, "Pulmonary edema"),
        ("ISO_IR 127", "Pulmonary edema"),
        (["", "ISO 2022 IR 100"], "Lungenödem"),
        (["", "ISO 2022 IR 87"], "Pulmonary edema"),
    ],
)
def test_meanings_are_in_the_language_that_the_character_set_can_say(charset: Any, said: str) -> None:
    """The source's character set is kept: where it cannot say a meaning, that is English."""
    german = dataclasses.replace(
        WEASIS, meanings=MEANINGS["de"], notice="für Übungen", descriptions={ObjectKind.SR: "Prüfung"}
    )
    header = results.source(SpecificCharacterSet=charset)
    stored = results.stored(header, findings=(builders.finding("Edema", 0.9),))
    built = build_objects(results.revision(), [stored], results.sources(header), german)
    objects = {each.kind: results.written(each.dataset) for each in built}
    assert said in {item.ConceptNameCodeSequence[0].CodeMeaning for item in _walk(objects[ObjectKind.SR])}
    assert ("Prüfung" in objects[ObjectKind.SR].SeriesDescription) == (said == "Lungenödem")
    notes = objects[ObjectKind.PR].GraphicAnnotationSequence[-1].TextObjectSequence[-1].UnformattedTextValue
    assert (said in notes, "für Übungen" in notes) == (True, said == "Lungenödem")
    assert "?" not in notes
