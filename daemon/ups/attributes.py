"""Which attributes a step must, may and must not have (PS3.4 Table CC.2.5-3): pure functions over data sets as JSON."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydicom.datadict import dictionary_VR, tag_for_keyword

from cxr_triage.daemon.ups import statuses
from cxr_triage.storage.step_records import Json, element, item_of, value_of


class Rule(NamedTuple):
    """One row of the table."""

    keyword: str
    #: At N-CREATE, from the SCU: "1", "1C", "2", "3", "-" = not allowed, "0" = to be left empty.
    create: str
    #: At N-SET, what we answer for: "1" = never without value, "2" = may be empty, "-" = not allowed.
    set: str
    #: "P": needed for COMPLETED. What else the table requires is of type 1 at N-CREATE, or filled in by us.
    final: str = ""
    #: Values that it may have; empty: any.
    values: tuple[str, ...] = ()
    items: tuple["Rule", ...] = ()

    @property
    def tag(self) -> str:
        """Its tag as JSON has it."""
        return tag_of(self.keyword)


def tag_of(keyword: str) -> str:
    """Give the tag of a keyword as JSON has it."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return f"{tag:08X}"


_HUMAN: Final = (
    Rule("HumanPerformerCodeSequence", "1", "1"),
    Rule("HumanPerformerName", "1", "1"),
    Rule("HumanPerformerOrganization", "1", "1"),
)
_PROGRESS: Final = (
    Rule("ProcedureStepProgress", "-", "1"),
    Rule("ProcedureStepProgressDescription", "-", "1"),
    Rule("ProcedureStepProgressParametersSequence", "-", "2"),
    Rule("ProcedureStepCommunicationsURISequence", "-", "1", items=(Rule("ContactURI", "1", "1"),)),
    Rule("ProcedureStepCancellationDateTime", "-", "1"),
    Rule("ReasonForCancellation", "-", "1"),
    Rule("ProcedureStepDiscontinuationReasonCodeSequence", "-", "1"),
)
_PERFORMED: Final = (
    Rule("ActualHumanPerformersSequence", "-", "1"),
    Rule("PerformedStationNameCodeSequence", "-", "2", "P"),
    Rule("PerformedStationClassCodeSequence", "-", "2"),
    Rule("PerformedStationGeographicLocationCodeSequence", "-", "2"),
    Rule("PerformedProcedureStepStartDateTime", "-", "1", "P"),
    Rule("PerformedProcedureStepDescription", "-", "1"),
    Rule("CommentsOnThePerformedProcedureStep", "-", "1"),
    Rule("PerformedWorkitemCodeSequence", "-", "1", "P"),
    Rule("PerformedProcessingParametersSequence", "-", "1"),
    Rule("PerformedProcedureStepEndDateTime", "-", "1", "P"),
    # It may have no items: then the step made no objects.
    Rule("OutputInformationSequence", "-", "2", "P0"),
)
_REQUEST: Final = (
    Rule("StudyInstanceUID", "1", "-"),
    Rule("AccessionNumber", "2", "-"),
    Rule("IssuerOfAccessionNumberSequence", "2", "-"),
    Rule("OrderPlacerIdentifierSequence", "2", "-"),
    Rule("OrderFillerIdentifierSequence", "2", "-"),
    Rule("RequestedProcedureID", "2", "-"),
    Rule("RequestedProcedureDescription", "2", "-"),
    Rule("RequestedProcedureCodeSequence", "2", "-"),
)
#: PS3.4 Table CC.2.5-3. What it does not name is of type 3: kept as it comes.
TABLE: Final = (
    Rule("TransactionUID", "0", ""),
    Rule("SOPClassUID", "-", "-"),
    Rule("SOPInstanceUID", "-", "-"),
    Rule("ScheduledProcedureStepPriority", "1", "1", values=("HIGH", "MEDIUM", "LOW")),
    Rule("ScheduledProcedureStepModificationDateTime", "-", "-"),
    Rule("ProcedureStepLabel", "1", "1"),
    Rule("WorklistLabel", "2", "1"),
    Rule("ScheduledProcessingParametersSequence", "2", "2"),
    Rule("ScheduledStationNameCodeSequence", "2", "2"),
    Rule("ScheduledStationClassCodeSequence", "2", "2"),
    Rule("ScheduledStationGeographicLocationCodeSequence", "2", "2"),
    Rule("ScheduledHumanPerformersSequence", "3", "2", items=_HUMAN),
    Rule("ScheduledProcedureStepStartDateTime", "1", "1"),
    Rule("ExpectedCompletionDateTime", "3", "1"),
    Rule("ScheduledWorkitemCodeSequence", "2", "1"),
    Rule("CommentsOnTheScheduledProcedureStep", "2", "1"),
    Rule("InputReadinessState", "1", "1", values=("INCOMPLETE", "UNAVAILABLE", "READY")),
    Rule("InputInformationSequence", "2", "2"),
    Rule("StudyInstanceUID", "1C", "2"),
    Rule("PatientName", "2", "-"),
    Rule("PatientID", "1C", "-"),
    Rule("IssuerOfPatientID", "2", "-"),
    Rule("IssuerOfPatientIDQualifiersSequence", "2", "-"),
    Rule("OtherPatientIDsSequence", "2", "2"),
    Rule("PatientBirthDate", "2", "-"),
    Rule("PatientSex", "2", "-"),
    Rule("AdmissionID", "2", "-"),
    Rule("IssuerOfAdmissionIDSequence", "2", "-"),
    Rule("AdmittingDiagnosesDescription", "2", "-"),
    Rule("AdmittingDiagnosesCodeSequence", "2", "-"),
    Rule("ReferencedRequestSequence", "2", "-", items=_REQUEST),
    Rule("ReplacedProcedureStepSequence", "1C", "-"),
    Rule("ProcedureStepState", "1", "-"),
    Rule("ProcedureStepProgressInformationSequence", "0", "2", items=_PROGRESS),
    Rule("UnifiedProcedureStepPerformedProcedureSequence", "0", "2", items=_PERFORMED),
)


