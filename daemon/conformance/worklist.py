"""Chapter 4.2.3: the application entity that stations ask for the reading list."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from pydicom.datadict import dictionary_description, keyword_for_tag
from pydicom.dataset import Dataset

from cxr_triage.daemon.conformance import negotiation
from cxr_triage.daemon.conformance.markdown import table, text
from cxr_triage.daemon.conformance.negotiation import contexts_table
from cxr_triage.daemon.conformance.policies import rejections, worklist_policies
from cxr_triage.daemon.conformance.receiver import answers_table
from cxr_triage.daemon.worklist.entries import UNKNOWN_STEP_TO_US, UNKNOWN_TO_US, entry
from cxr_triage.daemon.worklist.mwl import ANSWERS
from cxr_triage.model.priority import Level, Policy, prioritise, rank
from cxr_triage.storage.records import InstanceHeader, ListedStudy

_EMPTY: Final = "empty: nobody told us"
_SOURCE: Final = "the study's first image"
#: What an attribute of an answer holds; those that are left out are copied from the image.
_HOLDS: Final = {
    "SpecificCharacterSet": "ISO_IR 192",
    "RequestedProcedureID": "Study ID of the image; if it has none, 16 characters that stay the same for the study",
    "RequestedProcedureDescription": "Study Description of the image; if it has none, Chest radiograph",
    "RequestedProcedurePriority": ", ".join(level.name for level in Level)
    + ": the class that the study is read in now",
    "RequestedProcedureComments": "why it has this place",
    "ScheduledProcedureStepSequence": "one item",
    "ScheduledStationAETitle": "the asking one",
    "ScheduledProcedureStepStartDate": "Study Date of the image; if it has none, when it arrived",
    "ScheduledProcedureStepStartTime": "Study Time of the image; if it has none, when it arrived",
    "ScheduledProcedureStepDescription": "as Requested Procedure Description",
    "ScheduledProcedureStepID": "16 characters that stay the same for the study",
    **dict.fromkeys((*UNKNOWN_TO_US, *UNKNOWN_STEP_TO_US), _EMPTY),
}


def worklist() -> str:
    """The chapter."""
    return text(
        "worklist",
        policies=worklist_policies(),
        rejections=rejections(calling="worklist.allowed_ae_titles"),
        listed=contexts_table(negotiation.listed()),
        answers=answers_table(ANSWERS),
        keys=table(("attribute", "tag", "holds"), _rows(_any_entry(), "")),
    )


def _rows(entry: Dataset, nesting: str) -> Iterator[tuple[str, str, str]]:
    for element in entry:
        keyword = keyword_for_tag(element.tag)
        name = nesting + dictionary_description(element.tag)
        yield name, str(element.tag).replace(" ", ""), _HOLDS.get(keyword, _SOURCE)
        for item in element.value if element.VR == "SQ" else ():
            yield from _rows(item, f"{nesting}>")


def _any_entry() -> Dataset:
    """An entry for whatever study: each has the same attributes."""
    header = InstanceHeader(**dict.fromkeys(InstanceHeader.__dataclass_fields__, ""))
    arrived_at, policy = datetime(2000, 1, 1, tzinfo=UTC), Policy()
    placed = prioritise([], ordered=Level.ROUTINE, arrived_at=arrived_at, policy=policy)
    study = ListedStudy(
        study_instance_uid="1.2.3",
        ordered=Level.ROUTINE,
        arrived_at=arrived_at,
        priority=placed,
        priority_without_findings=placed,
        images={},
        header=header,
    )
    (ranked,) = rank([study], now=arrived_at, policy=policy)
    return entry(ranked, station_ae_title="")
