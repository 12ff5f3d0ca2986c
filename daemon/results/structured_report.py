"""A study's predictions -> Comprehensive 3D SR (PS3.3 A.35.13) with a Measurement Report (PS3.16 TID 1500)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from highdicom.sr import (
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    TextContentItem,
)
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from cxr_triage.daemon.results.codes import PLAIN_CHEST_XRAY, TITLE, private_scheme
from cxr_triage.daemon.results.finishing import (
    EMITTER,
    MANUFACTURER,
    MODEL_NAME,
    RESEARCH,
    SOFTWARE_VERSION,
    equipment,
    finish,
    source_stand_in,
    without_patient,
)
from cxr_triage.daemon.results.image_library import image_library
from cxr_triage.daemon.results.measurement_groups import ReportedImage, groups
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.daemon.results.uids import derived_uid
from cxr_triage.model.header import items, text
from cxr_triage.model.prediction import BundleIdentity
from cxr_triage.storage.records import ObjectReference, Revision

SERIES_NUMBER: Final = 9002
STATEMENT: Final = (
    "Research software, not a medical device: not for diagnosis. It orders the reading list; it does not read. "
    "A finding that is not reported as present is not excluded, and no image is stated to be normal."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What one SR is about."""

    revision: Revision
    #: At least one, in the order in which they were received.
    images: tuple[ReportedImage, ...]
    #: Headers of the images, without pixels, in the same order.
    sources: tuple[Dataset, ...]
    profile: Profile


def sr_uid(revision: Revision, profile: Profile, part: str = "instance") -> str:
    """What the UID of a revision's SR, or of a part of it, is derived from."""
    return derived_uid("SR", revision.study_instance_uid, revision.digest, profile.value, EMITTER, part)


def build_sr(report: Report) -> Comprehensive3DSR:
    """Build the SR of one revision: complete, preliminary, and unverified, since no person has seen it."""
    revision, bundle = report.revision, report.images[-1].stored.prediction.bundle
    document = Comprehensive3DSR(
        evidence=_evidence(report.images),
        content=_content(report, bundle)[0],
        series_instance_uid=sr_uid(revision, report.profile, "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=sr_uid(revision, report.profile),
        instance_number=revision.number,
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=_predecessors(revision),
        series_description=f"Chest triage (AI), {RESEARCH}, rev {revision.number}",
        coding_schemes=[private_scheme()],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment(bundle),
    )
    latest = max(image.stored.received_at for image in report.images)
    finish(document, source=report.sources[0], moment=latest)
    return document


def _content(report: Report, bundle: BundleIdentity) -> MeasurementReport:
    content = MeasurementReport(
        observation_context=_observed_by(bundle),
        procedure_reported=_procedure(report.sources[0]),
        imaging_measurements=[group for image in report.images for group in groups(image, report.profile)],
        title=TITLE,
    )
    root = content[0].ContentSequence
    measurements = root.pop()
    root.append(image_library(report.images, report.sources))
    root.append(measurements)
    root.extend(_comment(sentence) for sentence in _sentences(report))
    _drop_frame_numbers(content)
    return content


def _observed_by(bundle: BundleIdentity) -> ObservationContext:
    """The observer is a device: this software with these weights (TID 1004)."""
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", MODEL_NAME, SOFTWARE_VERSION, bundle.sha256),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=f"{MODEL_NAME} {SOFTWARE_VERSION}, {bundle.name} {bundle.version}",
        serial_number=bundle.sha256,
    )
    return ObservationContext(
        observer_device_context=ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    )


def _procedure(source: Dataset) -> CodedConcept:
    """The imaging that was done, in the source's words; it is not the algorithm's doing (TID 1500, row 5)."""
    for item in items(source, "ProcedureCodeSequence"):
        value, meaning = text(item, "CodeValue"), text(item, "CodeMeaning")
        scheme = text(item, "CodingSchemeDesignator")
        if 0 < len(value) <= 16 and 0 < len(scheme) <= 16 and 0 < len(meaning) <= 64:  # PS3.3 Table 8.8-1, SH and LO
            return CodedConcept(value, scheme, meaning, text(item, "CodingSchemeVersion") or None)
    return PLAIN_CHEST_XRAY


def _sentences(report: Report) -> Iterable[str]:
    yield STATEMENT
    if report.revision.priority_reason:
        yield f"Reading list: {report.revision.priority_reason}"
    yield _summary(report.images)
    for image in report.images:
        yield from (f"Image {image.number}: {remark.sentence}" for remark in image.stored.prediction.remarks)


def _summary(images: Sequence[ReportedImage]) -> str:
    """What reached its threshold, most probable first; nothing is said of the rest but that."""
    present = [finding for image in images for finding in image.stored.prediction.findings if finding.present]
    if not present:
        return "No finding reached its operating threshold: not prioritised by findings."
    most = {finding.label: finding for finding in sorted(present, key=lambda finding: finding.probability)}
    ranked = sorted(most.values(), key=lambda finding: (-finding.probability, finding.label))
    said = (f"{found.label} {found.probability:.2f} (threshold {found.threshold:.2f})" for found in ranked)
    return f"At or above threshold: {', '.join(said)}."


def _comment(sentence: str) -> TextContentItem:
    return TextContentItem(name=codes.DCM.Comment, value=sentence, relationship_type=RelationshipTypeValues.CONTAINS)


def _drop_frame_numbers(content: Iterable[Dataset]) -> None:
    """A reference names a segment or frames, not both: Referenced Frame Number is 1C (PS3.3 Table 10-3)."""
    for item in content:
        for reference in item.get("ReferencedSOPSequence", ()):
            if reference.ReferencedSOPClassUID == SegmentationStorage and "ReferencedFrameNumber" in reference:
                del reference.ReferencedFrameNumber
        _drop_frame_numbers(item.get("ContentSequence", ()))


def _evidence(images: Sequence[ReportedImage]) -> list[Dataset]:
    sources = [source_stand_in(image.stored) for image in images]
    return sources + [_stand_in(image.seg) for image in images]


def _predecessors(revision: Revision) -> list[Dataset] | None:
    return [_stand_in(revision.predecessor_sr)] if revision.predecessor_sr else None


def _stand_in(referenced: ObjectReference) -> Dataset:
    """A data set of which a library takes the reference, and nothing else."""
    dataset = Dataset()
    dataset.SOPClassUID = referenced.sop_class_uid
    dataset.SOPInstanceUID = referenced.sop_instance_uid
    dataset.SeriesInstanceUID = referenced.series_instance_uid
    dataset.StudyInstanceUID = referenced.study_instance_uid
    return without_patient(dataset)
