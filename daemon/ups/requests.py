"""What each request comes to: pure rules over a step as it is at that instant."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from cxr_triage.daemon.ups import statuses
from cxr_triage.daemon.ups.attributes import missing_for_completion, set_faults, tag_of
from cxr_triage.daemon.ups.priorities import LEVEL_OF
from cxr_triage.daemon.ups.states import TRANSITIONS, Asked, asked, update_status
from cxr_triage.storage.order_records import Identity
from cxr_triage.storage.step_records import (
    CANCEL_REASON,
    DISCONTINUATION,
    INTERPRETATION,
    PROGRESS,
    READINESS,
    Json,
    Ruling,
    Step,
    StepEvent,
    StepState,
    Told,
    cancelled,
    element,
    item_of,
    named_study,
    state_report,
    value_of,
)

_PRIORITY: Final = tag_of("ScheduledProcedureStepPriority")
_STATION: Final = tag_of("ScheduledStationNameCodeSequence")
_HUMANS: Final = tag_of("ScheduledHumanPerformersSequence")
_WORKITEM: Final = tag_of("ScheduledWorkitemCodeSequence")
_STUDY: Final = tag_of("StudyInstanceUID")
#: Of a cancel request, besides its reasons (PS3.4 Table CC.2.2-1).
_CONTACT: Final = (tag_of("ContactURI"), tag_of("ContactDisplayName"))
_COMMUNICATIONS: Final = tag_of("ProcedureStepCommunicationsURISequence")


def read_study(attributes: Mapping[str, Any]) -> Identity | None:
    """Give the study that a placed step is the reading of, and its patient; None: other work, or of no study."""
    workitem = item_of(attributes, _WORKITEM)
    named = [value_of(workitem, tag) for tag in ("00080100", "00080102")]
    if workitem and named != [value_of(INTERPRETATION, tag) for tag in ("00080100", "00080102")]:
        return None
    places = (
        attributes,
        item_of(attributes, tag_of("InputInformationSequence")),
        item_of(attributes, tag_of("ReferencedRequestSequence")),
    )
    uid = next((uid for place in places if (uid := value_of(place, _STUDY))), None)
    return named_study(attributes, uid) if uid else None


def assignments(attributes: Mapping[str, Any]) -> tuple[Told, ...]:
    """Tell to which station and to whom a step is assigned (PS3.4 Table CC.2.4-1), an event for each person."""
    station = {_STATION: attributes[_STATION]} if value_of(attributes, _STATION) else {}
    humans = attributes.get(_HUMANS, {}).get("Value") or []
    kept = [tag_of("HumanPerformerCodeSequence"), tag_of("HumanPerformerOrganization")]
    people = [{tag: human[tag] for tag in kept if tag in human} for human in humans]
    if not (station or people):
        return ()
    return tuple(Told(event=StepEvent.ASSIGNED, information=station | each) for each in people or [{}])


def modified(step: Step | None, modifications: Json, transaction_uid: str | None) -> Ruling:
    """Rule on an N-SET (PS3.4 CC.2.6)."""
    state = None if step is None else step.state
    status = update_status(state, given=transaction_uid, known=step.transaction_uid if step else None)
    if status != statuses.SUCCESS or step is None:
        return Ruling(status=status)
    fault = next(set_faults(modifications), None)
    if fault is not None:
        return Ruling(status=fault.status, comment=fault.attribute)
    priority = value_of(modifications, _PRIORITY)
    # Of a step that is the reading of a study, the study has the priority.
    kept = {tag: each for tag, each in modifications.items() if not (tag == _PRIORITY and step.own)}
    attributes = step.attributes | kept
    return Ruling(
        status=statuses.SUCCESS,
        attributes=attributes,
        told=_set_events(step, modifications, attributes),
        ordered=LEVEL_OF[priority] if priority else None,
    )


def _set_events(step: Step, modifications: Json, attributes: Json) -> tuple[Told, ...]:
    told: list[Told] = []
    if READINESS in modifications and value_of(step.attributes, READINESS) != value_of(modifications, READINESS):
        told.append(state_report(attributes, step.state))
    if PROGRESS in modifications:
        told.append(Told(event=StepEvent.PROGRESS_REPORT, information={PROGRESS: modifications[PROGRESS]}))
    return (*told, *assignments({tag: modifications[tag] for tag in (_STATION, _HUMANS) if tag in modifications}))


def state_changed(
    step: Step | None, wanted: StepState, transaction_uid: str | None, *, caller: str, now: datetime
) -> Ruling:
    """Rule on an N-ACTION that changes the state (PS3.4 CC.2.1)."""
    row = asked(wanted, given=transaction_uid, known=step.transaction_uid if step else None)
    cell = TRANSITIONS[row][step.state if step else None]
    if step is None or cell.state is None:
        return Ruling(status=cell.status)
    if cell.state is StepState.COMPLETED and (missing := missing_for_completion(step.attributes)):
        return Ruling(status=statuses.FINAL_STATE_NOT_MET, comment=", ".join(missing))
    begins = cell.state is StepState.IN_PROGRESS
    return Ruling(
        status=cell.status,
        state=cell.state,
        transaction_uid=transaction_uid if begins else None,
        performer=caller if begins else None,
        # A performer who says neither when nor why has the one filled in, and "unspecified" as the other: refusing it
        # would leave the step with somebody who will not do it.
        attributes=cancelled(step.attributes, now) if cell.state is StepState.CANCELED else None,
    )


def cancel_requested(
    step: Step | None, request: Json, *, caller: str, receivers: Collection[str], now: datetime
) -> Ruling:
    """Rule on an N-ACTION that asks to cancel (PS3.4 CC.2.2)."""
    cell = TRANSITIONS[Asked.REQUEST_CANCEL][step.state if step else None]
    if step is None or cell.status != statuses.SUCCESS:
        return Ruling(status=cell.status)
    reasons = {tag: request[tag] for tag in (CANCEL_REASON, DISCONTINUATION) if value_of(request, tag)}
    contact = {tag: request[tag] for tag in _CONTACT if value_of(request, tag)}
    if cell.state is None:
        if step.performer not in receivers:
            return Ruling(status=statuses.PERFORMER_NOT_REACHED)
        information = {tag_of("RequestingAE"): element("AE", caller), **reasons, **contact}
        told = (Told(event=StepEvent.CANCEL_REQUESTED, information=information),)
        return Ruling(status=cell.status, told=told)
    item = item_of(step.attributes, PROGRESS) | reasons
    if _CONTACT[0] in contact:
        item[_COMMUNICATIONS] = element("SQ", contact)
    attributes = step.attributes | {PROGRESS: element("SQ", item)}
    return Ruling(status=cell.status, state=cell.state, attributes=cancelled(attributes, now))
