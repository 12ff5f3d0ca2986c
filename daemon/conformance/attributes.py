"""How the modules and attributes of our objects are written down, and what all objects have in common.

A name is a path of keywords: "SegmentSequence.SegmentLabel" stands in the items of the sequence. What a code sequence
holds stands in chapter 8.3; what a content tree holds, in the table of templates.
"""

from enum import StrEnum
from typing import Final, NamedTuple

from cxr_triage.daemon.results.finishing import CHEST, MANUFACTURER, MODEL_NAME
from cxr_triage.daemon.results.profiles import SERIES
from cxr_triage.storage.result_records import ObjectKind


class Presence(StrEnum):
    """Whether an attribute is there (PS3.2)."""

    #: With a value.
    ALWAYS = "ALWAYS"
    #: Always; its value may be empty.
    VNAP = "VNAP"
    #: Not always.
    ANAP = "ANAP"
    #: Always, without a value.
    EMPTY = "EMPTY"


class Attribute(NamedTuple):
    """An attribute of an object."""

    path: str
    presence: Presence
    #: Its value, or where that comes from.
    holds: str


class Module(NamedTuple):
    """A module of an object's IOD (PS3.3)."""

    name: str
    #: Where PS3.3 defines it.
    clause: str
    #: M, U or C.
    usage: str
    attributes: tuple[Attribute, ...]


ALWAYS, VNAP, ANAP, EMPTY = Presence.ALWAYS, Presence.VNAP, Presence.ANAP, Presence.EMPTY
DERIVED: Final = "2.25 and a UUID that follows from the content"
ARRIVAL: Final = "when the image that it is about was acknowledged, by the image's time zone; of documents, the latest"
FROM_IMAGE: Final = "of the image"

#: Of all objects. What the image has of patient and study is copied besides.
STUDY_UID: Final = Attribute("StudyInstanceUID", ALWAYS, FROM_IMAGE)
SOP_COMMON: Final = Module(
    "SOP Common",
    "C.12.1",
    "M",
    (
        Attribute("SOPClassUID", ALWAYS, "of the object"),
        Attribute("SOPInstanceUID", ALWAYS, DERIVED),
        Attribute("SpecificCharacterSet", ANAP, FROM_IMAGE),
        Attribute("TimezoneOffsetFromUTC", ANAP, FROM_IMAGE),
        Attribute("InstanceNumber", ALWAYS, "1; of documents, the number of the revision"),
        Attribute("ContributingEquipmentSequence", ALWAYS, "one item: the algorithm"),
        Attribute("ContributingEquipmentSequence.PurposeOfReferenceCodeSequence", ALWAYS, "Processing Equipment"),
        Attribute("ContributingEquipmentSequence.Manufacturer", ALWAYS, MANUFACTURER),
        Attribute("ContributingEquipmentSequence.ManufacturerModelName", ALWAYS, MODEL_NAME),
        Attribute("ContributingEquipmentSequence.DeviceSerialNumber", ALWAYS, "SHA-256 of the weights"),
        Attribute("ContributingEquipmentSequence.SoftwareVersions", ALWAYS, "of the software, and of the weights"),
        Attribute("ContributingEquipmentSequence.DeviceUID", ALWAYS, "2.25 and a UUID that follows from these"),
    ),
)
EQUIPMENT: Final = (
    Attribute("Manufacturer", ALWAYS, MANUFACTURER),
    Attribute("ManufacturerModelName", ALWAYS, MODEL_NAME),
    Attribute("DeviceSerialNumber", ALWAYS, "SHA-256 of the weights"),
    Attribute("SoftwareVersions", ALWAYS, "of the software, and of the weights"),
)
DATE: Final = (Attribute("ContentDate", ALWAYS, ARRIVAL), Attribute("ContentTime", ALWAYS, "the same"))


def series(kind: ObjectKind, *, document: bool = False) -> tuple[Attribute, ...]:
    """What every series of ours says of itself."""
    revision = ", and the number of the revision" if document else ""
    return (
        Attribute("Modality", ALWAYS, "OT" if kind is ObjectKind.SC else kind.value),
        Attribute("SeriesInstanceUID", ALWAYS, DERIVED),
        Attribute("SeriesNumber", ALWAYS, f"{SERIES[kind].number}, unless the profile says otherwise"),
        Attribute(
            "SeriesDescription", ALWAYS, f"{SERIES[kind].description}{revision}; unless the profile says otherwise"
        ),
        Attribute("SeriesDate", ALWAYS, ARRIVAL),
        Attribute("SeriesTime", ALWAYS, "the same"),
    )


LOSSY: Final = (
    Attribute("LossyImageCompressionRatio", ANAP, f"{FROM_IMAGE}, where that was compressed with loss"),
    Attribute("LossyImageCompressionMethod", ANAP, "the same"),
)
IN_THE_CHEST: Final = Attribute("BodyPartExamined", ALWAYS, CHEST)


def referenced_series(image: str, where: str) -> tuple[Attribute, ...]:
    """The image by its series; `image` is the sequence that it stands in."""
    return (
        Attribute("ReferencedSeriesSequence", ALWAYS, where),
        Attribute("ReferencedSeriesSequence.SeriesInstanceUID", ALWAYS, FROM_IMAGE),
        Attribute(f"ReferencedSeriesSequence.{image}", ALWAYS, "one item"),
        Attribute(f"ReferencedSeriesSequence.{image}.ReferencedSOPClassUID", ALWAYS, FROM_IMAGE),
        Attribute(f"ReferencedSeriesSequence.{image}.ReferencedSOPInstanceUID", ALWAYS, FROM_IMAGE),
    )


def reference(path: str, where: str) -> tuple[Attribute, ...]:
    """The image in a sequence."""
    return (
        Attribute(path, ALWAYS, where),
        Attribute(f"{path}.ReferencedSOPClassUID", ALWAYS, FROM_IMAGE),
        Attribute(f"{path}.ReferencedSOPInstanceUID", ALWAYS, FROM_IMAGE),
    )
