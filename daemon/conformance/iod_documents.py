"""Modules and attributes of our documents: SR in its forms (PS3.3 A.35), and Key Object Selection (PS3.3 A.35.4)."""

from typing import Final

from cxr_triage.daemon.conformance.attributes import (
    ALWAYS,
    ANAP,
    DATE,
    EMPTY,
    EQUIPMENT,
    Attribute,
    Module,
    series,
)
from cxr_triage.daemon.results.finishing import MANUFACTURER
from cxr_triage.daemon.results.profiles import ReportForm
from cxr_triage.daemon.results.uids import CODING_SCHEME_UID
from cxr_triage.storage.result_records import ObjectKind

_EVIDENCE: Final = Attribute(
    "CurrentRequestedProcedureEvidenceSequence", ALWAYS, "the images, and what was made of them"
)
_STEP: Final = Attribute("ReferencedPerformedProcedureStepSequence", EMPTY, "")


def _content(title: str, continuity: str, template: str) -> tuple[Attribute, ...]:
    """The root of a content tree; what follows is the template's."""
    declared = (
        Attribute("ContentTemplateSequence", ALWAYS, "one item"),
        Attribute("ContentTemplateSequence.MappingResource", ALWAYS, "DCMR"),
        Attribute("ContentTemplateSequence.TemplateIdentifier", ALWAYS, template),
    )
    return (
        Attribute("ValueType", ALWAYS, "CONTAINER"),
        Attribute("ConceptNameCodeSequence", ALWAYS, title),
        Attribute("ContinuityOfContent", ALWAYS, continuity),
        *(declared if template else ()),
        Attribute("ContentSequence", ALWAYS, "the tree"),
    )


_SCHEME: Final = (
    Attribute("CodingSchemeIdentificationSequence", ALWAYS, "one item: our own scheme"),
    Attribute("CodingSchemeIdentificationSequence.CodingSchemeUID", ALWAYS, CODING_SCHEME_UID),
    Attribute("CodingSchemeIdentificationSequence.CodingSchemeName", ALWAYS, "cxr-triage codes"),
    Attribute("CodingSchemeIdentificationSequence.CodingSchemeResponsibleOrganization", ALWAYS, MANUFACTURER),
)


def _report(content: tuple[Attribute, ...]) -> tuple[Module, ...]:
    return (
        Module("SR Document Series", "C.17.1", "M", (*series(ObjectKind.SR, document=True), _STEP)),
        Module("General Equipment", "C.7.5.1", "M", EQUIPMENT),
        Module(
            "SR Document General",
            "C.17.2",
            "M",
            (
                *DATE,
                Attribute("CompletionFlag", ALWAYS, "COMPLETE"),
                Attribute("PreliminaryFlag", ALWAYS, "PRELIMINARY"),
                Attribute("VerificationFlag", ALWAYS, "UNVERIFIED: no person has seen it"),
                Attribute("PerformedProcedureCodeSequence", EMPTY, ""),
                Attribute(
                    "PredecessorDocumentsSequence", ANAP, "the SRs of the revision before, in all forms that were sent"
                ),
                _EVIDENCE,
            ),
        ),
        Module("SR Document Content", "C.17.3", "M", content),
        Module("SOP Common", "C.12.1", "M", _SCHEME),
    )


_MEASURED: Final = _report(_content("Imaging Measurement Report, with a warning in its meaning", "CONTINUOUS", "1500"))
KEY_OBJECTS: Final = (
    Module("Key Object Document Series", "C.17.6.1", "M", (*series(ObjectKind.KO, document=True), _STEP)),
    Module("General Equipment", "C.7.5.1", "M", EQUIPMENT),
    Module("Key Object Document", "C.17.6.2", "M", (*DATE, _EVIDENCE)),
    Module(
        "SR Document Content", "C.17.3", "M", _content("Of Interest; of rejection notes, why", "CONTINUOUS", "2010")
    ),
)

#: By the form of the report.
REPORTS: Final[dict[ObjectKind | ReportForm, tuple[Module, ...]]] = {
    ReportForm.COMPREHENSIVE_3D: _MEASURED,
    ReportForm.COMPREHENSIVE: _MEASURED,
    ReportForm.BASIC_TEXT: _report(
        _content("Chest CAD Report, with a warning in its meaning, or that it withdraws", "SEPARATE", "")
    ),
}
