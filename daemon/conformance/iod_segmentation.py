"""Modules and attributes of a Segmentation (PS3.3 A.51)."""

from typing import Final

from cxr_triage.daemon.conformance.attributes import (
    ALWAYS,
    ANAP,
    DATE,
    DERIVED,
    EQUIPMENT,
    FROM_IMAGE,
    LOSSY,
    Attribute,
    Module,
    reference,
    referenced_series,
    series,
)
from cxr_triage.daemon.results.finishing import MANUFACTURER
from cxr_triage.daemon.results.segmentation import NOMINAL_ORIENTATION
from cxr_triage.model.findings import STRUCTURES
from cxr_triage.storage.result_records import ObjectKind

_NAMES: Final = ", ".join(structure.code.meaning for structure in STRUCTURES)
_ORIENTATION: Final = "\\".join(str(value) for value in NOMINAL_ORIENTATION)


_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_DERIVATION: Final = f"{_PER_FRAME}.DerivationImageSequence"
_PLANE: Final = "only with a nominal plane (profile `ohif`)"
SEGMENTATION: Final = (
    Module("General Series", "C.7.3.1", "M", series(ObjectKind.SEG)),
    Module("Segmentation Series", "C.8.20.1", "M", ()),
    Module(
        "Frame of Reference",
        "C.7.4.1",
        "C",
        (
            Attribute("FrameOfReferenceUID", ANAP, f"{DERIVED}, that nothing else has; {_PLANE}"),
            Attribute("PositionReferenceIndicator", ANAP, f"empty; {_PLANE}"),
        ),
    ),
    Module("General Equipment", "C.7.5.1", "M", ()),
    Module("Enhanced General Equipment", "C.7.5.2", "M", EQUIPMENT),
    Module(
        "General Image",
        "C.7.6.1",
        "M",
        (
            *DATE,
            Attribute("PatientOrientation", ANAP, f"{FROM_IMAGE}, empty if that has none; without a nominal plane"),
            Attribute("PresentationLUTShape", ALWAYS, "IDENTITY"),
            Attribute("LossyImageCompression", ALWAYS, "01 where the image was compressed with loss, else 00"),
            *LOSSY,
        ),
    ),
    Module(
        "General Reference",
        "C.12.4",
        "U",
        reference("SourceImageSequence", "the image"),
    ),
    Module(
        "Image Pixel",
        "C.7.6.3",
        "M",
        (
            Attribute("Rows", ALWAYS, FROM_IMAGE),
            Attribute("Columns", ALWAYS, FROM_IMAGE),
            Attribute("PixelData", ALWAYS, "not compressed"),
        ),
    ),
    Module(
        "Segmentation Image",
        "C.8.20.2",
        "M",
        (
            Attribute("ImageType", ALWAYS, "DERIVED\\PRIMARY"),
            Attribute("SamplesPerPixel", ALWAYS, "1"),
            Attribute("PhotometricInterpretation", ALWAYS, "MONOCHROME2"),
            Attribute("BitsAllocated", ALWAYS, "1"),
            Attribute("BitsStored", ALWAYS, "1"),
            Attribute("HighBit", ALWAYS, "0"),
            Attribute("PixelRepresentation", ALWAYS, "0"),
            Attribute("SegmentationType", ALWAYS, "BINARY"),
            Attribute("SegmentsOverlap", ALWAYS, "YES"),
            Attribute("ContentLabel", ALWAYS, "CXR_TRIAGE"),
            Attribute("ContentDescription", ALWAYS, "as the Series Description"),
            Attribute("SegmentSequence", ALWAYS, f"{_NAMES}: in this order, left and right are the patient's"),
            Attribute("SegmentSequence.SegmentNumber", ALWAYS, "1 to 3"),
            Attribute("SegmentSequence.SegmentLabel", ALWAYS, "meaning of the structure's code"),
            Attribute("SegmentSequence.SegmentedPropertyCategoryCodeSequence", ALWAYS, "Anatomical Structure"),
            Attribute("SegmentSequence.SegmentedPropertyTypeCodeSequence", ALWAYS, "the structure"),
            Attribute("SegmentSequence.SegmentAlgorithmType", ALWAYS, "AUTOMATIC"),
            Attribute("SegmentSequence.SegmentAlgorithmName", ALWAYS, "name of the weights"),
            Attribute("SegmentSequence.SegmentationAlgorithmIdentificationSequence", ALWAYS, "one item"),
            *(
                Attribute(f"SegmentSequence.SegmentationAlgorithmIdentificationSequence.{keyword}", ALWAYS, holds)
                for keyword, holds in (
                    ("AlgorithmFamilyCodeSequence", "Artificial Intelligence"),
                    ("AlgorithmName", "name of the weights"),
                    ("AlgorithmVersion", "their version"),
                    ("AlgorithmSource", MANUFACTURER),
                    ("AlgorithmParameters", "weights-sha256="),
                )
            ),
            Attribute("SegmentSequence.RecommendedDisplayCIELabValue", ALWAYS, "of the profile"),
            Attribute("SegmentSequence.TrackingID", ALWAYS, "meaning of the structure's code"),
            Attribute("SegmentSequence.TrackingUID", ALWAYS, "the same in SEG, PR and SR"),
        ),
    ),
    Module(
        "Multi-frame Functional Groups",
        "C.7.6.16",
        "M",
        (
            Attribute("NumberOfFrames", ALWAYS, "3: one per segment, also where its mask is empty"),
            Attribute(_SHARED, ALWAYS, "one item; plane and measures: " + _PLANE),
            Attribute(f"{_SHARED}.PlaneOrientationSequence", ANAP, _PLANE),
            Attribute(f"{_SHARED}.PlaneOrientationSequence.ImageOrientationPatient", ALWAYS, _ORIENTATION),
            Attribute(f"{_SHARED}.PixelMeasuresSequence", ANAP, _PLANE),
            Attribute(
                f"{_SHARED}.PixelMeasuresSequence.PixelSpacing",
                ALWAYS,
                "the spacing in which the image is shown; 1\\1 if unknown",
            ),
            Attribute(f"{_SHARED}.PixelMeasuresSequence.SliceThickness", ALWAYS, "1"),
            Attribute(f"{_SHARED}.PixelMeasuresSequence.SpacingBetweenSlices", ALWAYS, "1"),
            Attribute(_PER_FRAME, ALWAYS, "one item per segment"),
            Attribute(f"{_PER_FRAME}.FrameContentSequence", ALWAYS, "one item"),
            Attribute(
                f"{_PER_FRAME}.FrameContentSequence.DimensionIndexValues",
                ALWAYS,
                "number of the segment; and 1, with a nominal plane",
            ),
            Attribute(f"{_PER_FRAME}.PlanePositionSequence", ANAP, _PLANE),
            Attribute(f"{_PER_FRAME}.PlanePositionSequence.ImagePositionPatient", ALWAYS, "0\\0\\0"),
            Attribute(_DERIVATION, ALWAYS, "one item"),
            Attribute(f"{_DERIVATION}.DerivationCodeSequence", ALWAYS, "Segmentation"),
            *reference(f"{_DERIVATION}.SourceImageSequence", "the image"),
            Attribute(
                f"{_DERIVATION}.SourceImageSequence.PurposeOfReferenceCodeSequence",
                ALWAYS,
                "Source image for image processing operation",
            ),
            Attribute(f"{_DERIVATION}.SourceImageSequence.SpatialLocationsPreserved", ALWAYS, "YES"),
            Attribute(f"{_PER_FRAME}.SegmentIdentificationSequence", ALWAYS, "one item"),
            Attribute(
                f"{_PER_FRAME}.SegmentIdentificationSequence.ReferencedSegmentNumber", ALWAYS, "number of the segment"
            ),
        ),
    ),
    Module(
        "Multi-frame Dimension",
        "C.7.6.17",
        "M",
        (
            Attribute("DimensionOrganizationSequence", ALWAYS, "one item"),
            Attribute("DimensionOrganizationSequence.DimensionOrganizationUID", ALWAYS, DERIVED),
            Attribute("DimensionIndexSequence", ALWAYS, "segment; and position, with a nominal plane"),
            Attribute("DimensionIndexSequence.DimensionOrganizationUID", ALWAYS, "the same"),
            Attribute("DimensionIndexSequence.DimensionIndexPointer", ALWAYS, "Referenced Segment Number"),
            Attribute("DimensionIndexSequence.FunctionalGroupPointer", ALWAYS, "Segment Identification Sequence"),
            Attribute("DimensionIndexSequence.DimensionDescriptionLabel", ALWAYS, "name of the attribute"),
        ),
    ),
    Module("Common Instance Reference", "C.12.2", "C", referenced_series("ReferencedInstanceSequence", "the image")),
)
