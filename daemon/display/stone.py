"""The Web viewer of Stone of Orthanc. SR is read since the versions after 2.6; read at the commit named below."""

from collections import Counter
from typing import Final

from pydicom.dataset import Dataset

from cxr_triage.daemon.display import contents as of
from cxr_triage.daemon.display.rules import Look, Rule, Sheet, Viewer, every, some
from cxr_triage.model.header import items, text, value

COMMIT: Final = "orthanc-mirrors/orthanc-stone@e6ac4d5"
REPORT: Final = f"{COMMIT}, OrthancStone/Sources/Toolbox/DicomStructuredReport.cpp"
READ: Final = f"{REPORT}, ReadTID1500"
ENUMERATIONS: Final = "orthanc-mirrors/orthanc-stone, OrthancStone/Sources/StoneEnumerations.cpp, IsStructuredReport"
DRAWN: Final = frozenset({"POINT", "POLYLINE"})


def _regions(dataset: Dataset) -> list[Dataset]:
    """The coordinates that groups hold themselves; Stone looks no deeper."""
    return [item for group in of.groups(dataset) for item in of.children(group) if of.is_graphic(item)]


def _images(dataset: Dataset) -> list[Dataset]:
    return [child for region in _regions(dataset) for child in of.children(region) if of.value_type(child) == "IMAGE"]


def _is_selected(image: Dataset) -> bool:
    return (
        text(image, "RelationshipType") == "SELECTED FROM"
        and of.is_called(image, of.ORIGINAL_SOURCE)
        and len(items(image, "ReferencedSOPSequence")) == 1
    )


def _has_sources(dataset: Dataset) -> Look:
    def sourced(region: Dataset) -> bool:
        images = [child for child in of.children(region) if of.value_type(child) == "IMAGE"]
        return bool(images) and all(map(_is_selected, images))

    return every(_regions(dataset), sourced, what="regions")


def _is_in_evidence(dataset: Dataset) -> Look:
    listed = set(of.evidence(dataset))
    if not listed:
        return Look(ok=True, found="no evidence to compare with")
    referenced = [
        text(one, "ReferencedSOPInstanceUID")
        for image in _images(dataset)
        for one in items(image, "ReferencedSOPSequence")
    ]
    return every(referenced, listed.__contains__, what="images of regions")


def _is_listed_once(dataset: Dataset) -> Look:
    counted = Counter(of.evidence(dataset))
    return every(counted, lambda uid: counted[uid] == 1, what="instances of the evidence")


def _has_templates(dataset: Dataset) -> Look:
    def fits(group: Dataset) -> bool:
        follows = of.template(group)
        return follows == "1410" if any(map(of.is_graphic, of.children(group))) else bool(follows)

    return every(of.groups(dataset), fits, what="measurement groups")


