"""A study's predictions -> sentences, the content of a Basic Text SR (PS3.3 A.35.1): no numbers, no coordinates."""

from collections.abc import Iterator

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from highdicom.sr.templates import LanguageOfContentItemAndDescendants
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from cxr_triage.daemon.results.codes import ENGLISH, SOURCE, TITLE_OF_WITHDRAWAL, TITLE_OF_WORDS, concept
from cxr_triage.daemon.results.document import Report, observer, procedure, sentences, sentences_of_withdrawal
from cxr_triage.daemon.results.measurement_groups import DECIMALS, ReportedImage
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.daemon.results.regions import zone_in_words
from cxr_triage.model.findings import MEASUREMENT_CODES, Finding

CONTAINS = RelationshipTypeValues.CONTAINS


def basic_text(report: Report) -> Dataset:
    """Give the root of the content tree."""
    root = _root(report, TITLE_OF_WORDS)
    for image in report.images:
        root.ContentSequence.append(_section(image, report.profile))
    root.ContentSequence.extend(_text(codes.DCM.Comment, sentence) for sentence in sentences(report))
    return root


def withdrawal_text(report: Report) -> Dataset:
    """Give the root of the content tree of a report that says that the earlier ones are withdrawn, and nothing else."""
    root = _root(report, TITLE_OF_WITHDRAWAL)
    root.ContentSequence.extend(_text(codes.DCM.Comment, sentence) for sentence in sentences_of_withdrawal(report))
    root.ContentSequence.extend(_image(image) for image in report.images)
    return root


def _root(report: Report, title: CodedConcept) -> ContainerContentItem:
    root = ContainerContentItem(name=title, is_content_continuous=False)
    root.ContentSequence = ContentSequence(is_root=False)
    root.ContentSequence.extend(LanguageOfContentItemAndDescendants(ENGLISH))
    root.ContentSequence.extend(observer(report.bundle))
    root.ContentSequence.append(_procedure(report))
    return root


def _procedure(report: Report) -> CodeContentItem:
    return CodeContentItem(
        name=codes.DCM.ProcedureReported,
        value=procedure(report.sources[0]),
        relationship_type=RelationshipTypeValues.HAS_CONCEPT_MOD,
    )


def _section(image: ReportedImage, profile: Profile) -> ContainerContentItem:
    """What was found on one image, and the image."""
    section = ContainerContentItem(name=codes.DCM.Findings, relationship_type=CONTAINS)
    section.ContentSequence = ContentSequence()
    section.ContentSequence.extend(_said_of(image, profile))
    return section


def _said_of(image: ReportedImage, profile: Profile) -> Iterator[ContentItem]:
    yield _image(image)
    for finding in sorted(image.stored.prediction.findings, key=lambda finding: not finding.present):
        yield _text(codes.DCM.Finding, f"{profile.meaning(finding.abnormality.code)}: {_judged(finding, profile)}")
    for measurement in image.stored.prediction.measurements:
        value = f"{round(measurement.value, DECIMALS):g}" + (f" {measurement.unit}" if measurement.unit != "1" else "")
        qualifier = f" ({measurement.qualifier})" if measurement.qualifier else ""
        yield _text(concept(MEASUREMENT_CODES[measurement.name], profile), f"{value}{qualifier}")


def _image(image: ReportedImage) -> ImageContentItem:
    return ImageContentItem(
        name=SOURCE,
        referenced_sop_class_uid=image.stored.sop_class_uid,
        referenced_sop_instance_uid=image.stored.sop_instance_uid,
        relationship_type=CONTAINS,
    )


def _judged(finding: Finding, profile: Profile) -> str:
    lies = f", {zone_in_words(finding.zone, profile)}" if finding.zone else ""
    what = f"present{lies}" if finding.present else "below threshold, absence is not stated"
    return f"probability {finding.probability:.2f}, threshold {finding.threshold:.2f}: {what}"


def _text(name: CodedConcept, value: str) -> TextContentItem:
    return TextContentItem(name=name, value=value, relationship_type=CONTAINS)
