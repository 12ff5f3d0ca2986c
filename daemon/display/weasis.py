"""Weasis: 4.6.6 and the sources after it, read at the commits named."""

from typing import Final

from pydicom.dataset import Dataset

from cxr_triage.daemon.display import contents as of
from cxr_triage.daemon.display.rules import Look, Rule, Sheet, Viewer, every, some
from cxr_triage.model.header import items, number, numbers, text, value

CODEC: Final = "weasis-dicom/weasis-dicom-codec/src/main/java/org/weasis/dicom/codec"
SEG: Final = f"nroduit/Weasis@846f642, {CODEC}/seg/SegSpecialElement.java"
REFERENCES: Final = f"nroduit/Weasis@03befff, {CODEC}/HiddenSeriesManager.java, extractReferencedSeries"
MEDIA: Final = f"nroduit/Weasis@2c3e23a, {CODEC}/DicomMediaIO.java"
STATE: Final = "nroduit/weasis-dicom-tools@5b58074, org/dcm4che3/img/data/PrDicomObject.java"
ANNOTATIONS: Final = "nroduit/Weasis, org/weasis/dicom/viewer2d/PRManager.java, read at 95ea1a4 and in its newest form"
GRAPHICS: Final = "nroduit/Weasis, org/weasis/dicom/explorer/pr/PrGraphicUtil.java, in its newest stored form"
REPORT: Final = "nroduit/Weasis@abe436e, org/weasis/dicom/sr/SRReader.java"
KEYS: Final = f"nroduit/Weasis@abe436e, {CODEC}/AbstractKOSpecialElement.java"

#: Graphic type -> how many numbers it needs at least.
NUMBERS: Final = {
    "POINT": 2,
    "ELLIPSE": 8,
    **dict.fromkeys(("POLYLINE", "INTERPOLATED", "CIRCLE", "MULTIPOINT"), 4),
    **dict.fromkeys(("MULTILINE", "RECTANGLE", "RULER", "ARROW"), 4),
}


def _modality(wanted: str) -> Rule:
    return Rule(
        name="modality",
        needs=f"Modality {wanted}: what has no pixels is told apart by it, not by its SOP class",
        change=f"write Modality {wanted}",
        source=f"{MEDIA}, setDicomSpecialType",
        look=lambda dataset: Look(
            ok=text(dataset, "Modality") == wanted,
            found=f"Modality {wanted}" if text(dataset, "Modality") == wanted else "another modality",
        ),
    )


def _has_pixels() -> Rule:
    return Rule(
        name="image-pixels",
        needs="rows, columns and pixel data",
        change="send an image that has pixels",
        source=f"{MEDIA}, isReadableDicom",
        look=lambda dataset: every(
            ("Rows", "Columns", "PixelData"), lambda keyword: value(dataset, keyword) is not None, what="pixel elements"
        ),
    )


def _is_seg(dataset: Dataset) -> bool:
    return of.sop_class(dataset) in {of.SEGMENTATION, of.LABEL_MAP_SEGMENTATION}


def _has_segments(dataset: Dataset) -> Look:
    if text(dataset, "SegmentationType") == "LABELMAP":
        return Look(ok=True, found="a label map: its pixels are the numbers")
    described = {number(segment, "SegmentNumber") for segment in items(dataset, "SegmentSequence")} - {None}

    def known(frame: Dataset) -> bool:
        return number(of.macro(frame, "SegmentIdentificationSequence"), "ReferencedSegmentNumber") in described

    return every(of.frames(dataset), known, what="frames")


def _is_listed(dataset: Dataset) -> Look:
    listed = of.referenced_instances(dataset)
    named = [text(source, "ReferencedSOPInstanceUID") for frame in of.frames(dataset) for source in of.sources(frame)]
    return every(named, listed.__contains__, what="source images of frames")


def _is_preserved(dataset: Dataset) -> Look:
    return every(
        [source for frame in of.frames(dataset) for source in of.sources(frame)],
        lambda source: text(source, "SpatialLocationsPreserved") != "NO",
        what="source images of frames",
    )


def _has_no_own_plane(dataset: Dataset) -> Look:
    if not of.of_projections(dataset):
        return Look(ok=True, found="the source images are no CR or DX, or are not named: their plane is not known here")
    if not text(dataset, "FrameOfReferenceUID"):
        return Look(ok=True, found="no Frame of Reference: frames are matched by their source images")
    groups = [of.shared(dataset), *of.frames(dataset)]
    placed = any(numbers(of.macro(group, "PlanePositionSequence"), "ImagePositionPatient") for group in groups)
    return Look(ok=not placed, found="a Frame of Reference, and " + ("plane positions" if placed else "no position"))


