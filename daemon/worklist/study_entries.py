"""The listed studies, their series and images as the Study Root model has them (PS3.4 C.6.2.1).

What the daemon does not know of an image is answered empty where it is a required key.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

from pydicom.dataset import Dataset

from cxr_triage.daemon.worklist.board import Board, Place
from cxr_triage.daemon.worklist.catalogue import Attributes, tag_of, text_of
from cxr_triage.daemon.worklist.entries import OF_THE_IMAGE, OF_THE_LIST, Values
from cxr_triage.daemon.worklist.matching import IdentifierError
from cxr_triage.daemon.worklist.version_words import place_in_words
from cxr_triage.storage.list_records import ListedImage

Thing = TypeVar("Thing")

_LEVEL: Final = tag_of("QueryRetrieveLevel")


class Level(StrEnum):
    """Query/Retrieve Level (0008,0052), PS3.4 Table C.6.2-1."""

    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


#: The unique key of each level (PS3.4 C.6.2.1).
_UNIQUE: Final = {
    Level.STUDY: tag_of("StudyInstanceUID"),
    Level.SERIES: tag_of("SeriesInstanceUID"),
    Level.IMAGE: tag_of("SOPInstanceUID"),
}


class Series(NamedTuple):
    """A series of a listed study; at least one image."""

    study: Place
    images: Sequence[ListedImage]


class Image(NamedTuple):
    """An image of a listed study."""

    study: Place
    image: ListedImage


def level_of(identifier: Dataset) -> Level:
    """Read the level of a query, and see that it names what is above it (PS3.4 C.4.1.2.1).

    Raises:
        IdentifierError: it names no level, or not one of each above it.
    """
    named = text_of(identifier[_LEVEL]).strip() if _LEVEL in identifier else ""
    if named not in {level.value for level in Level}:
        raise IdentifierError(_LEVEL, "neither STUDY, SERIES nor IMAGE")
    level = Level(named)
    for above in list(Level)[: list(Level).index(level)]:
        unique = text_of(identifier[_UNIQUE[above]]) if _UNIQUE[above] in identifier else ""
        if not unique.strip("* ") or "\\" in unique:
            raise IdentifierError(_UNIQUE[above], f"a query of the {level} level names one of these")
    return level


def things_at(level: Level, board: Board, identifier: Dataset) -> tuple[Sequence[Any], Attributes[Any]]:
    """Give what a query is about, in the order of the list, and what is known of each."""
    if level is Level.STUDY:
        return board.places, _studies(board)
    wanted = text_of(identifier[_UNIQUE[Level.STUDY]]).strip()
    found = [place for place in board.places if place.study.study_instance_uid == wanted]
    series = [each for place in found for each in _series_of(place, board)]
    if level is Level.SERIES:
        return series, _SERIES
    return [Image(each.study, image) for each in series for image in each.images], _IMAGES


def _series_of(place: Place, board: Board) -> Iterator[Series]:
    """In the order in which their first images came."""
    grouped: dict[str, list[ListedImage]] = {}
    for image in board.images.get(place.study.study_instance_uid, ()):
        grouped.setdefault(image.series_instance_uid, []).append(image)
    return (Series(place, images) for images in grouped.values())


def _studies(board: Board) -> Attributes[Place]:
    def images(place: Place) -> Sequence[ListedImage]:
        return board.images.get(place.study.study_instance_uid, ())

    values: Values = {
        "QueryRetrieveLevel": lambda _place: Level.STUDY.value,
        **_OF_THE_STUDY,
        # Retired with the study that is a SOP Instance, and the one comment at this level that clients ask for.
        "StudyComments": lambda place: place_in_words(place.rank, board.version),
        "ModalitiesInStudy": lambda place: _each(image.modality for image in images(place)),
        "SOPClassesInStudy": lambda place: _each(image.sop_class_uid for image in images(place)),
        "NumberOfStudyRelatedSeries": lambda place: str(len({image.series_instance_uid for image in images(place)})),
        "NumberOfStudyRelatedInstances": lambda place: str(len(images(place))),
    }
    return Attributes(values)


def _each(values: Iterator[str]) -> str:
    return "\\".join(dict.fromkeys(value for value in values if value))


def _below(values: Values) -> Mapping[str, Callable[[Any], str]]:
    """What is known of a study, for what is in it."""
    return {keyword: _of_its_study(find) for keyword, find in values.items()}


def _of_its_study(find: Callable[[Place], str]) -> Callable[[Any], str]:
    return lambda thing: find(thing.study)


_OF_THE_STUDY: Final[Values] = {
    **OF_THE_IMAGE,
    "StudyID": lambda place: place.study.header.study_id,
    "StudyDescription": lambda place: place.study.header.study_description,
    **OF_THE_LIST,
}
_SERIES: Final[Attributes[Series]] = Attributes(
    {
        **_below(_OF_THE_STUDY),
        "QueryRetrieveLevel": lambda _series: Level.SERIES.value,
        "Modality": lambda series: series.images[0].modality,
        "SeriesNumber": lambda _series: "",
        "SeriesInstanceUID": lambda series: series.images[0].series_instance_uid,
        "NumberOfSeriesRelatedInstances": lambda series: str(len(series.images)),
    }
)
_IMAGES: Final[Attributes[Image]] = Attributes(
    {
        **_below(_OF_THE_STUDY),
        "QueryRetrieveLevel": lambda _image: Level.IMAGE.value,
        "Modality": lambda image: image.image.modality,
        "SeriesInstanceUID": lambda image: image.image.series_instance_uid,
        "InstanceNumber": lambda _image: "",
        "SOPClassUID": lambda image: image.image.sop_class_uid,
        "SOPInstanceUID": lambda image: image.image.sop_instance_uid,
    }
)