MODALITY_RULE: Final = Rule(
    name="sr-modality",
    needs="Modality SR; with another the document is refused",
    change="write Modality SR (PS3.3 C.17.1)",
    source=REPORT,
    look=lambda dataset: Look(
        ok=text(dataset, "Modality") == "SR", found="Modality SR" if text(dataset, "Modality") == "SR" else "no SR"
    ),
)
OUTLINE_RULES: Final = (
    Rule(
        name="sr-class",
        needs="Comprehensive SR; of every other class, Comprehensive 3D SR too, it shows the text alone",
        change="store the same content as Comprehensive SR, 1.2.840.10008.5.1.4.1.1.88.33: profile `stone`",
        source=REPORT,
        look=lambda dataset: Look(
            ok=of.sop_class(dataset) == of.COMPREHENSIVE_SR,
            found="Comprehensive SR" if of.sop_class(dataset) == of.COMPREHENSIVE_SR else "another class of SR",
        ),
    ),
    MODALITY_RULE,
    Rule(
        name="sr-title",
        needs="the title Imaging Measurement Report (126000, DCM); with another it shows the text alone",
        change="write the title by that code (PS3.16 CID 7021)",
        source=REPORT,
        look=lambda dataset: Look(
            ok=of.is_called(dataset, of.MEASUREMENT_REPORT),
            found="title by code: " + ("126000" if of.is_called(dataset, of.MEASUREMENT_REPORT) else "another or none"),
        ),
    ),
    Rule(
        name="sr-template",
        needs="the root says that it follows TID 1500 of DCMR; where it says nothing, the document is refused",
        change="add ContentTemplateSequence with DCMR and 1500 (PS3.3 C.18.8.1.2)",
        source=f"{REPORT}, IsDicomTemplate",
        look=lambda dataset: Look(
            ok=of.template(dataset) == "1500",
            found="template: " + ("1500" if of.template(dataset) == "1500" else "other"),
        ),
    ),
    Rule(
        name="sr-evidence",
        needs="CurrentRequestedProcedureEvidenceSequence names instances; without it it shows the text alone",
        change="list every image that the report is about there (PS3.3 C.17.2)",
        source=REPORT,
        look=lambda dataset: some(len(of.evidence(dataset)), what="instances of the evidence"),
    ),
    Rule(
        name="sr-evidence-once",
        needs='no instance stands twice in the evidence: "Multiple occurrences", and the document is refused',
        change="list each instance once",
        source=READ,
        look=_is_listed_once,
    ),
    Rule(
        name="sr-groups",
        needs="Imaging Measurements (126010) holds measurement groups (125007), by codes of DCM",
        change="write the findings as measurement groups (PS3.16 TID 1500, row 6)",
        source=READ,
        look=lambda dataset: some(len(of.groups(dataset)), what="measurement groups"),
    ),
    Rule(
        name="sr-group-template",
        needs="each group says which template of DCMR it follows, and one with a region says 1410; where one says "
        "nothing, the document is refused",
        change="add ContentTemplateSequence to each group: 1410 with a region, 1501 without (PS3.3 C.18.8.1.2)",
        source=f"{READ}, IsDicomTemplate",
        look=_has_templates,
    ),
    Rule(
        name="sr-region-place",
        needs="all coordinates are those of measurement groups themselves; deeper or elsewhere they are not looked for",
        change="move the SCOORD into its group (PS3.16 TID 1410, row 5)",
        source=READ,
        look=lambda dataset: Look(
            ok=len(_regions(dataset)) == len(of.graphics(dataset)) or not of.groups(dataset),
            found=f"coordinates in groups: {len(_regions(dataset))} of {len(of.graphics(dataset))}",
        ),
    ),
    Rule(
        name="sr-region",
        needs="a region is an SCOORD that its group CONTAINS, named Image Region (111030, DCM)",
        change="write the region by that code and relationship (PS3.16 TID 1410, row 5)",
        source=READ,
        look=lambda dataset: every(
            _regions(dataset),
            lambda region: (
                of.value_type(region) == "SCOORD"
                and text(region, "RelationshipType") == "CONTAINS"
                and of.is_called(region, of.IMAGE_REGION)
            ),
            what="regions",
        ),
    ),
    Rule(
        name="sr-region-type",
        needs="a region is a POLYLINE or a POINT; others are left out",
        change="write outlines as POLYLINE",
        source=f"{REPORT}, AddStructure",
        look=lambda dataset: every(
            _regions(dataset), lambda region: text(region, "GraphicType") in DRAWN, what="regions"
        ),
    ),
    Rule(
        name="sr-region-source",
        needs="a region is SELECTED FROM an IMAGE named Original Source (111040, DCM) with one instance",
        change="name the image of each region by that code (PS3.16 TID 1410, row 5a)",
        source=READ,
        look=_has_sources,
    ),
    Rule(
        name="sr-region-known",
        needs='the image of a region stands in the evidence; else "Referencing unknown instance", and it is refused',
        change="list the image in CurrentRequestedProcedureEvidenceSequence too (PS3.3 C.17.2)",
        source=READ,
        look=_is_in_evidence,
    ),
)

TEXT_RULES: Final = (
    MODALITY_RULE,
    Rule(
        name="sr-content",
        needs="content items at the root have a value type and a name; others are left out of the text",
        change="name every item by a code with its meaning (PS3.3 8.3)",
        source=f"{REPORT}, ReadTextualReport",
        look=lambda dataset: some(
            len([item for item in of.children(dataset) if of.value_type(item) and of.code(item)]),
            what="content items with a name",
        ),
    ),
)

IMAGE_RULES: Final = (
    Rule(
        name="image-pixels",
        needs="rows, columns and pixel data",
        change="send an image that has pixels",
        source="orthanc-mirrors/orthanc-stone@e750147, OrthancStone/Sources/Toolbox/DicomInstanceParameters.cpp",
        look=lambda dataset: every(
            ("Rows", "Columns", "PixelData"), lambda keyword: value(dataset, keyword) is not None, what="pixel elements"
        ),
    ),
)

STONE: Final = Viewer(
    title="Stone",
    versions="the mainline after 2.6, at the commits named",
    sheets=(
        Sheet(
            applies=lambda dataset: of.is_sr(dataset) and of.has_graphics(dataset),
            shows="as outlines on its images",
            rules=OUTLINE_RULES,
        ),
        Sheet(applies=of.is_sr, shows="as text", rules=TEXT_RULES),
        Sheet(applies=of.is_image, shows="as an image", rules=IMAGE_RULES),
    ),
    knows="images and structured reports; no reader of segmentations, presentation states or key object selections was "
    "found in it",
    instead="send a Comprehensive SR with POLYLINE regions (profile `stone`), or a Secondary Capture",
    source=f"{ENUMERATIONS}; {REPORT}",
)
