"""Modules and attributes of a Secondary Capture (PS3.3 A.8.1)."""

from typing import Final

from cxr_triage.daemon.conformance.attributes import (
    ALWAYS,
    ANAP,
    DATE,
    EQUIPMENT,
    FROM_IMAGE,
    IN_THE_CHEST,
    LOSSY,
    VNAP,
    Attribute,
    Module,
    reference,
    series,
)
from cxr_triage.daemon.results.profiles import AIR
from cxr_triage.storage.result_records import ObjectKind

SECONDARY_CAPTURE: Final = (
    Module("General Series", "C.7.3.1", "M", (*series(ObjectKind.SC), IN_THE_CHEST)),
    Module("General Equipment", "C.7.5.1", "U", EQUIPMENT),
    Module("SC Equipment", "C.8.6.1", "M", (Attribute("ConversionType", ALWAYS, "WSD"),)),
    Module("General Acquisition", "C.7.10.1", "M", ()),
    Module(
        "General Image",
        "C.7.6.1",
        "M",
        (
            *DATE,
            Attribute("ImageType", ALWAYS, "DERIVED\\SECONDARY"),
            Attribute("PatientOrientation", VNAP, f"{FROM_IMAGE}, empty if that has none"),
            Attribute("BurnedInAnnotation", ALWAYS, "YES: nobody looked at what the image has burned in"),
            Attribute("LossyImageCompression", ANAP, "01 where the image was compressed with loss"),
            *LOSSY,
        ),
    ),
    Module(
        "General Reference",
        "C.12.4",
        "U",
        (
            *reference("SourceImageSequence", "the image"),
            Attribute(
                "SourceImageSequence.PurposeOfReferenceCodeSequence",
                ALWAYS,
                "Source image for image processing operation",
            ),
            Attribute("DerivationDescription", ALWAYS, "says that a drawing by AI is burned in, for research"),
        ),
    ),
    Module(
        "Image Pixel",
        "C.7.6.3",
        "M",
        (
            Attribute("SamplesPerPixel", ALWAYS, "3"),
            Attribute("PhotometricInterpretation", ALWAYS, "RGB"),
            Attribute("PlanarConfiguration", ALWAYS, "0"),
            Attribute("Rows", ALWAYS, "of the picture with the band of notes below it"),
            Attribute(
                "Columns",
                ALWAYS,
                f"its longer side is `capture_pixels` of the profile at most, {AIR.capture_pixels} by default",
            ),
            Attribute("BitsAllocated", ALWAYS, "8"),
            Attribute("BitsStored", ALWAYS, "8"),
            Attribute("HighBit", ALWAYS, "7"),
            Attribute("PixelRepresentation", ALWAYS, "0"),
            Attribute("PixelData", ALWAYS, "not compressed; square pixels, no spacing"),
        ),
    ),
    Module("SC Image", "C.8.6.2", "M", ()),
)
