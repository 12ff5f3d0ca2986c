"""What was looked at: TID 1600, written from what a source says, however little that is.

highdicom's own image library needs an ImagerPixelSpacing and a well-formed PatientOrientation, which many sources lack.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ComputedRadiographyImageStorage

from cxr_triage.daemon.results.codes import PIXELS, SOURCE
from cxr_triage.daemon.results.measurement_groups import ReportedImage
from cxr_triage.model.header import sides, text


def image_library(images: Sequence[ReportedImage], sources: Sequence[Dataset]) -> ContainerContentItem:
    """Give the Image Library container, one group per modality."""
    library = _container(codes.DCM.ImageLibrary)
    pairs = sorted(zip(images, sources, strict=True), key=lambda pair: _is_cr(pair[0]))
    for _, members in groupby(pairs, key=lambda pair: _is_cr(pair[0])):
        group = _container(codes.DCM.ImageLibraryGroup)
        group.ContentSequence.extend(_entry(image, source) for image, source in members)
        library.ContentSequence.append(group)
    return library


def _is_cr(image: ReportedImage) -> bool:
    return image.stored.sop_class_uid == ComputedRadiographyImageStorage


def _container(name: CodedConcept) -> ContainerContentItem:
    container = ContainerContentItem(name=name, relationship_type=RelationshipTypeValues.CONTAINS)
    container.ContentSequence = ContentSequence()
    return container


def _entry(image: ReportedImage, source: Dataset) -> ImageContentItem:
    entry = ImageContentItem(
        name=SOURCE,
        referenced_sop_class_uid=image.stored.sop_class_uid,
        referenced_sop_instance_uid=image.stored.sop_instance_uid,
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    entry.ContentSequence = ContentSequence()
    entry.ContentSequence.extend(_descriptors(image, source))
    return entry


def _descriptors(image: ReportedImage, source: Dataset) -> Iterator[ContentItem]:
    """TID 1602 and, for projection radiography, TID 1603."""
    modality = ("CR", "Computed Radiography") if _is_cr(image) else ("DX", "Digital Radiography")
    yield CodeContentItem(
        name=codes.DCM.Modality,
        value=CodedConcept(modality[0], "DCM", modality[1]),
        relationship_type=RelationshipTypeValues.HAS_ACQ_CONTEXT,
    )
    rows, columns = image.stored.prediction.masks_CHW.shape[1:]
    yield from _numbers((codes.DCM.PixelDataRows, codes.DCM.PixelDataColumns), (rows, columns), PIXELS)
    yield from _orientation(text(source, "PatientOrientation").split("\\"))
    spacing = sides(source, "ImagerPixelSpacing")
    if spacing is not None:
        names = (codes.DCM.VerticalPixelSpacing, codes.DCM.HorizontalPixelSpacing)
        yield from _numbers(names, [round(value, 6) for value in spacing], codes.UCUM.Millimeter)


def _orientation(directions: Sequence[str]) -> Iterator[ContentItem]:
    if len(directions) == 2 and all(directions):
        names = (codes.DCM.PatientOrientationRow, codes.DCM.PatientOrientationColumn)
        for name, direction in zip(names, directions, strict=True):
            yield TextContentItem(name=name, value=direction, relationship_type=RelationshipTypeValues.HAS_ACQ_CONTEXT)


def _numbers(names: Iterable[CodedConcept], values: Iterable[float], unit: CodedConcept) -> Iterator[ContentItem]:
    for name, value in zip(names, values, strict=True):
        yield NumContentItem(
            name=name, value=value, unit=unit, relationship_type=RelationshipTypeValues.HAS_ACQ_CONTEXT
        )
