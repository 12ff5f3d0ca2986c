"""Ways through an object: an SR's content tree, a SEG's functional groups, references. Odd values are no values."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import UID

from cxr_triage.model.header import items, text

#: PS3.4 B.5.
SEGMENTATION: Final = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION: Final = "1.2.840.10008.5.1.4.1.1.66.7"
BASIC_TEXT_SR: Final = "1.2.840.10008.5.1.4.1.1.88.11"
ENHANCED_SR: Final = "1.2.840.10008.5.1.4.1.1.88.22"
COMPREHENSIVE_SR: Final = "1.2.840.10008.5.1.4.1.1.88.33"
COMPREHENSIVE_3D_SR: Final = "1.2.840.10008.5.1.4.1.1.88.34"
KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
GRAYSCALE_SOFTCOPY_STATE: Final = "1.2.840.10008.5.1.4.1.1.11.1"
PRESENTATION_STATES: Final = frozenset(f"1.2.840.10008.5.1.4.1.1.11.{number}" for number in range(1, 13))
#: Source images that have no plane in the patient: CR, and DX for presentation and processing.
PROJECTIONS: Final = frozenset(
    {"1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1"}
)

#: PS3.16 Annex D, all DCM.
MEASUREMENT_REPORT: Final = "126000"
IMAGING_MEASUREMENTS: Final = "126010"
MEASUREMENT_GROUP: Final = "125007"
TRACKING_IDENTIFIER: Final = "112039"
TRACKING_UID: Final = "112040"
IMAGE_REGION: Final = "111030"
ORIGINAL_SOURCE: Final = "111040"

GRAPHICS: Final = frozenset({"SCOORD", "SCOORD3D"})


def sop_class(dataset: Dataset) -> str:
    """The SOP Class UID; empty where there is none."""
    return text(dataset, "SOPClassUID")


def is_sr(dataset: Dataset) -> bool:
    """Whether it is a structured report, of whatever SOP class; key object selections are not counted."""
    return UID(sop_class(dataset)).name.endswith("SR Storage")


def is_image(dataset: Dataset) -> bool:
    """Whether it is an image that is no SEG: by its SOP class, or because it has rows."""
    named = "Image Storage" in UID(sop_class(dataset)).name
    return (named or "Rows" in dataset) and sop_class(dataset) not in {SEGMENTATION, LABEL_MAP_SEGMENTATION}


def is_known_kind(dataset: Dataset) -> bool:
    """Whether there are rules for such an object at all, whatever the viewer."""
    known = {SEGMENTATION, LABEL_MAP_SEGMENTATION, KEY_OBJECT_SELECTION, *PRESENTATION_STATES}
    return sop_class(dataset) in known or is_sr(dataset) or is_image(dataset)


class Code(NamedTuple):
    """What a code is told apart by (PS3.3 8.3); its meaning may be any text, and is not read."""

    value: str
    scheme: str


def code(item: Dataset, keyword: str = "ConceptNameCodeSequence") -> Code | None:
    """The code of an item; None where it has none."""
    found = items(item, keyword)
    return Code(text(found[0], "CodeValue"), text(found[0], "CodingSchemeDesignator")) if found else None


def is_called(item: Dataset, value: str) -> bool:
    """Whether the item's concept name is this code of DCM."""
    return code(item) == Code(value, "DCM")


def children(item: Dataset) -> list[Dataset]:
    """The content items below an item."""
    return items(item, "ContentSequence")


def walk(item: Dataset) -> Iterator[Dataset]:
    """Every content item below an item, parents first."""
    for child in children(item):
        yield child
        yield from walk(child)


def value_type(item: Dataset) -> str:
    """The value type of a content item."""
    return text(item, "ValueType")


def is_graphic(item: Dataset) -> bool:
    """Whether it is an SCOORD or an SCOORD3D."""
    return value_type(item) in GRAPHICS


def has_graphics(dataset: Dataset) -> bool:
    """Whether an SR holds coordinates anywhere."""
    return any(is_graphic(item) for item in walk(dataset))


def graphics(dataset: Dataset) -> list[Dataset]:
    """Every SCOORD and SCOORD3D of an SR."""
    return [item for item in walk(dataset) if is_graphic(item)]


def measurements(dataset: Dataset) -> list[Dataset]:
    """The Imaging Measurements containers at the root of a report (PS3.16 TID 1500, row 6)."""
    return [item for item in children(dataset) if is_called(item, IMAGING_MEASUREMENTS)]


def groups(dataset: Dataset) -> list[Dataset]:
    """The measurement groups of a report."""
    return [item for found in measurements(dataset) for item in children(found) if is_called(item, MEASUREMENT_GROUP)]


def template(item: Dataset) -> str:
    """The template that a container says it follows, if it is one of DCMR; else empty."""
    found = items(item, "ContentTemplateSequence")
    if len(found) != 1 or text(found[0], "MappingResource") != "DCMR":
        return ""
    return text(found[0], "TemplateIdentifier")


def evidence(dataset: Dataset) -> list[str]:
    """SOP Instance UIDs of the Current Requested Procedure Evidence Sequence (PS3.3 C.17.2)."""
    return [
        text(instance, "ReferencedSOPInstanceUID")
        for study in items(dataset, "CurrentRequestedProcedureEvidenceSequence")
        for series in items(study, "ReferencedSeriesSequence")
        for instance in items(series, "ReferencedSOPSequence")
    ]


def frames(dataset: Dataset) -> list[Dataset]:
    """The per-frame functional groups of a SEG."""
    return items(dataset, "PerFrameFunctionalGroupsSequence")


def shared(dataset: Dataset) -> Dataset:
    """The shared functional groups of a SEG; empty where there are none."""
    return next(iter(items(dataset, "SharedFunctionalGroupsSequence")), Dataset())


def macro(group: Dataset, keyword: str) -> Dataset:
    """One functional group macro of a frame, or of what frames share; empty where it is not there."""
    return next(iter(items(group, keyword)), Dataset())


def sources(frame: Dataset) -> list[Dataset]:
    """The source images that a frame says it derives from (PS3.3 C.7.6.16.2.6)."""
    return [
        source
        for derivation in items(frame, "DerivationImageSequence")
        for source in items(derivation, "SourceImageSequence")
        if text(source, "ReferencedSOPInstanceUID")
    ]


def of_projections(dataset: Dataset) -> bool:
    """Whether a SEG says that all its source images are radiographs, which have no plane in the patient."""
    named = [text(source, "ReferencedSOPClassUID") for frame in frames(dataset) for source in sources(frame)]
    return bool(named) and set(named) <= PROJECTIONS


def referenced_instances(dataset: Dataset) -> set[str]:
    """Instances that a SEG lists at its top (PS3.3 C.12.4, Common Instance Reference)."""
    return {
        text(instance, "ReferencedSOPInstanceUID")
        for series in items(dataset, "ReferencedSeriesSequence")
        for instance in items(series, "ReferencedInstanceSequence")
    }
