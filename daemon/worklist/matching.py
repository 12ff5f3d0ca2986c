"""Which entries of a list a C-FIND identifier asks for (PS3.4 C.2.2.2), compiled once and asked of each entry."""

from collections.abc import Callable, Iterator
from datetime import tzinfo
from typing import Any, Final, Generic, TypeVar

from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from cxr_triage.daemon.worklist.catalogue import DATASETS, Catalogue, tag_of, text_of
from cxr_triage.daemon.worklist.conditions import condition
from cxr_triage.daemon.worklist.moments import combined_test, is_range, zone_of
from cxr_triage.daemon.worklist.negotiated import NOTHING, Agreed
from cxr_triage.model.errors import TriageError

Thing = TypeVar("Thing")

#: What describes an identifier and asks for nothing (PS3.4 C.4.1.1.3.1).
CHARACTER_SET: Final = tag_of("SpecificCharacterSet")
ZONE: Final = tag_of("TimezoneOffsetFromUTC")
#: An identifier is a data set, and so has no group below that (PS3.4 C.4.1.1.3).
_FIRST_GROUP: Final = 0x0008
#: PS3.4 Table K.6-1: where both are ranges, they are one range of date and time.
_COMBINED: Final = {tag_of("ScheduledProcedureStepStartDate"): tag_of("ScheduledProcedureStepStartTime")}
#: The same where it is agreed on.
_COMBINED_IF_AGREED: Final = {tag_of("StudyDate"): tag_of("StudyTime")}


class IdentifierError(TriageError):
    """An identifier breaks a rule: the message says which, within the 64 characters of LO, and quotes nothing."""

    def __init__(self, tag: BaseTag | None, message: str) -> None:
        super().__init__(message)
        #: The offending element; None: what offends is that there is none.
        self.tag = tag


