"""The transactions of the Worklist Service (PS3.18 11.4-11.12): each asks the worklist, and says what came of it."""

from dataclasses import replace
from http import HTTPStatus
from itertools import islice
from typing import Final

from pydicom.dataset import Dataset

from cxr_triage.daemon.web.ups import meanings
from cxr_triage.daemon.web.ups.attributes import MalformedError
from cxr_triage.daemon.web.ups.calls import Call, Outcome, checked_uid, outcome
from cxr_triage.daemon.web.ups.queries import MAXIMUM_RESULTS, filter_of, search_of, truth
from cxr_triage.daemon.worklist.negotiated import Agreed
from cxr_triage.storage.step_records import FILTERED_GLOBAL_SUBSCRIPTION

#: Header field of a search: equal versions, equal order. A page of another version than the one before is of another
#: order: begin again. No ETag: that would say that the bytes are equal too (RFC 9110 8.8.3), and they show more than
#: the order.
LIST_VERSION: Final = "CXR-Triage-List-Version"
#: PS3.18 8.3.4.4 (its 2019a edition, 6.7.1.2): how many more there are is not counted.
MORE_RESULTS: Final = (
    "The number of results exceeded the maximum supported by the server. Additional results can be requested."
)
#: PS3.18 8.3.4.2, and likewise for other kinds of matching.
NO_SUCH_MATCHING: Final = "The {} parameter is not supported. Only literal matching has been performed."


def create(call: Call) -> Outcome:
    """Create a Workitem (PS3.18 11.4); one that comes without a UID is given one."""
    attributes = call.data_set
    named = call.named_uid("workitem")
    inside = _taken(attributes, "SOPInstanceUID")
    if named and inside and named != inside:
        raise MalformedError("the query and the payload have two UIDs for the Workitem")
    answer = call.steps.create(named or inside, attributes, caller=call.caller)
    made = outcome(meanings.CREATE, answer)
    if answer.attributes is None:
        return made
    return replace(made, headers={"Location": f"{call.service}/workitems/{answer.attributes.SOPInstanceUID}"})


def retrieve(call: Call) -> Outcome:
    """Give a Workitem (PS3.18 11.5)."""
    answer = call.steps.get(call.workitem)
    found = outcome(meanings.RETRIEVE, answer)
    return found if answer.attributes is None else replace(found, data_sets=[answer.attributes])


def update(call: Call) -> Outcome:
    """Set attributes of a Workitem (PS3.18 11.6)."""
    modifications = call.data_set
    inside = _taken(modifications, "TransactionUID")
    transaction_uid = call.named_uid("transaction-uid") or inside
    answer = call.steps.modify(call.workitem, modifications, transaction_uid, caller=call.caller)
    return _without_transaction_uid(outcome(meanings.UPDATE, answer), transaction_uid)


def change_state(call: Call) -> Outcome:
    """Claim, complete or cancel a Workitem (PS3.18 11.7)."""
    transaction_uid = _taken(call.data_set, "TransactionUID")
    state = str(call.data_set.get("ProcedureStepState") or "")
    answer = call.steps.change_state(call.workitem, state, transaction_uid, caller=call.caller)
    return _without_transaction_uid(outcome(meanings.CHANGE_STATE, answer), transaction_uid)


def request_cancellation(call: Call) -> Outcome:
    """Ask that a Workitem be cancelled (PS3.18 11.8)."""
    return outcome(meanings.CANCEL, call.steps.request_cancel(call.workitem, call.data_set, caller=call.caller))


def search(call: Call) -> Outcome:
    """Give the Workitems that match, the one to be read first at the front (PS3.18 11.9)."""
    asked = search_of(call.query)
    version, found = call.steps.find_in_list(asked.identifier, Agreed(empty=asked.empty_values))
    wanted = min(MAXIMUM_RESULTS, MAXIMUM_RESULTS if asked.limit is None else asked.limit)
    page = [each.attributes for each in islice(found, asked.offset, asked.offset + wanted + 1)]
    warnings = [NO_SUCH_MATCHING.format(name) for name in asked.unsupported]
    headers = {LIST_VERSION: str(version)}
    if wanted == 0 or not page:
        return Outcome(code=HTTPStatus.NO_CONTENT, headers=headers, warnings=warnings)
    if len(page) > wanted:
        warnings.append(MORE_RESULTS)
    code = HTTPStatus.PARTIAL_CONTENT if len(page) > wanted else HTTPStatus.OK
    return Outcome(code=code, data_sets=page[:wanted], headers=headers, warnings=warnings)


def subscribe(call: Call) -> Outcome:
    """Tell somebody of a Workitem's events, or of those of a Worklist (PS3.18 11.10)."""
    lock = truth(call.query, "deletionlock")
    rest = [(name, value) for name, value in call.query if name not in {"deletionlock", "accept", "charset"}]
    keys = filter_of(rest) if call.workitem == FILTERED_GLOBAL_SUBSCRIPTION else None
    answer = call.steps.subscribe(
        call.workitem, call.subscriber, deletion_lock=lock, caller=call.caller, filter_keys=keys
    )
    made = outcome(meanings.SUBSCRIBE, answer)
    if made.code is not HTTPStatus.CREATED:
        return made
    channel = f"{call.service.replace('http', 'ws', 1)}/subscribers/{call.path['aetitle']}"
    return replace(made, headers={"Content-Location": channel.replace(" ", "%20")})


def unsubscribe(call: Call) -> Outcome:
    """Tell somebody no more (PS3.18 11.11)."""
    return outcome(meanings.UNSUBSCRIBE, call.steps.unsubscribe(call.workitem, call.subscriber, caller=call.caller))


def suspend(call: Call) -> Outcome:
    """Tell somebody of no further Workitems of a Worklist (PS3.18 11.12)."""
    return outcome(meanings.UNSUBSCRIBE, call.steps.suspend_global(call.workitem, call.subscriber, caller=call.caller))


def _taken(attributes: Dataset, keyword: str) -> str | None:
    """Take a UID out of a payload; None: it is not there.

    Raises:
        MalformedError: it is none.
    """
    if keyword not in attributes:
        return None
    value = attributes[keyword].value
    del attributes[keyword]
    return checked_uid(str(value), keyword) if value else None


def _without_transaction_uid(failed: Outcome, transaction_uid: str | None) -> Outcome:
    """Tell a Transaction UID that is missing from one that is wrong, which DIMSE does not (PS3.18 Table 11.7.3-2)."""
    if transaction_uid or meanings.WRONG_TRANSACTION_UID not in failed.warnings:
        return failed
    return replace(failed, warnings=[meanings.NO_TRANSACTION_UID])