def _has_whole_bytes(dataset: Dataset) -> Look:
    one_bit = number(dataset, "BitsAllocated") == 1
    columns = int(number(dataset, "Columns") or 0)
    return Look(
        ok=not one_bit or columns % 8 == 0, found=f"columns: {columns}, {'one bit' if one_bit else 'bytes'} each"
    )


SEG_RULES: Final = (
    Rule(
        name="seg-frames",
        needs="PerFrameFunctionalGroupsSequence says what each frame is",
        change="add one item per frame (PS3.3 C.7.6.16)",
        source=f"{SEG}, processPerFrameSequence",
        look=lambda dataset: some(len(of.frames(dataset)), what="frames"),
    ),
    Rule(
        name="seg-segment",
        needs="each frame itself names a segment that SegmentSequence describes; one that does not is left out",
        change="add SegmentIdentificationSequence to each frame, not to the shared groups (PS3.3 C.8.20.3.1)",
        source=f"{SEG}, registerFrameLoader",
        look=_has_segments,
    ),
    Rule(
        name="seg-source-image",
        needs="each frame names its source image: a radiograph has no position by which to find it otherwise",
        change="add DerivationImageSequence with SourceImageSequence to each frame (PS3.3 C.7.6.16.2.6)",
        source=f"{SEG}, associateContours",
        look=lambda dataset: every(of.frames(dataset), lambda frame: bool(of.sources(frame)), what="frames"),
    ),
    Rule(
        name="seg-referenced",
        needs="ReferencedSeriesSequence lists the source images of the frames; contours of others are kept for nothing",
        change="list every source image there, in ReferencedInstanceSequence (PS3.3 C.12.4)",
        source=f"{REFERENCES}; {SEG}, mergeFramesIntoRefMap",
        look=_is_listed,
    ),
    Rule(
        name="seg-preserved",
        needs="no source image with Spatial Locations Preserved NO: it is then looked for by position, which a "
        "radiograph does not have",
        change="write YES, or leave it out",
        source=f"{SEG}, isSpatialLocationsPreserved",
        look=_is_preserved,
    ),
    Rule(
        name="seg-own-plane",
        needs="of a radiograph, no plane positions in a Frame of Reference: frames are then found by position alone, "
        "and a radiograph has none; earlier sources (dea8e38) go by the source images",
        change="leave the Frame of Reference and the plane macros out: profile `air` has none",
        source=f"{SEG}, processPerFrameSequence; {CODEC}/SpecialElementRegion.java, getContours",
        look=_has_no_own_plane,
    ),
    Rule(
        name="seg-columns",
        needs="columns are a multiple of 8 where a pixel is a bit: others are decoded shifted, with a false right edge",
        change="pad the image before it is segmented, or use a later version",
        source="https://github.com/nroduit/Weasis/issues/820",
        look=_has_whole_bytes,
        mended_in="4.7",
    ),
)


def _annotations(dataset: Dataset) -> list[Dataset]:
    return items(dataset, "GraphicAnnotationSequence")


def _objects(dataset: Dataset, keyword: str) -> list[Dataset]:
    return [found for annotation in _annotations(dataset) for found in items(annotation, keyword)]


def _images(dataset: Dataset) -> list[str]:
    return [
        text(image, "ReferencedSOPInstanceUID")
        for series in items(dataset, "ReferencedSeriesSequence")
        if text(series, "SeriesInstanceUID")
        for image in items(series, "ReferencedImageSequence")
    ]


def _has_layers(dataset: Dataset) -> Look:
    layers = {text(layer, "GraphicLayer") for layer in items(dataset, "GraphicLayerSequence")} - {""}
    return every(
        _annotations(dataset), lambda annotation: text(annotation, "GraphicLayer") in layers, what="graphic annotations"
    )


def _fits_images(dataset: Dataset) -> Look:
    listed = _images(dataset)

    def fits(annotation: Dataset) -> bool:
        named = [text(image, "ReferencedSOPInstanceUID") for image in items(annotation, "ReferencedImageSequence")]
        return not named or bool(set(named) & set(listed))

    return every(_annotations(dataset) if listed else (), fits, what="graphic annotations")


def _has_enough_numbers(graphic: Dataset) -> bool:
    return len(numbers(graphic, "GraphicData")) >= NUMBERS.get(text(graphic, "GraphicType"), 0)


def _has_place(words: Dataset) -> bool:
    corners = ("BoundingBoxTopLeftHandCorner", "BoundingBoxBottomRightHandCorner")
    return len(numbers(words, "AnchorPoint")) == 2 or all(len(numbers(words, corner)) == 2 for corner in corners)


