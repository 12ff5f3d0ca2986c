"""What the entries of a list have, and how it is found in them: as text, so that none has to become a data set."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

Thing = TypeVar("Thing")
Entry_contra = TypeVar("Entry_contra", contravariant=True)


class Items(NamedTuple):
    """How the items of a sequence are found, and what each of them has."""

    #: None of an entry that does not have the sequence.
    of: Callable[[Any], Sequence[Any] | None]
    catalogue: "Catalogue[Any]"


class Catalogue(Protocol[Entry_contra]):
    """Where a query looks for what it asks."""

    def value(self, tag: BaseTag) -> Callable[[Entry_contra], str | None] | None:
        """How a value is found, None of an entry that does not have it; None: no entry has it."""

    def items(self, tag: BaseTag) -> Items | None:
        """How a sequence is found; None: no entry has it."""

    def tags(self, entry: Entry_contra) -> Iterable[BaseTag]:
        """Everything that an entry has."""

    def element(self, tag: BaseTag, entry: Entry_contra) -> DataElement | None:
        """A value, to be answered; None: the entry does not have it."""


class Attributes(Generic[Thing]):
    """A catalogue of records that all have the same attributes, given by keyword."""

    def __init__(
        self, values: Mapping[str, Callable[[Thing], str]], sequences: Mapping[str, Items] | None = None
    ) -> None:
        self._values = {tag_of(keyword): found for keyword, found in values.items()}
        self._sequences = {tag_of(keyword): found for keyword, found in (sequences or {}).items()}

    def value(self, tag: BaseTag) -> Callable[[Thing], str | None] | None:
        """How a value is found."""
        return self._values.get(tag)

    def items(self, tag: BaseTag) -> Items | None:
        """How a sequence is found."""
        return self._sequences.get(tag)

    def tags(self, entry: Thing) -> Iterable[BaseTag]:
        """Everything that an entry has."""
        del entry
        return (*self._values, *self._sequences)

    def element(self, tag: BaseTag, entry: Thing) -> DataElement | None:
        """A value as it came: what an image carries is passed on with its oddities, and not quoted."""
        found = self._values.get(tag)
        if found is None:
            return None
        return DataElement(tag, dictionary_VR(tag), found(entry) or None, validation_mode=config.IGNORE)


class _Datasets:
    """The catalogue of data sets, each of which has what it has."""

    def value(self, tag: BaseTag) -> Callable[[Dataset], str | None] | None:
        """How a value is found."""
        return lambda entry: text_of(entry[tag]) if tag in entry else None

    def items(self, tag: BaseTag) -> Items | None:
        """How a sequence is found."""
        return Items(lambda entry: entry[tag].value if tag in entry else None, self)

    def tags(self, entry: Dataset) -> Iterable[BaseTag]:
        """Everything that an entry has."""
        return entry.keys()

    def element(self, tag: BaseTag, entry: Dataset) -> DataElement | None:
        """A value, to be answered."""
        return entry.get(tag)


DATASETS: Final = _Datasets()


def tag_of(keyword: str) -> BaseTag:
    """Give the tag of an attribute of the standard."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return BaseTag(tag)


def text_of(element: DataElement) -> str:
    """Give a value as it would stand in a file: several are separated by a backslash."""
    value = element.value
    if value is None:
        return ""
    return "\\".join(map(str, value)) if isinstance(value, MultiValue | list) else str(value)
