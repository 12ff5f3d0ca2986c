"""N-EVENT-REPORT as SCP, on an association that we open: storage commitment and procedure steps (PS3.7 10.1.1)."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydicom.uid import UID
from pynetdicom.association import Association

from cxr_triage.daemon.commitment.reports import Persistence
from cxr_triage.model.errors import UnreachableError


@dataclass(frozen=True, kw_only=True, slots=True)
class Insistence:
    """How long, and how often, to tell somebody."""

    #: How often to look for work when nobody rings.
    poll: timedelta = timedelta(seconds=2)
    #: Between attempts.
    persistence: Persistence = field(default_factory=Persistence)
    #: From the moment of the event, or when the result stood.
    give_up: timedelta = timedelta(hours=72)


def may_report(association: Association, sop_class: UID | str) -> bool:
    """Whether the peer lets us be SCP of a SOP class (PS3.7 D.3.3.4)."""
    return any(context.abstract_syntax == sop_class and context.as_scp for context in association.accepted_contexts)


def send_event_report(association: Association, *report: Any, who: str, what: str, **options: Any) -> int:
    """Send an N-EVENT-REPORT, and wait for the answer.

    Args:
        association: with the peer.
        report: as pynetdicom takes it: event information, event type, SOP Class UID, SOP Instance UID.
        who: the peer, for what goes wrong.
        what: is reported, likewise.
        options: as pynetdicom takes them.

    Returns:
        The status that it answers.

    Raises:
        UnreachableError: there was no answer.
    """
    try:
        answer, _ = association.send_n_event_report(*report, **options)
    except RuntimeError as error:
        # pynetdicom's word for an association that ended between our look and its own.
        raise UnreachableError(f"{who} ended the association before the {what} was sent") from error
    if "Status" not in answer:
        raise UnreachableError(f"{who} gave no answer to the {what}")
    return int(answer.Status)