class Fault(NamedTuple):
    """Why a data set is not taken."""

    #: DIMSE status.
    status: int
    #: Keyword of the attribute; of one in a sequence with the sequence's before it.
    attribute: str


def creation_faults(attributes: Mapping[str, Any]) -> Iterator[Fault]:
    """Say what is wrong with what an N-CREATE gives, in the order of the table; the state comes last."""
    yield from _creation_faults(attributes, TABLE, "")
    state = value_of(attributes, tag_of("ProcedureStepState"))
    if state not in {None, "SCHEDULED"}:
        yield Fault(statuses.NOT_SCHEDULED, "ProcedureStepState")


def _creation_faults(attributes: Mapping[str, Any], rules: tuple[Rule, ...], within: str) -> Iterator[Fault]:
    for rule in rules:
        name = within + rule.keyword
        if rule.tag not in attributes:
            if rule.create == "1":
                yield Fault(statuses.MISSING_ATTRIBUTE, name)
            continue
        if rule.create == "-":
            yield Fault(statuses.NO_SUCH_ATTRIBUTE, name)
        elif rule.create == "0" and _has_value(attributes, rule.tag):
            yield Fault(statuses.INVALID_ATTRIBUTE_VALUE, name)
        elif rule.create == "1" and not _has_value(attributes, rule.tag):
            yield Fault(statuses.MISSING_ATTRIBUTE_VALUE, name)
        else:
            yield from _value_faults(attributes, rule, name)
            for item in _items(attributes, rule):
                yield from _creation_faults(item, rule.items, f"{name} > ")


def completed(attributes: Json) -> tuple[Json, tuple[str, ...]]:
    """Add what is of type 2 and was left out, empty.

    Returns:
        The attributes, and the keywords of those that were added.
    """
    added = [rule for rule in TABLE if rule.create in {"2", "0"} and rule.tag not in attributes]
    given = {rule.tag: _with_items(attributes, rule) for rule in TABLE if rule.items and rule.tag in attributes}
    empty = {rule.tag: element(_vr(rule.keyword)) for rule in added if rule.keyword != "TransactionUID"}
    told = tuple(rule.keyword for rule in added if rule.create == "2" and rule.keyword != "WorklistLabel")
    return attributes | given | empty, told


def set_faults(modifications: Mapping[str, Any]) -> Iterator[Fault]:
    """Say what is wrong with what an N-SET gives."""
    return _set_faults(modifications, TABLE, "")


def _set_faults(given: Mapping[str, Any], rules: tuple[Rule, ...], within: str) -> Iterator[Fault]:
    for rule in rules:
        name = within + rule.keyword
        if rule.tag not in given:
            if within and rule.create == "1":
                yield Fault(statuses.MISSING_ATTRIBUTE, name)
            continue
        if rule.set == "-":
            yield Fault(statuses.NO_SUCH_ATTRIBUTE, name)
        elif rule.set == "1" and not _has_value(given, rule.tag):
            yield Fault(statuses.MISSING_ATTRIBUTE_VALUE, name)
        else:
            yield from _value_faults(given, rule, name)
            for item in _items(given, rule):
                yield from _set_faults(item, rule.items, f"{name} > ")


def missing_for_completion(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the keywords of what a step still needs to be COMPLETED (PS3.4 Table CC.2.5-3, P)."""
    performed = item_of(attributes, tag_of("UnifiedProcedureStepPerformedProcedureSequence"))
    return tuple(
        rule.keyword
        for rule in _PERFORMED
        if (rule.final == "P" and not _has_value(performed, rule.tag))
        or (rule.final == "P0" and rule.tag not in performed)
    )


def _value_faults(attributes: Mapping[str, Any], rule: Rule, name: str) -> Iterator[Fault]:
    values = attributes[rule.tag].get("Value") or []
    if rule.values and (len(values) != 1 or values[0] not in rule.values):
        yield Fault(statuses.INVALID_ATTRIBUTE_VALUE, name)


def _items(attributes: Mapping[str, Any], rule: Rule) -> list[Json]:
    if not rule.items:
        return []
    return [item for item in attributes[rule.tag].get("Value") or [] if isinstance(item, dict)]


def _with_items(attributes: Json, rule: Rule) -> Json:
    """A sequence whose items have all that is of type 2."""
    needed = [inner for inner in rule.items if inner.create == "2"]
    items = [{inner.tag: element(_vr(inner.keyword)) for inner in needed} | item for item in _items(attributes, rule)]
    return element("SQ", *items)


def _has_value(attributes: Mapping[str, Any], tag: str) -> bool:
    """Whether an element has a value that is not empty; of a sequence, an item with something in it."""
    return any(value not in (None, "", {}) for value in attributes.get(tag, {}).get("Value") or [])


def _vr(keyword: str) -> str:
    return dictionary_VR(tag_of(keyword))