STATE_RULES: Final = (
    _modality("PR"),
    Rule(
        name="pr-images",
        needs="ReferencedSeriesSequence names series and, in ReferencedImageSequence, images: it is offered for these",
        change="list the images that it is for, under their series (PS3.3 C.11.11)",
        source=f"{STATE}, isApplicableByReference",
        look=lambda dataset: some(len(list(filter(None, _images(dataset)))), what="referenced images"),
    ),
    Rule(
        name="pr-layers",
        needs="each annotation names a layer of GraphicLayerSequence; one that does not is left out",
        change="add the layer to GraphicLayerSequence (PS3.3 C.10.7)",
        source=f"{ANNOTATIONS}, isAnnotationApplicable",
        look=_has_layers,
    ),
    Rule(
        name="pr-annotation-images",
        needs="an annotation with ReferencedImageSequence names an image there that the state is for",
        change="name the image, or leave the sequence out: the annotation is then for all (PS3.3 C.10.5)",
        source=f"{ANNOTATIONS}, isAnnotationApplicable",
        look=_fits_images,
    ),
    Rule(
        name="pr-graphic-type",
        needs=f"graphics are of type {', '.join(sorted(NUMBERS))}; others are left out",
        change="write outlines as POLYLINE (PS3.3 C.10.5)",
        source=f"{GRAPHICS}, getGraphicBuilder",
        look=lambda dataset: every(
            _objects(dataset, "GraphicObjectSequence"),
            lambda graphic: text(graphic, "GraphicType") in NUMBERS,
            what="graphics",
        ),
    ),
    Rule(
        name="pr-graphic-data",
        needs="graphics have as many numbers as their type needs: two for a point, eight for an ellipse, else four",
        change="write GraphicData with x and y of every point (PS3.3 C.10.5)",
        source=f"{GRAPHICS}, getFloats and beside it",
        look=lambda dataset: every(_objects(dataset, "GraphicObjectSequence"), _has_enough_numbers, what="graphics"),
    ),
    Rule(
        name="pr-text-place",
        needs="a text has an anchor point, or both corners of a bounding box; one without is left out",
        change="add AnchorPoint or the bounding box (PS3.3 C.10.5)",
        source=f"{ANNOTATIONS}, TextObjectProcessor",
        look=lambda dataset: every(_objects(dataset, "TextObjectSequence"), _has_place, what="texts"),
    ),
)


def _is_linked(dataset: Dataset) -> Look:
    def linked(graphic: Dataset) -> bool:
        return any(
            items(child, "ReferencedSOPSequence") or numbers(child, "ReferencedContentItemIdentifier")
            for child in of.children(graphic)
        )

    plane = [graphic for graphic in of.graphics(dataset) if of.value_type(graphic) == "SCOORD"]
    return every(plane, linked, what="coordinates")


SR_RULES: Final = (
    _modality("SR"),
    Rule(
        name="sr-content",
        needs="the document has content: its tree is listed",
        change="add a ContentSequence (PS3.3 C.17.3)",
        source=REPORT,
        look=lambda dataset: some(len(of.children(dataset)), what="content items at the root"),
    ),
)
REGION_RULES: Final = (
    _modality("SR"),
    Rule(
        name="sr-image",
        needs="below an SCOORD stands the image that it is on, or a reference to it: the text links to it, and the "
        "region is drawn there",
        change="add the IMAGE that the SCOORD is SELECTED FROM as its child (PS3.3 C.18.6)",
        source=f"{REPORT}; drawn on images without the link too since nroduit/Weasis@4dd97e5, SRSpecialElement.java",
        look=_is_linked,
    ),
)
KEY_RULES: Final = (
    _modality("KO"),
    Rule(
        name="ko-images",
        needs="CurrentRequestedProcedureEvidenceSequence names the images; the content tree is not asked",
        change="list the key images there (PS3.3 C.17.6.2)",
        source=f"{KEYS}, updateHierachicalSOPInstanceReference",
        look=lambda dataset: some(len(list(filter(None, of.evidence(dataset)))), what="key images"),
    ),
)

WEASIS: Final = Viewer(
    title="Weasis",
    versions="4.6.6 and the commits named after it",
    sheets=(
        Sheet(applies=_is_seg, shows="as contours on its image", rules=SEG_RULES),
        Sheet(
            applies=lambda dataset: of.sop_class(dataset) in of.PRESENTATION_STATES,
            shows="as annotations on its images",
            rules=STATE_RULES,
        ),
        Sheet(
            applies=lambda dataset: of.is_sr(dataset) and of.has_graphics(dataset),
            shows="as text that links to its regions",
            rules=REGION_RULES,
        ),
        Sheet(applies=of.is_sr, shows="as text", rules=SR_RULES),
        Sheet(
            applies=lambda dataset: of.sop_class(dataset) == of.KEY_OBJECT_SELECTION,
            shows="as a selection of key images",
            rules=KEY_RULES,
        ),
        Sheet(applies=of.is_image, shows="as an image", rules=(_has_pixels(),)),
    ),
    knows="images, SEG, presentation states, SR and key object selections",
    instead="send one of these",
    source=MEDIA,
)
