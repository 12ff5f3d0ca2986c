"""OHIF 3.12.10 and 3.13.2: read in the npm packages @ohif/app of these versions, which hold the sources as built."""

from itertools import product
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from cxr_triage.daemon.display import contents as of
from cxr_triage.daemon.display.rules import Look, LookAt, Rule, Sheet, Viewer, every, some
from cxr_triage.model.header import items, number, numbers, text, value

SEG_HANDLER: Final = "OHIF/Viewers, cornerstone-dicom-seg/src/getSopClassHandlerModule.ts"
SERVICE: Final = "OHIF/Viewers, DisplaySetService.getDisplaySetsForReferences"
LABEL_MAPS: Final = "cornerstonejs/cornerstone3D, adapters, Cornerstone3D/Segmentation/labelmapImagesFromBuffer.ts"
PIXELS: Final = "cornerstonejs/cornerstone3D, adapters, Cornerstone/Segmentation_4X.js"
SR_HANDLER: Final = "OHIF/Viewers, cornerstone-dicom-sr/src/getSopClassHandlerModule.ts"
SR_TOOL: Final = "OHIF/Viewers, cornerstone-dicom-sr/src/tools/DICOMSRDisplayTool.ts"
SR_TEXT: Final = "OHIF/Viewers, cornerstone-dicom-sr/src/components/OHIFCornerstoneSRViewport.tsx"
STACK: Final = "OHIF/Viewers, extensions/default/src/getSopClassHandlerModule.js"

#: That handler's list, by what follows 1.2.840.10008.5.1.4.1.1.
STACK_CLASSES: Final = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{end}"
    for end in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1"),
        *("2", "2.1", "2.2", "3.1", "4", "4.1", "4.3", "4.4", "6.1", "6.2"),
        *("7", "7.1", "7.2", "7.3", "7.4", "12.1", "12.1.1", "12.2", "12.2.1"),
        *("13.1.1", "13.1.2", "13.1.3", "13.1.4", "13.1.5", "14.1", "14.2", "20"),
        *("77.1.1", "77.1.1.1", "77.1.2", "77.1.2.1", "77.1.3", "77.1.4", "77.1.4.1"),
        *("77.1.5.1", "77.1.5.2", "77.1.5.4", "128", "128.1", "130", "481.1", "481.2"),
    )
)
SR_CLASSES: Final = frozenset({of.BASIC_TEXT_SR, of.ENHANCED_SR, of.COMPREHENSIVE_SR, of.COMPREHENSIVE_3D_SR})
GRAPHIC_TYPES: Final = frozenset({"POINT", "MULTIPOINT", "POLYLINE", "CIRCLE", "ELLIPSE"})
#: What cornerstone takes for the orientation of an image that states none, turned and flipped in its plane.
IN_PLANE: Final = frozenset(
    {(a, 0, 0, 0, b, 0) for a, b in product((1, -1), repeat=2)}
    | {(0, a, 0, b, 0, 0) for a, b in product((1, -1), repeat=2)}
)


def _is_seg(dataset: Dataset) -> bool:
    return of.sop_class(dataset) in {of.SEGMENTATION, of.LABEL_MAP_SEGMENTATION}


def _is_report(dataset: Dataset) -> bool:
    # Only the code's value is compared.
    named = of.code(dataset)
    return of.sop_class(dataset) in SR_CLASSES and named is not None and named.value == of.MEASUREMENT_REPORT


def _orientation(dataset: Dataset, frame: Dataset) -> tuple[float, ...]:
    for group in (of.shared(dataset), frame):
        found = numbers(of.macro(group, "PlaneOrientationSequence"), "ImageOrientationPatient")
        if found:
            return found
    return ()


def _has_orientation(dataset: Dataset) -> Look:
    return every(of.frames(dataset), lambda frame: len(_orientation(dataset, frame)) == 6, what="frames")


def _is_in_plane(dataset: Dataset) -> Look:
    if not of.of_projections(dataset):
        return Look(ok=True, found="the source images are no CR or DX, or are not named: their plane is not known here")
    found = [orientation for frame in of.frames(dataset) if (orientation := _orientation(dataset, frame))]
    return every(found, lambda orientation: tuple(map(round, orientation)) in IN_PLANE, what="planes of frames")


def _is_drawable_type(dataset: Dataset) -> Look:
    kind = text(dataset, "SegmentationType")
    if kind in {"BINARY", "LABELMAP"}:
        return Look(ok=True, found=f"Segmentation Type {kind}")
    return Look(ok=_has_two_values(dataset), found="Segmentation Type is neither BINARY nor LABELMAP")


