"""Modules and attributes of a Grayscale Softcopy Presentation State (PS3.3 A.33.1)."""

from typing import Final

from cxr_triage.daemon.conformance.attributes import (
    ALWAYS,
    ANAP,
    ARRIVAL,
    EMPTY,
    EQUIPMENT,
    FROM_IMAGE,
    IN_THE_CHEST,
    Attribute,
    Module,
    reference,
    referenced_series,
    series,
)
from cxr_triage.daemon.results.presentation_state import MODALITY_LUT
from cxr_triage.storage.result_records import ObjectKind

_ANNOTATION, _AREA = "GraphicAnnotationSequence", "DisplayedAreaSelectionSequence"
_VOI: Final = "SoftcopyVOILUTSequence"
_LUT: Final = "{} of the image, entries widened to 16 bits"


def _lookup_table(path: str, what: str) -> tuple[Attribute, ...]:
    return (
        Attribute(path, ANAP, what),
        Attribute(f"{path}.LUTDescriptor", ALWAYS, "16 bits per entry"),
        Attribute(f"{path}.LUTData", ALWAYS, "widened"),
        Attribute(f"{path}.LUTExplanation", ANAP, FROM_IMAGE),
    )


PRESENTATION_STATE: Final = (
    Module("General Series", "C.7.3.1", "M", (*series(ObjectKind.PR), IN_THE_CHEST)),
    Module("Presentation Series", "C.11.9", "M", ()),
    Module("General Equipment", "C.7.5.1", "M", EQUIPMENT),
    Module(
        "Presentation State Identification",
        "C.11.10",
        "M",
        (
            Attribute("PresentationCreationDate", ALWAYS, ARRIVAL),
            Attribute("PresentationCreationTime", ALWAYS, "the same"),
            Attribute("ContentLabel", ALWAYS, "CXR_TRIAGE"),
            Attribute("ContentDescription", ALWAYS, "as the Series Description"),
            Attribute("ContentCreatorName", EMPTY, ""),
        ),
    ),
    Module(
        "Presentation State Relationship",
        "C.11.11",
        "M",
        referenced_series("ReferencedImageSequence", "the image alone"),
    ),
    Module("Presentation State Shutter", "C.11.12", "M", ()),
    Module("Presentation State Mask", "C.11.13", "M", ()),
    Module(
        "Displayed Area",
        "C.10.4",
        "M",
        (
            Attribute(_AREA, ALWAYS, "the whole image, neither turned nor mirrored"),
            Attribute(f"{_AREA}.DisplayedAreaTopLeftHandCorner", ALWAYS, "1\\1"),
            Attribute(f"{_AREA}.DisplayedAreaBottomRightHandCorner", ALWAYS, "Columns and Rows of the image"),
            Attribute(f"{_AREA}.PresentationSizeMode", ALWAYS, "SCALE TO FIT"),
            Attribute(f"{_AREA}.PresentationPixelSpacing", ANAP, "where it is known"),
            Attribute(f"{_AREA}.PresentationPixelAspectRatio", ANAP, "otherwise; 1\\1 if that is not known either"),
        ),
    ),
    Module(
        "Graphic Annotation",
        "C.10.5",
        "C",
        (
            Attribute(_ANNOTATION, ALWAYS, "one item per layer"),
            Attribute(f"{_ANNOTATION}.GraphicLayer", ALWAYS, "name of the layer"),
            *reference(f"{_ANNOTATION}.ReferencedImageSequence", "the image"),
            Attribute(f"{_ANNOTATION}.GraphicObjectSequence", ANAP, "outlines, or widths"),
            *(
                Attribute(f"{_ANNOTATION}.GraphicObjectSequence.{keyword}", ALWAYS, holds)
                for keyword, holds in (
                    ("GraphicAnnotationUnits", "PIXEL"),
                    ("GraphicDimensions", "2"),
                    ("NumberOfGraphicPoints", "of the line"),
                    ("GraphicData", "in the image's stored pixel matrix"),
                    ("GraphicType", "POLYLINE"),
                    ("GraphicFilled", "N"),
                    ("TrackingID", "name of the structure or width"),
                    ("TrackingUID", "the same in SEG, PR and SR"),
                )
            ),
            Attribute(f"{_ANNOTATION}.TextObjectSequence", ANAP, "ratio, or findings"),
            Attribute(f"{_ANNOTATION}.TextObjectSequence.UnformattedTextValue", ALWAYS, "at most 1024 characters"),
            Attribute(f"{_ANNOTATION}.TextObjectSequence.AnchorPointAnnotationUnits", ANAP, "PIXEL; of the ratio"),
            Attribute(f"{_ANNOTATION}.TextObjectSequence.AnchorPoint", ANAP, "left end of the heart's width"),
            Attribute(f"{_ANNOTATION}.TextObjectSequence.AnchorPointVisibility", ANAP, "N"),
            Attribute(f"{_ANNOTATION}.TextObjectSequence.BoundingBoxAnnotationUnits", ANAP, "DISPLAY; of findings"),
            Attribute(f"{_ANNOTATION}.TextObjectSequence.BoundingBoxTopLeftHandCorner", ANAP, "upper left"),
            Attribute(f"{_ANNOTATION}.TextObjectSequence.BoundingBoxBottomRightHandCorner", ANAP, "of the display"),
            Attribute(f"{_ANNOTATION}.TextObjectSequence.BoundingBoxTextHorizontalJustification", ANAP, "LEFT"),
        ),
    ),
    Module(
        "Graphic Layer",
        "C.10.7",
        "C",
        (
            Attribute("GraphicLayerSequence", ALWAYS, "structures, MEASUREMENTS, NOTES: those with a drawing"),
            Attribute("GraphicLayerSequence.GraphicLayer", ALWAYS, "name of the layer"),
            Attribute("GraphicLayerSequence.GraphicLayerOrder", ALWAYS, "1, 2, ..."),
            Attribute("GraphicLayerSequence.GraphicLayerRecommendedDisplayCIELabValue", ALWAYS, "of the profile"),
        ),
    ),
    Module(
        "Modality LUT",
        "C.11.1",
        "C",
        (
            *_lookup_table(MODALITY_LUT[0], _LUT.format("Modality LUT")),
            Attribute(f"{MODALITY_LUT[0]}.ModalityLUTType", ALWAYS, FROM_IMAGE),
            *(Attribute(keyword, ANAP, FROM_IMAGE) for keyword in MODALITY_LUT[1:]),
        ),
    ),
    Module(
        "Softcopy VOI LUT",
        "C.11.8",
        "C",
        (
            Attribute(_VOI, ALWAYS, "of the image; where it has none, the window that it was scored with"),
            *_lookup_table(f"{_VOI}.VOILUTSequence", _LUT.format("VOI LUT")),
            Attribute(f"{_VOI}.WindowCenter", ANAP, "where there is no VOI LUT"),
            Attribute(f"{_VOI}.WindowWidth", ANAP, "the same"),
            Attribute(f"{_VOI}.WindowCenterWidthExplanation", ANAP, FROM_IMAGE),
            Attribute(f"{_VOI}.VOILUTFunction", ANAP, FROM_IMAGE),
        ),
    ),
    Module(
        "Softcopy Presentation LUT",
        "C.11.6",
        "M",
        (Attribute("PresentationLUTShape", ALWAYS, "INVERSE where the image is shown inverted, else IDENTITY"),),
    ),
)
