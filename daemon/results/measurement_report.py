"""A study's predictions -> Measurement Report (PS3.16 TID 1500): a Comprehensive or Comprehensive 3D SR's content."""

from collections.abc import Iterable

from highdicom.sr import MeasurementReport, ObservationContext, RelationshipTypeValues, TextContentItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage

from cxr_triage.daemon.results.codes import TITLE
from cxr_triage.daemon.results.document import Report, observer, procedure, sentences
from cxr_triage.daemon.results.image_library import image_library
from cxr_triage.daemon.results.measurement_groups import groups


def measurement_report(report: Report) -> Dataset:
    """Give the root of the content tree."""
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer(report.bundle)),
        procedure_reported=procedure(report.sources[0]),
        imaging_measurements=[group for image in report.images for group in groups(image, report.profile)],
        title=TITLE,
    )
    root = content[0].ContentSequence
    measurements = root.pop()
    root.append(image_library(report.images, report.sources))
    root.append(measurements)
    root.extend(_comment(sentence) for sentence in sentences(report))
    _drop_frame_numbers(content)
    return content[0]


def _comment(sentence: str) -> TextContentItem:
    return TextContentItem(name=codes.DCM.Comment, value=sentence, relationship_type=RelationshipTypeValues.CONTAINS)


def _drop_frame_numbers(content: Iterable[Dataset]) -> None:
    """A reference names a segment or frames, not both: Referenced Frame Number is 1C (PS3.3 Table 10-3)."""
    for item in content:
        for reference in item.get("ReferencedSOPSequence", ()):
            if reference.ReferencedSOPClassUID == SegmentationStorage and "ReferencedFrameNumber" in reference:
                del reference.ReferencedFrameNumber
        _drop_frame_numbers(item.get("ContentSequence", ()))