def _has_two_values(dataset: Dataset) -> bool:
    """A fractional segmentation of nothing but 0 and the maximum is taken as binary."""
    pixels, maximum = value(dataset, "PixelData"), number(dataset, "MaximumFractionalValue")
    return isinstance(pixels, bytes) and maximum is not None and not set(pixels) - {0, int(maximum)}


def _has_segment_numbers(dataset: Dataset) -> Look:
    shared = of.macro(of.shared(dataset), "SegmentIdentificationSequence")

    def numbered(frame: Dataset) -> bool:
        own = of.macro(frame, "SegmentIdentificationSequence")
        return number(own or shared, "ReferencedSegmentNumber") is not None

    if text(dataset, "SegmentationType") == "LABELMAP":
        return Look(ok=True, found="a label map: its pixels are the numbers")
    return every(of.frames(dataset), numbered, what="frames")


def _is_uncompressed(dataset: Dataset) -> Look:
    syntax = UID(text(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID"))
    if not syntax.is_transfer_syntax:
        return Look(ok=True, found="no transfer syntax that the standard has")
    return Look(ok=not syntax.is_encapsulated, found=syntax.name)


SEG_RULES: Final = (
    Rule(
        name="seg-referenced-series",
        needs="ReferencedSeriesSequence names the series of the source; without it the SEG is left out",
        change="add ReferencedSeriesSequence with the source's Series Instance UID (PS3.3 C.12.4)",
        source=SEG_HANDLER,
        look=lambda dataset: some(
            len([one for one in items(dataset, "ReferencedSeriesSequence") if text(one, "SeriesInstanceUID")]),
            what="referenced series",
        ),
    ),
    Rule(
        name="seg-referenced-instances",
        needs="every referenced series lists its instances: it iterates over them, and throws where there are none",
        change="add ReferencedInstanceSequence to every item of ReferencedSeriesSequence (PS3.3 C.12.4)",
        source=SERVICE,
        look=lambda dataset: every(
            items(dataset, "ReferencedSeriesSequence"),
            lambda series: bool(items(series, "ReferencedInstanceSequence")),
            what="referenced series with instances",
        ),
    ),
    Rule(
        name="seg-frames",
        needs="PerFrameFunctionalGroupsSequence says what each frame is",
        change="add one item per frame (PS3.3 C.7.6.16)",
        source=LABEL_MAPS,
        look=lambda dataset: some(len(of.frames(dataset)), what="frames"),
    ),
    Rule(
        name="seg-shared-groups",
        needs="SharedFunctionalGroupsSequence has an item: the loader writes into it",
        change="add SharedFunctionalGroupsSequence with one item (PS3.3 C.7.6.16)",
        source="dcmjs-org/dcmjs 0.49.4, src/normalizers.js, ImageNormalizer.normalizeMultiframe",
        look=lambda dataset: some(len(items(dataset, "SharedFunctionalGroupsSequence")), what="shared groups"),
    ),
    Rule(
        name="seg-plane-orientation",
        needs="a plane orientation, shared or for each frame; else it throws \"reading 'ImageOrientationPatient'\"",
        change="add PlaneOrientationSequence to the shared groups; for a radiograph the nominal 1\\0\\0\\0\\1\\0, "
        "with a Frame of Reference that nothing shares: profile `ohif` does that",
        source="cornerstonejs/cornerstone3D, adapters, helpers/checkOrientation.ts",
        look=_has_orientation,
    ),
    Rule(
        name="seg-in-plane",
        needs="frames lie in the plane of the image, turned or flipped; one that states no orientation, as a "
        "radiograph, is taken to have 1\\0\\0\\0\\1\\0",
        change="write the orientation 1\\0\\0\\0\\1\\0 for radiographs",
        source=f"{PIXELS}, getValidOrientations",
        look=_is_in_plane,
    ),
    Rule(
        name="seg-type",
        needs='BINARY or LABELMAP, or FRACTIONAL with nothing but 0 and the maximum; else "not yet supported"',
        change="write Segmentation Type BINARY: one bit per pixel, a frame for each segment",
        source=f"{PIXELS}, unpackPixelData",
        look=_is_drawable_type,
    ),
    Rule(
        name="seg-segment-number",
        needs='each frame names its segment; else "Could not retrieve the segment index"',
        change="add SegmentIdentificationSequence with ReferencedSegmentNumber to each frame (PS3.3 C.8.20.3.1)",
        source=f"{PIXELS}, getSegmentIndex",
        look=_has_segment_numbers,
    ),
    Rule(
        name="seg-source-image",
        needs="each frame names its source image; a radiograph has no position by which to find it otherwise, and "
        "where segments overlap nothing else is looked at",
        change="add DerivationImageSequence with SourceImageSequence to each frame (PS3.3 C.7.6.16.2.6)",
        source=f"{PIXELS}, findReferenceSourceImageId",
        look=lambda dataset: every(of.frames(dataset), lambda frame: bool(of.sources(frame)), what="frames"),
    ),
    Rule(
        name="seg-uncompressed",
        needs="pixel data are not compressed: the SEG is read as a whole, and its bytes as they are",
        change="store it as Explicit VR Little Endian",
        source=f"{LABEL_MAPS}, 4.15.29",
        look=_is_uncompressed,
        mended_in="3.13.2",
    ),
)


def _graphic(group: Dataset) -> Dataset | None:
    """What is drawn of a group: its first coordinates, else the first below its numbers."""
    own = [item for item in of.children(group) if of.is_graphic(item)]
    below = [of.children(item)[0] for item in of.children(group) if of.value_type(item) == "NUM" and of.children(item)]
    return next(iter([*own, *filter(of.is_graphic, below)]), None)


def _drawn(dataset: Dataset) -> list[Dataset]:
    return [graphic for group in of.groups(dataset) if (graphic := _graphic(group)) is not None]


def _has_names(dataset: Dataset) -> Look:
    read = [*of.children(dataset)]
    read += [item for found in of.measurements(dataset) for item in of.children(found)]
    read += [item for group in of.groups(dataset) for item in of.children(group)]
    return every(read, lambda item: of.code(item) is not None, what="content items that are read")


def _holds(value_type: str, concept: str, keyword: str) -> LookAt:
    def good(group: Dataset) -> bool:
        return any(
            of.value_type(item) == value_type and of.is_called(item, concept) and text(item, keyword)
            for item in of.children(group)
        )

    return lambda dataset: every(of.groups(dataset), good, what="measurement groups")


def _has_own_tracking(dataset: Dataset) -> Look:
    named = [
        text(item, "UID")
        for group in of.groups(dataset)
        for item in of.children(group)
        if of.value_type(item) == "UIDREF" and of.is_called(item, of.TRACKING_UID)
    ]
    return every(named, lambda uid: named.count(uid) == 1, what="tracking UIDs of groups")


def _has_one_region(dataset: Dataset) -> Look:
    return every(
        of.groups(dataset), lambda group: sum(map(of.is_graphic, of.children(group))) <= 1, what="measurement groups"
    )


def _is_placed(dataset: Dataset) -> Look:
    def placed(graphic: Dataset) -> bool:
        if of.value_type(graphic) == "SCOORD3D":
            return of.sop_class(dataset) == of.COMPREHENSIVE_3D_SR and bool(
                text(graphic, "ReferencedFrameOfReferenceUID")
            )
        first = next(iter(of.children(graphic)), Dataset())
        return any(text(one, "ReferencedSOPInstanceUID") for one in items(first, "ReferencedSOPSequence"))

    return every(_drawn(dataset), placed, what="coordinates")


REPORT_RULES: Final = (
    Rule(
        name="sr-names",
        needs="every content item that is read has a concept name; the first without one throws",
        change="give every item of the root, of Imaging Measurements and of the groups a ConceptNameCodeSequence",
        source=SR_HANDLER,
        look=_has_names,
    ),
    Rule(
        name="sr-groups",
        needs="Imaging Measurements (126010) holds measurement groups (125007): nothing else of a report is shown",
        change="write the findings as measurement groups (PS3.16 TID 1500, row 6), or a report with another title than "
        "126000, which is shown as text",
        source=SR_HANDLER,
        look=lambda dataset: some(len(of.groups(dataset)), what="measurement groups"),
    ),
    Rule(
        name="sr-tracking-uid",
        needs="each group has a Tracking Unique Identifier (112040); without it it throws",
        change="add the UIDREF with a UID for each group (PS3.16 TID 1501 and 1410, row 2)",
        source=SR_HANDLER,
        look=_holds("UIDREF", of.TRACKING_UID, "UID"),
    ),
    Rule(
        name="sr-tracking-identifier",
        needs="each group has a Tracking Identifier (112039), which is what is shown of its name; without it it throws",
        change="add the TEXT with the finding's name for each group (PS3.16 TID 1501 and 1410, row 1)",
        source=SR_HANDLER,
        look=_holds("TEXT", of.TRACKING_IDENTIFIER, "TextValue"),
    ),
    Rule(
        name="sr-coordinates",
        needs="each group has an SCOORD or SCOORD3D, of its own or below a NUM; one without blanks the page",
        change="write a region for each group, the box around the image if there is no other (PS3.16 TID 1410): "
        "profile `ohif` does that",
        source=f"{SR_HANDLER}: coords of a group without are empty, and coords[0] is read; observed too",
        look=lambda dataset: every(
            of.groups(dataset), lambda group: _graphic(group) is not None, what="measurement groups"
        ),
    ),
    Rule(
        name="sr-tracking-apart",
        needs="each group has a tracking UID of its own: groups with the same are merged, and one region is drawn",
        change="give every group another Tracking Unique Identifier, also for one finding in two images",
        source=f"{SR_HANDLER}, _getMergedContentSequencesByTrackingUniqueIdentifiers",
        look=_has_own_tracking,
    ),
    Rule(
        name="sr-one-region",
        needs="a group has one SCOORD: the first is drawn, the others are not",
        change="write a group for each region (PS3.16 TID 1410)",
        source=f"{SR_HANDLER}, _processTID1410Measurement",
        look=_has_one_region,
    ),
    Rule(
        name="sr-graphic-type",
        needs="coordinates are POINT, MULTIPOINT, POLYLINE, CIRCLE or ELLIPSE; another throws when it is drawn",
        change="write outlines as POLYLINE",
        source=SR_TOOL,
        look=lambda dataset: every(
            _drawn(dataset), lambda graphic: text(graphic, "GraphicType") in GRAPHIC_TYPES, what="coordinates"
        ),
    ),
    Rule(
        name="sr-image",
        needs="the first item below an SCOORD references its image; an SCOORD3D is drawn by its Frame of Reference, "
        "from Comprehensive 3D SR only",
        change="add the IMAGE that the SCOORD is SELECTED FROM as its first child (PS3.3 C.18.6)",
        source=SR_HANDLER,
        look=_is_placed,
    ),
)

TEXT_RULES: Final = (
    Rule(
        name="sr-content",
        needs="the document has content: its tree is listed",
        change="add a ContentSequence (PS3.3 C.17.3)",
        source=SR_TEXT,
        look=lambda dataset: some(len(of.children(dataset)), what="content items at the root"),
    ),
)

IMAGE_RULES: Final = (
    Rule(
        name="image-pixels",
        needs="rows, columns and pixel data",
        change="send an image that has pixels",
        source=STACK,
        look=lambda dataset: every(
            ("Rows", "Columns", "PixelData"), lambda keyword: value(dataset, keyword) is not None, what="pixel elements"
        ),
    ),
    Rule(
        name="image-voi-function",
        needs='no VOI LUT Function, whatever it says; 3.13.2 throws "Invalid VOI LUT function" and sets no window, so '
        "that most such images stay black; 3.12.10 draws them",
        change="leave VOILUTFunction out: its default is LINEAR (PS3.3 C.11.2.1.3)",
        source="cornerstonejs/cornerstone3D, core/src/utilities/windowLevel.ts, toLowHighRange; observed on a DX",
        look=lambda dataset: Look(
            ok="VOILUTFunction" not in dataset,
            found="VOI LUT Function: " + ("there" if "VOILUTFunction" in dataset else "none"),
        ),
    ),
)

OHIF: Final = Viewer(
    title="OHIF",
    versions="3.12.10 and 3.13.2, as built into @ohif/app",
    sheets=(
        Sheet(applies=_is_seg, shows="as an overlay on its image", rules=SEG_RULES),
        Sheet(applies=_is_report, shows="as outlines with values on its images", rules=REPORT_RULES),
        Sheet(applies=lambda dataset: of.sop_class(dataset) in SR_CLASSES, shows="as text", rules=TEXT_RULES),
        Sheet(applies=lambda dataset: of.sop_class(dataset) in STACK_CLASSES, shows="as an image", rules=IMAGE_RULES),
    ),
    knows="SEG, Basic Text, Enhanced, Comprehensive and Comprehensive 3D SR, and common image classes; no handler "
    "takes a presentation state or a key object selection",
    instead="send a SEG, a TID 1500 SR or a Secondary Capture that says the same",
    source=f"{SEG_HANDLER}; {SR_HANDLER}; {STACK}",
)
