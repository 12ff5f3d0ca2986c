"""Chapters 4.2.3.3 and 4.2.3.4: procedure steps, and the events that subscribers are told of."""

from collections.abc import Iterator
from typing import Final

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.tag import BaseTag

from cxr_triage.daemon.conformance import negotiation
from cxr_triage.daemon.conformance.markdown import table, text
from cxr_triage.daemon.conformance.negotiation import contexts_table
from cxr_triage.daemon.conformance.receiver import answers_table
from cxr_triage.daemon.ups import port, statuses
from cxr_triage.daemon.ups.attributes import TABLE, Rule
from cxr_triage.storage.step_records import FILTERED_GLOBAL_SUBSCRIPTION, GLOBAL_SUBSCRIPTION

_CREATE: Final = {
    "1": "needed",
    "1C": "may be given",
    "2": "may be empty",
    "3": "may be given",
    "-": "refused",
    "0": "must be empty",
}
_SET: Final = {"1": "with a value", "2": "may be emptied", "-": "refused", "": "says who sets"}
_FINAL: Final = {"P": "needed for COMPLETED", "P0": "needed for COMPLETED, may be empty", "": "-"}


def procedure_steps() -> str:
    """The chapters."""
    return text(
        "procedure_steps",
        offered=contexts_table(negotiation.stepped()),
        create_answers=answers_table(statuses.CREATE_ANSWERS),
        get_answers=answers_table(statuses.GET_ANSWERS),
        set_answers=answers_table(statuses.SET_ANSWERS),
        state_answers=answers_table(statuses.STATE_ANSWERS),
        cancel_answers=answers_table(statuses.CANCEL_ANSWERS),
        subscription_answers=answers_table(statuses.SUBSCRIPTION_ANSWERS),
        change_state=str(port.CHANGE_STATE),
        request_cancel=str(port.REQUEST_CANCEL),
        subscribe=str(port.SUBSCRIBE),
        unsubscribe=str(port.UNSUBSCRIBE),
        suspend_global=str(port.SUSPEND_GLOBAL),
        global_subscription=GLOBAL_SUBSCRIPTION,
        filtered_subscription=FILTERED_GLOBAL_SUBSCRIPTION,
        attributes=table(("attribute", "tag", "N-CREATE", "N-SET", "final state"), _rows(TABLE, "")),
        proposed=contexts_table(negotiation.announced()),
    )


def _rows(rules: tuple[Rule, ...], nesting: str) -> Iterator[tuple[str, str, str, str, str]]:
    for rule in rules:
        tag = BaseTag(tag_for_keyword(rule.keyword) or 0)
        name = nesting + dictionary_description(tag)
        yield name, str(tag).replace(" ", ""), _CREATE[rule.create], _SET[rule.set], _FINAL[rule.final]
        yield from _rows(rule.items, f"{nesting}>")
