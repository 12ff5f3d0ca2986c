"""What a procedure step can be asked for: an attribute that the table names and a step lacks is empty, and not unknown.

Otherwise whoever asks for the steps of one study would also be given those that name no study.
"""

from collections.abc import Callable, Iterable
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from cxr_triage.daemon.ups.attributes import TABLE
from cxr_triage.daemon.worklist.catalogue import Items, tag_of, text_of

#: Nobody is told it.
_NEVER_TOLD: Final = tag_of("TransactionUID")


class _StepData:
    """The catalogue of steps, or of the items of their sequences."""

    def __init__(self, known: Callable[[BaseTag], bool]) -> None:
        self._known = known

    def value(self, tag: BaseTag) -> Callable[[Dataset], str | None]:
        """How a value is found."""
        absent = "" if self._known(tag) else None
        return lambda entry: text_of(entry[tag]) if tag in entry else absent

    def items(self, tag: BaseTag) -> Items:
        """How a sequence is found."""
        absent = () if self._known(tag) else None
        return Items(lambda entry: entry[tag].value if tag in entry else absent, ITEMS)

    def tags(self, entry: Dataset) -> Iterable[BaseTag]:
        """Everything that an entry has."""
        return entry.keys()

    def element(self, tag: BaseTag, entry: Dataset) -> DataElement | None:
        """A value, to be answered: empty where it is known and not there."""
        if tag not in entry and self._known(tag):
            return DataElement(tag, dictionary_VR(tag), None)
        return entry.get(tag)


_NAMED: Final = frozenset(tag_of(rule.keyword) for rule in TABLE) - {_NEVER_TOLD}
#: Of steps as a whole.
STEPS: Final = _StepData(lambda tag: tag in _NAMED)
#: Of the items of a sequence, which have what they have.
ITEMS: Final = _StepData(dictionary_has_tag)
