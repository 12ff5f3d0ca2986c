"""dcmqi 1.5.7: segimage2itkimage and tid1500reader, read in their sources, and tried with one thing removed each."""

from typing import Final

from pydicom.dataset import Dataset

from cxr_triage.daemon.display import contents as of
from cxr_triage.daemon.display.rules import Look, Rule, Sheet, Viewer, every, some
from cxr_triage.model.header import items, number, numbers, text, value

GEOMETRY: Final = "QIICR/dcmqi@01c2435, include/dcmqi/ConverterBase.h"
CONVERTER: Final = "QIICR/dcmqi@6a08b2c, libsrc/Dicom2ItkConverterBase.cpp"
READER: Final = "QIICR/dcmqi@9c0c7bf, libsrc/TID1500Reader.cpp"
TRIED: Final = "tried with 1.5.7"

#: PS3.3 C.8.20.4.
ALGORITHM_TYPES: Final = frozenset({"AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"})
TYPES: Final = frozenset({"BINARY", "FRACTIONAL", "LABELMAP"})
#: These may stand without a concept name (PS3.3 Table C.17-5): what they refer to says it.
NAMELESS: Final = frozenset({"IMAGE", "COMPOSITE", "WAVEFORM", "SCOORD", "SCOORD3D", "TCOORD", "CONTAINER"})


def _first(dataset: Dataset, keyword: str) -> Dataset:
    """A macro as the converter takes it: of the first frame, or shared."""
    frames = of.frames(dataset)
    own = of.macro(frames[0], keyword) if frames else Dataset()
    return own or of.macro(of.shared(dataset), keyword)


def _has_orientation(dataset: Dataset) -> Look:
    given = len(numbers(_first(dataset, "PlaneOrientationSequence"), "ImageOrientationPatient"))
    return Look(ok=given == 6, found=f"numbers of the plane's orientation: {given}")


def _is_placed(dataset: Dataset) -> Look:
    return every(
        of.frames(dataset),
        lambda frame: len(numbers(of.macro(frame, "PlanePositionSequence"), "ImagePositionPatient")) == 3,
        what="frames",
    )


def _has_spacing(dataset: Dataset) -> Look:
    given = numbers(_first(dataset, "PixelMeasuresSequence"), "PixelSpacing")
    return Look(ok=len(given) == 2 and min(given) > 0, found=f"numbers of the pixel spacing: {len(given)}")


def _has_depth(dataset: Dataset) -> Look:
    measures = _first(dataset, "PixelMeasuresSequence")
    given = [keyword for keyword in ("SpacingBetweenSlices", "SliceThickness") if number(measures, keyword)]
    return Look(ok=bool(given), found=" and ".join(given) or "neither SpacingBetweenSlices nor SliceThickness")


def _has_segments(dataset: Dataset) -> Look:
    described = {number(segment, "SegmentNumber") for segment in items(dataset, "SegmentSequence")} - {None}

    def known(frame: Dataset) -> bool:
        return number(of.macro(frame, "SegmentIdentificationSequence"), "ReferencedSegmentNumber") in described

    if text(dataset, "SegmentationType") == "LABELMAP" or not described:
        return Look(ok=True, found="no segment numbers of frames to look at")
    return every(of.frames(dataset), known, what="frames")