class Query(Generic[Thing]):
    """An identifier, or an item of one, as tests of the entries of one catalogue."""

    def __init__(
        self,
        identifier: Dataset,
        catalogue: Catalogue[Thing],
        *,
        zone: tzinfo | None = None,
        agreed: Agreed = NOTHING,
    ) -> None:
        """Compile.

        Args:
            identifier: keys with values are matched, all of them are answered; what no entry has decides nothing.
            catalogue: of the entries.
            zone: of dates and times without an offset, where the identifier does not say; None: this machine's.
            agreed: what was negotiated.

        Raises:
            IdentifierError: it breaks a rule.
        """
        self._catalogue = catalogue
        self._zone = _zone(identifier) or zone
        self._agreed = agreed
        self._keys = keys(identifier)
        self._tests: list[Callable[[Thing], bool]] = []
        #: By the tag of a sequence of which an item is asked.
        self._nested: dict[BaseTag, Query[Any]] = {}
        combined = set(self._combine(identifier))
        for key in self._keys:
            if key.tag not in combined:
                self._compile(key)

    def matches(self, entry: Thing) -> bool:
        """Whether an entry is among what is asked for."""
        return all(test(entry) for test in self._tests)

    @property
    def is_universal(self) -> bool:
        """Whether every entry is."""
        return not self._tests

    def answer(self, entry: Thing) -> tuple[Dataset, bool]:
        """Give the part of an entry that is asked back, of a sequence the items that match (PS3.4 C.2.2.2.6).

        Returns:
            It, and whether the entry knows every key.
        """
        answer, complete = Dataset(), True
        for key in self._keys:
            element, known = self._answered(key.tag, entry)
            complete = complete and known
            if element is not None:
                answer.add(element)
        return answer, complete

    def _answered(self, tag: BaseTag, entry: Thing) -> tuple[DataElement | None, bool]:
        if not _is_sequence(tag):
            element = self._catalogue.element(tag, entry)
            return element, element is not None
        found = self._catalogue.items(tag)
        items = found.of(entry) if found else None
        if found is None or items is None:
            return None, False
        if tag not in self._nested:
            return DataElement(tag, "SQ", [whole(found.catalogue, item) for item in items]), True
        nested = self._nested[tag]
        chosen = [nested.answer(item) for item in items if nested.matches(item)]
        return DataElement(tag, "SQ", [item for item, _ in chosen]), all(known for _, known in chosen)

    def _compile(self, key: DataElement) -> None:
        if _is_sequence(key.tag):
            self._compile_sequence(key)
            return
        find = self._catalogue.value(key.tag)
        try:
            test = condition(
                dictionary_VR(key.tag) if dictionary_has_tag(key.tag) else key.VR,
                text_of(key),
                zone=self._zone,
                agreed=self._agreed,
                several=dictionary_has_tag(key.tag) and dictionary_VM(key.tag) != "1",
            )
        except ValueError as error:
            raise IdentifierError(key.tag, str(error)) from error
        if find is not None and test is not None:
            self._tests.append(lambda entry: (value := find(entry)) is None or test(value))

    def _compile_sequence(self, key: DataElement) -> None:
        """An item matches if all of it does; a sequence matches if one of its items does (PS3.4 C.2.2.2.6)."""
        if len(key.value or ()) > 1:
            raise IdentifierError(key.tag, "a sequence in an identifier has one item")
        found = self._catalogue.items(key.tag)
        if not key.value or not len(key.value[0]):
            return
        nested: Query[Any] = Query(
            key.value[0], found.catalogue if found else DATASETS, zone=self._zone, agreed=self._agreed
        )
        self._nested[key.tag] = nested
        if found is None or nested.is_universal:
            return
        of = found.of
        self._tests.append(lambda entry: (items := of(entry)) is None or any(map(nested.matches, items)))

    def _combine(self, identifier: Dataset) -> Iterator[BaseTag]:
        """Compile the ranges that are one range; gives their keys."""
        pairs = _COMBINED | _COMBINED_IF_AGREED if self._agreed.combined else _COMBINED
        for day, time in pairs.items():
            if not {day, time} <= identifier.keys():
                continue
            days, times = text_of(identifier[day]), text_of(identifier[time])
            if is_range(days) and is_range(times):
                self._compile_range(day, time, days, times)
                yield from (day, time)

    def _compile_range(self, day: BaseTag, time: BaseTag, days: str, times: str) -> None:
        find_day, find_time = self._catalogue.value(day), self._catalogue.value(time)
        try:
            test = combined_test(days, times)
        except ValueError as error:
            raise IdentifierError(day, str(error)) from error
        if find_day is not None and find_time is not None:
            self._tests.append(lambda entry: (on := find_day(entry)) is None or test(on, find_time(entry) or ""))


def keys(identifier: Dataset) -> list[DataElement]:
    """The elements of an identifier that ask for something.

    Raises:
        IdentifierError: it has elements that no data set has.
    """
    asked = [
        element
        for element in identifier
        if element.tag not in (CHARACTER_SET, ZONE) and element.tag.element != 0  # group lengths
    ]
    for element in asked:
        if element.tag.group < _FIRST_GROUP:
            raise IdentifierError(element.tag, "no element of a data set")
    return asked


def matches(identifier: Dataset, entry: Dataset) -> bool:
    """Whether a data set is among what the identifier asks for; for many of them, make one `Query` of `DATASETS`."""
    return Query(identifier, DATASETS).matches(entry)


def select(identifier: Dataset, entry: Dataset) -> tuple[Dataset, bool]:
    """Give the part of a data set that an identifier asks back, and whether it knows every key."""
    return Query(identifier, DATASETS).answer(entry)


def whole(catalogue: Catalogue[Thing], entry: Thing) -> Dataset:
    """Give all of an entry."""
    answer = Dataset()
    for tag in catalogue.tags(entry):
        found = catalogue.items(tag) if _is_sequence(tag) else None
        if found is not None:
            items = [whole(found.catalogue, item) for item in found.of(entry) or ()]
            answer.add(DataElement(tag, "SQ", items))
        elif (element := catalogue.element(tag, entry)) is not None:
            answer.add(element)
    return answer


def _zone(identifier: Dataset) -> tzinfo | None:
    if ZONE not in identifier or not identifier[ZONE].value:
        return None
    try:
        return zone_of(str(identifier[ZONE].value).strip())
    except ValueError as error:
        raise IdentifierError(ZONE, str(error)) from error


def _is_sequence(tag: BaseTag) -> bool:
    return dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"
