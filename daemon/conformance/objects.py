"""Chapter 8.1: what our objects consist of."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.tag import Tag

from cxr_triage.daemon.conformance.attributes import SOP_COMMON, STUDY_UID, Attribute, Module
from cxr_triage.daemon.conformance.iod_documents import KEY_OBJECTS, REPORTS
from cxr_triage.daemon.conformance.iod_presentation_state import PRESENTATION_STATE
from cxr_triage.daemon.conformance.iod_secondary_capture import SECONDARY_CAPTURE
from cxr_triage.daemon.conformance.iod_segmentation import SEGMENTATION
from cxr_triage.daemon.conformance.markdown import named, table, text
from cxr_triage.daemon.conformance.templates import templates_table
from cxr_triage.daemon.results.patient import MUST_BE_PRESENT, PATIENT, STUDY
from cxr_triage.daemon.results.profiles import SOP_CLASSES, ReportForm
from cxr_triage.storage.result_records import ObjectKind

#: Modules by what an object is, besides those that all have.
MODULES: Final[Mapping[ObjectKind | ReportForm, Sequence[Module]]] = {
    ObjectKind.SEG: SEGMENTATION,
    ObjectKind.PR: PRESENTATION_STATE,
    ObjectKind.SC: SECONDARY_CAPTURE,
    **REPORTS,
    ObjectKind.KO: KEY_OBJECTS,
}


def objects() -> str:
    """The chapter."""
    return text(
        "objects",
        always=_names(sorted(MUST_BE_PRESENT)),
        patient=_names(PATIENT),
        study=_names(STUDY),
        common=_attributes_table([Module("General Study", "C.7.2.1", "M", (STUDY_UID,)), SOP_COMMON]),
        modules="\n\n".join(_object(what, modules) for what, modules in MODULES.items()),
        templates=templates_table(),
    )


def _object(what: ObjectKind | ReportForm, modules: Sequence[Module]) -> str:
    return f"#### {named(SOP_CLASSES[what])}\n\n{_attributes_table(modules)}"


def _attributes_table(modules: Iterable[Module]) -> str:
    return table(("module", "usage", "attribute", "tag", "presence", "value"), _rows(modules))


def _rows(modules: Iterable[Module]) -> Iterator[tuple[str, ...]]:
    for module in modules:
        title = f"{module.name} ({module.clause})"
        if not module.attributes:
            yield title, module.usage, "nothing of its own", "", "", ""
        for attribute in module.attributes:
            yield title, module.usage, *_cells(attribute)


def _cells(attribute: Attribute) -> tuple[str, str, str, str]:
    """Items of a sequence are marked as in PS3.3."""
    *outer, keyword = attribute.path.split(".")
    return ">" * len(outer) + dictionary_description(keyword), _tag(keyword), attribute.presence, attribute.holds


def _tag(keyword: str) -> str:
    tag = Tag(tag_for_keyword(keyword) or 0)
    return f"({tag.group:04X},{tag.element:04X})"


def _names(keywords: Iterable[str]) -> str:
    return ", ".join(dictionary_description(keyword) for keyword in keywords)
