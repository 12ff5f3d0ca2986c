"""Chapters 1 and 3: what it is on the network, on one page, and what to know before reading on."""

from collections.abc import Iterator
from itertools import chain
from typing import Final

from cxr_triage.daemon.conformance import negotiation
from cxr_triage.daemon.conformance.markdown import named, table, text
from cxr_triage.daemon.conformance.negotiation import Offer
from cxr_triage.daemon.results.objects import sop_class
from cxr_triage.daemon.results.profiles import PROFILES, SOP_CLASSES, Profile, ReportForm
from cxr_triage.storage.result_records import ObjectKind

_WHAT: Final = {
    ObjectKind.SEG: "one per scored image: left lung, right lung, heart",
    ObjectKind.PR: "one per scored image that is for presentation: outlines, widths, findings in words",
    ObjectKind.SC: "one per scored image: a picture with the drawing burned in",
    ReportForm.COMPREHENSIVE_3D: "one per revision of a study's result: TID 1500",
    ReportForm.COMPREHENSIVE: "one per revision: the same content",
    ReportForm.BASIC_TEXT: "one per revision: sentences",
    ObjectKind.KO: "one per revision with a finding at or above its threshold; rejection notes, where "
    "`rejection_notes = true`",
}


def overview() -> str:
    """Chapter 1."""
    return text("overview", services=_services_table(), profiles=_profiles_table(), objects=_objects_table())


def _services_table() -> str:
    groups = {
        "Verification": negotiation.received()[:1],
        "Storage, images": negotiation.received()[1:],
        "Storage, results": negotiation.sent()[1:],
        "Storage Commitment": negotiation.asked(),
        "Worklist": negotiation.listed()[1:],
        "Unified Procedure Step": (*negotiation.stepped(), *negotiation.announced()[1:]),
    }
    rows = [(group, *_service(offer)) for group, offers in groups.items() for offer in offers]
    # A class may be offered in several contexts.
    return table(("service", "SOP class", "UID", "SCU", "SCP"), dict.fromkeys(rows))


def _service(offer: Offer) -> tuple[str, str, str, str]:
    uid = offer.abstract_syntax
    proposed = (*negotiation.sent(), *negotiation.asking(), *negotiation.inquiring())
    as_scu = {each.abstract_syntax for each in proposed if each.role == "SCU"}
    of_images, of_list = (negotiation.received(), negotiation.asked()), (negotiation.listed(), negotiation.stepped())
    accepted = chain(*of_images, *of_list, negotiation.announced())
    as_scp = {each.abstract_syntax for each in accepted if each.role == "SCP"}
    return named(uid), uid, _yes(uid in as_scu), _yes(uid in as_scp)


def _yes(is_so: bool) -> str:  # noqa: FBT001 - an answer
    return "yes" if is_so else "no"


def _profiles_table() -> str:
    rows = [(f"`{profile.name}`", ", ".join(_objects_of(profile))) for profile in PROFILES.values()]
    return table(("profile", "objects"), rows)


def _objects_of(profile: Profile) -> Iterator[str]:
    """In the order in which they are sent."""
    for kind in ObjectKind:
        if kind in profile.objects:
            yield named(sop_class(kind, profile)).removesuffix(" Storage")


def _objects_table() -> str:
    rows = [(named(uid), _WHAT[what]) for what, uid in SOP_CLASSES.items()]
    return table(("object", "what"), rows)
