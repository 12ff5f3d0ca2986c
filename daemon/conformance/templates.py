"""Which templates of PS3.16 our documents are made by, and where in them."""

from typing import Final, NamedTuple

from cxr_triage.daemon.conformance.markdown import table


class Template(NamedTuple):
    """A template of PS3.16."""

    tid: str
    name: str
    #: What of ours is made by it.
    where: str
    #: Whether a container of ours names it in Content Template Sequence (0040,A504).
    declared: bool


_MEASURED: Final = "Comprehensive and Comprehensive 3D SR"
TEMPLATES: Final = (
    Template("1500", "Measurement Report", f"{_MEASURED}: root", declared=True),
    Template("1204", "Language of Content Item and Descendants", "SR: en-US", declared=False),
    Template("1001", "Observation Context", f"{_MEASURED}: the observer is a device", declared=False),
    Template("1002", "Observer Context", "all documents", declared=False),
    Template(
        "1004",
        "Device Observer Identifying Attributes",
        "all documents: this software with its weights",
        declared=False,
    ),
    Template("1600", "Image Library", f"{_MEASURED}: the images, one group per modality", declared=False),
    Template("1602", "Image Library Entry Descriptors", f"{_MEASURED}: of each image", declared=False),
    Template(
        "1603",
        "Image Library Entry Descriptors for Projection Radiography",
        f"{_MEASURED}: of each image",
        declared=False,
    ),
    Template(
        "1501",
        "Measurement and Qualitative Evaluation Group",
        f"{_MEASURED}: a finding, or a structure without a segment",
        declared=True,
    ),
    Template(
        "1410",
        "Planar ROI Measurements and Qualitative Evaluations",
        f"{_MEASURED}: a structure by its segment; with a coordinate in every group, all",
        declared=True,
    ),
    Template("4108", "Tracking Identifier", f"{_MEASURED}: of every group", declared=False),
    Template(
        "4019",
        "Algorithm Identification",
        f"{_MEASURED}: of every group; the SHA-256 of the weights is a parameter",
        declared=False,
    ),
    Template("300", "Measurement", f"{_MEASURED}: probability, threshold, ratio, areas", declared=False),
    Template("2010", "Key Object Selection", "Key Object Selection Document: root", declared=True),
)


def templates_table() -> str:
    """All of them."""
    return table(("TID", "name", "where"), [(each.tid, each.name, each.where) for each in TEMPLATES])