SEG_RULES: Final = (
    Rule(
        name="seg-type",
        needs='Segmentation Type BINARY, FRACTIONAL or LABELMAP; else "Failed to load segmentation dataset"',
        change="write Segmentation Type (PS3.3 C.8.20.2)",
        source=f"{CONVERTER}; {TRIED}",
        look=lambda dataset: Look(
            ok=text(dataset, "SegmentationType") in TYPES,
            found="Segmentation Type: "
            + ("known" if text(dataset, "SegmentationType") in TYPES else "unknown or none"),
        ),
    ),
    Rule(
        name="seg-pixels",
        needs='pixel data and Number of Frames; else "Invalid Pixel Data" or "Number of Frames not set"',
        change="write both (PS3.3 C.7.6.6)",
        source=f"{CONVERTER}; {TRIED}",
        look=lambda dataset: every(
            ("PixelData", "NumberOfFrames"), lambda keyword: value(dataset, keyword) is not None, what="pixel elements"
        ),
    ),
    Rule(
        name="seg-plane-orientation",
        needs='a plane orientation of the first frame or shared; else "Failed to get image directions"',
        change="add PlaneOrientationSequence to the shared groups; for a radiograph the nominal 1\\0\\0\\0\\1\\0: "
        "profile `ohif` does that",
        source=f"{GEOMETRY}, getImageDirections; {TRIED}",
        look=_has_orientation,
    ),
    Rule(
        name="seg-plane-position",
        needs="a plane position of each frame itself, not a shared one; without one of the first frame it crashes",
        change="add PlanePositionSequence to each frame; for a radiograph the nominal 0\\0\\0",
        source=f"{GEOMETRY}, computeVolumeExtent; {TRIED}",
        look=_is_placed,
    ),
    Rule(
        name="seg-pixel-spacing",
        needs="PixelMeasuresSequence with Pixel Spacing; without it it fails or crashes",
        change="add PixelMeasuresSequence with PixelSpacing to the shared groups",
        source=f"{GEOMETRY}, getDeclaredImageSpacing; {TRIED}",
        look=_has_spacing,
    ),
    Rule(
        name="seg-slice-spacing",
        needs='Spacing Between Slices or Slice Thickness; else "No sufficient information to derive slice spacing"',
        change="add SliceThickness to PixelMeasuresSequence; for a radiograph any number but 0",
        source=f"{GEOMETRY}, getDeclaredImageSpacing; {CONVERTER}, extractBasicSegmentationInfo; {TRIED}",
        look=_has_depth,
    ),
    Rule(
        name="seg-segments",
        needs="SegmentSequence describes segments: an image is written for each",
        change="describe every segment (PS3.3 C.8.20.2)",
        source="QIICR/dcmqi@6a08b2c, libsrc/Dicom2ItkConverterBin.cpp; " + TRIED,
        look=lambda dataset: some(len(items(dataset, "SegmentSequence")), what="segments"),
    ),
    Rule(
        name="seg-segment-number",
        needs="each frame names one of the segments; the pixels of one that does not are left out",
        change="add SegmentIdentificationSequence to each frame (PS3.3 C.8.20.3.1)",
        source="QIICR/dcmqi@6a08b2c, libsrc/Dicom2ItkConverterBin.cpp; " + TRIED,
        look=_has_segments,
    ),
    Rule(
        name="seg-algorithm-type",
        needs='each segment has an algorithm type; else "AlgorithmType is not valid"',
        change="write SegmentAlgorithmType (PS3.3 C.8.20.4)",
        source=f"{CONVERTER}, addSegmentMetadata; {TRIED}",
        look=lambda dataset: every(
            items(dataset, "SegmentSequence"),
            lambda segment: text(segment, "SegmentAlgorithmType") in ALGORITHM_TYPES,
            what="segments",
        ),
    ),
)


def _read_groups(dataset: Dataset) -> Look:
    return some(
        len([group for group in of.groups(dataset) if of.children(group)]), what="measurement groups with content"
    )


SR_RULES: Final = (
    Rule(
        name="sr-title",
        needs="the document has a title by code; DCMTK does not read it otherwise",
        change="add ConceptNameCodeSequence at the root (PS3.3 C.17.3)",
        source=f"QIICR/dcmqi@9720beb, apps/sr/tid1500reader.cxx, on DCMTK's DSRDocument; {TRIED}",
        look=lambda dataset: Look(
            ok=of.code(dataset) is not None, found="title by code: " + ("there" if of.code(dataset) else "none")
        ),
    ),
    Rule(
        name="sr-names",
        needs="every item with a value of its own has a concept name; one without, and nothing is read",
        change="give every item a ConceptNameCodeSequence (PS3.3 Table C.17-5)",
        source=f"DCMTK's DSRDocument; {TRIED}",
        look=lambda dataset: every(
            [item for item in of.walk(dataset) if of.value_type(item) not in NAMELESS],
            lambda item: of.code(item) is not None,
            what="content items with a value",
        ),
    ),
    Rule(
        name="sr-relationships",
        needs="every item says how it belongs to its parent; one that does not, and nothing is read",
        change="write RelationshipType of every item (PS3.3 C.17.3)",
        source=f"DCMTK's DSRDocument; {TRIED}",
        look=lambda dataset: every(
            of.walk(dataset), lambda item: bool(text(item, "RelationshipType")), what="content items"
        ),
    ),
    Rule(
        name="sr-groups",
        needs="Imaging Measurements (126010) holds measurement groups (125007) with content: nothing else is read",
        change="write the findings as measurement groups (PS3.16 TID 1500, row 6)",
        source=f"{READER}, getMeasurements; {TRIED}",
        look=_read_groups,
    ),
)

DCMQI: Final = Viewer(
    title="dcmqi",
    versions="1.5.7",
    sheets=(
        Sheet(
            applies=lambda dataset: of.sop_class(dataset) in {of.SEGMENTATION, of.LABEL_MAP_SEGMENTATION},
            shows="as an image file for each segment (segimage2itkimage)",
            rules=SEG_RULES,
        ),
        Sheet(applies=of.is_sr, shows="as JSON (tid1500reader)", rules=SR_RULES),
    ),
    knows="SEG and TID 1500 SR",
    instead="send a SEG or a TID 1500 SR",
    source=f"{CONVERTER}, getConverter; {READER}",
)
