"""Chapter 4.2.3: the application entity that stations ask for the reading list."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from pydicom.datadict import dictionary_description, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from cxr_triage.daemon.conformance import negotiation
from cxr_triage.daemon.conformance.markdown import table, text
from cxr_triage.daemon.conformance.negotiation import contexts_table
from cxr_triage.daemon.conformance.policies import rejections, worklist_policies
from cxr_triage.daemon.conformance.receiver import answers_table
from cxr_triage.daemon.worklist.board import Board
from cxr_triage.daemon.worklist.entries import UNKNOWN_SEQUENCES, UNKNOWN_STEP_TO_US, UNKNOWN_TO_US, worklist_entries
from cxr_triage.daemon.worklist.matching import whole
from cxr_triage.daemon.worklist.mwl import ANSWERS
from cxr_triage.daemon.worklist.study_entries import Level as QueryLevel
from cxr_triage.daemon.worklist.study_entries import things_at
from cxr_triage.daemon.worklist.version_words import place_in_words
from cxr_triage.model.priority import Level, Policy, prioritise, rank
from cxr_triage.storage.image_records import InstanceHeader
from cxr_triage.storage.list_records import ListedImage, ListedStudy, ListVersion

_EMPTY: Final = "empty: nobody told us"
_SOURCE: Final = "the study's first image"
_IMAGES: Final = "the images that we acknowledged"
_UID: Final = "unique key"
#: What an attribute of an answer holds; those that are left out are copied from the image.
_HOLDS: Final = {
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
    "CommentsOnTheScheduledProcedureStep": place_in_words(3, ListVersion(changes=1832, overdue=2))
    + " - its place, for example",
    "ScheduledProcedureStepModificationDateTime": "since when the list has this version, with the offset from UTC; not "
    "in Table K.6-1",
    **dict.fromkeys((*UNKNOWN_TO_US, *UNKNOWN_SEQUENCES, *UNKNOWN_STEP_TO_US), _EMPTY),
}
_STUDY_HOLDS: Final = {
    **_HOLDS,
    "QueryRetrieveLevel": "the level of the query",
    "StudyInstanceUID": f"{_UID} of STUDY",
    "SeriesInstanceUID": f"{_UID} of SERIES",
    "SOPInstanceUID": f"{_UID} of IMAGE",
    "StudyComments": _HOLDS["CommentsOnTheScheduledProcedureStep"],
    "ModalitiesInStudy": _IMAGES,
    "SOPClassesInStudy": _IMAGES,
    "NumberOfStudyRelatedSeries": _IMAGES,
    "NumberOfStudyRelatedInstances": _IMAGES,
    "NumberOfSeriesRelatedInstances": _IMAGES,
    "Modality": "the image, of a series the first one",
    "SeriesNumber": "empty: we do not keep it",
    "InstanceNumber": "empty: we do not keep it",
    "SOPClassUID": "the image",
}


def worklist() -> str:
    """The chapter."""
    board = _any_board()
    entry = whole(worklist_entries(board, station_ae_title=""), board.places[0])
    return text(
        "worklist",
        policies=worklist_policies(),
        rejections=rejections(calling="worklist.allowed_ae_titles"),
        listed=contexts_table(negotiation.listed()),
        answers=answers_table(ANSWERS),
        keys=table(("attribute", "tag", "holds"), _rows(entry, "")),
        studies=table(("attribute", "tag", "levels", "an answer holds"), _study_rows(board)),
    )


def _rows(entry: Dataset, nesting: str) -> Iterator[tuple[str, str, str]]:
    for element in entry:
        keyword = keyword_for_tag(element.tag)
        name = nesting + dictionary_description(element.tag)
        yield name, str(element.tag).replace(" ", ""), _HOLDS.get(keyword, _SOURCE)
        for item in element.value if element.VR == "SQ" else ():
            yield from _rows(item, f"{nesting}>")


def _study_rows(board: Board) -> Iterator[tuple[str, str, str, str]]:
    """Each attribute once, with the levels that have it."""
    levels: dict[BaseTag, list[str]] = defaultdict(list)
    for level in QueryLevel:
        things, attributes = things_at(level, board, _study_query())
        for tag in attributes.tags(things[0]):
            levels[tag].append(level.value)
    for tag, having in sorted(levels.items()):
        holds = _STUDY_HOLDS.get(keyword_for_tag(tag), _SOURCE)
        yield dictionary_description(tag), str(tag).replace(" ", ""), ", ".join(having), holds


def _study_query() -> Dataset:
    query = Dataset()
    query.StudyInstanceUID = "1.2.3"
    return query


def _any_board() -> Board:
    """A list of one study, whatever study: each has the same attributes."""
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
    return Board(
        version=ListVersion(changes=0, overdue=0),
        since=arrived_at,
        places=rank([study], now=arrived_at, policy=policy),
        read_images=lambda: {"1.2.3": [ListedImage("1.2.3.1", "DX", "1.2", "1.2.3.1.1")]},
    )
