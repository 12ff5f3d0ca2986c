"""Chapter 4.2.2: the application entity that calls PACS, and modalities that asked."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset

from cxr_triage.daemon.commitment.asking import BATCH as REQUEST_BATCH
from cxr_triage.daemon.commitment.messages import RESOURCE_LIMITATION, SOP_INSTANCE, SUCCESS
from cxr_triage.daemon.conformance import negotiation
from cxr_triage.daemon.conformance.markdown import named, status, table, text
from cxr_triage.daemon.conformance.negotiation import contexts_table
from cxr_triage.daemon.conformance.policies import initiator_policies
from cxr_triage.daemon.deliver import BATCH
from cxr_triage.daemon.dicom_client import (
    DECLINED,
    NOTE_STATUSES,
    STORE_STATUSES,
    UNSUPPORTED,
    Outcome,
    StoreStatus,
)
from cxr_triage.daemon.dicom_web import UNSUPPORTED as STOW_UNSUPPORTED
from cxr_triage.daemon.orders.asking import MAXIMUM_ENTRIES
from cxr_triage.daemon.orders.questions import questions
from cxr_triage.daemon.results.profiles import PROFILES, SOP_CLASSES, Form, Profile
from cxr_triage.daemon.worklist.c_find import OUT_OF_RESOURCES, PENDING, PENDING_WITHOUT_SOME_KEYS
from cxr_triage.storage.commitment_records import DUPLICATE_TRANSACTION_UID
from cxr_triage.storage.order_records import Identity
from cxr_triage.storage.result_records import ObjectKind

_DONE: Final = {
    Outcome.STORED: "stored",
    Outcome.LATER: "tried again, up to `deliver.give_up_after_hours`",
    Outcome.NOT_TAKEN: "`not_taken`; what stands in for it is made and sent, if there is anything",
    Outcome.REFUSED: "offered `deliver.maximum_refusals` times, then given up (`dead`)",
}


def sender() -> str:
    """The chapter."""
    return text(
        "sender",
        policies=initiator_policies(),
        batch=BATCH,
        sent=contexts_table(negotiation.sent()),
        store_statuses=_statuses_table(STORE_STATUSES, "status that we get"),
        note_statuses=_statuses_table(NOTE_STATUSES, "status of a Key Object Selection"),
        unsupported=_results(UNSUPPORTED),
        not_taken=_DONE[Outcome.NOT_TAKEN],
        declined=_results(DECLINED),
        stand_ins=_stand_ins_table(),
        stow_unsupported=", ".join(status(reason) for reason in sorted(STOW_UNSUPPORTED)),
        later=_DONE[Outcome.LATER],
        asking=contexts_table(negotiation.asking()),
        instance=SOP_INSTANCE,
        request_batch=REQUEST_BATCH,
        success=status(SUCCESS),
        resources=status(RESOURCE_LIMITATION),
        duplicate=DUPLICATE_TRANSACTION_UID,
        telling=contexts_table(negotiation.telling()),
        inquiring=contexts_table(negotiation.inquiring()),
        keys=_keys_table(),
        entries=MAXIMUM_ENTRIES,
        pending=", ".join(status(each) for each in (PENDING, PENDING_WITHOUT_SOME_KEYS)),
        no_resources=status(OUT_OF_RESOURCES),
    )


def _keys_table() -> str:
    """What a query asks for; by which of them it matches, the text says."""
    question = next(questions(Identity()))
    return table(("attribute", "tag"), _keys(question, ""))


def _keys(item: Dataset, nesting: str) -> Iterator[tuple[str, str]]:
    for element in item:
        yield nesting + dictionary_description(element.tag), str(element.tag).replace(" ", "")
        for below in element.value if element.VR == "SQ" else ():
            yield from _keys(below, f"{nesting}>")


def _results(results: Mapping[int, str]) -> str:
    """Results of a presentation context (PS3.8 Table 9-18)."""
    return ", ".join(f"{result} ({words})" for result, words in sorted(results.items()))


def _stand_ins_table() -> str:
    """What is sent instead of what, by profile."""
    rows = []
    for profile in PROFILES.values():
        chains = [
            " → ".join(named(SOP_CLASSES[form]) for form in _chain(profile, profile.form(kind)))
            for kind in ObjectKind
            if kind in profile.objects and profile.instead_of(profile.form(kind))
        ]
        rows.append((f"`{profile.name}`", "; ".join(chains) or "nothing"))
    return table(("profile", "what is sent → instead, if that is not taken → and so on"), rows)


def _chain(profile: Profile, first: Form) -> Iterator[Form]:
    following: Form | None = first
    while following is not None:
        yield following
        following = profile.instead_of(following)


def _statuses_table(statuses: Iterable[StoreStatus], title: str) -> str:
    rows = [(each.written, each.meaning, _done(each.outcome, each.written)) for each in statuses]
    return table((title, "meaning", "what we do"), rows)


def _done(outcome: Outcome, written: str) -> str:
    """A warning is written down; of success there is nothing to say."""
    warned = outcome is Outcome.STORED and written != status(SUCCESS)
    return f"{_DONE[outcome]}; the log has the status" if warned else _DONE[outcome]
