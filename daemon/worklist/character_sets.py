"""In which character set an answer is written: the one that was asked in, where it can hold the text."""

from collections.abc import Iterator, Sequence
from typing import Final

from pydicom.charset import custom_encoders, python_encoding
from pydicom.dataset import Dataset

from cxr_triage.daemon.worklist.catalogue import text_of
from cxr_triage.daemon.worklist.matching import CHARACTER_SET, IdentifierError

#: What holds any text.
UTF_8: Final = "ISO_IR 192"
#: PS3.5 6.1.2.3: the VRs that Specific Character Set is about.
_TEXTS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})


class CharacterSets:
    """What the asking station reads: it names in its identifier what it writes there (PS3.4 C.4.1.1.3.1)."""

    def __init__(self, identifier: Dataset) -> None:
        """Read it.

        Raises:
            IdentifierError: the identifier has text in a character set that the standard does not define.
        """
        named = text_of(identifier[CHARACTER_SET]) if CHARACTER_SET in identifier else ""
        terms = [term.strip() for term in named.split("\\")]
        self._terms: Sequence[str] = terms if all(term in python_encoding for term in terms) else [""]
        if terms != self._terms and any(not text.isascii() for text in _texts(identifier)):
            raise IdentifierError(CHARACTER_SET, "a character set that is not defined")

    def name_in(self, answer: Dataset) -> None:
        """Add the Specific Character Set that an answer is to be written in, where it needs one.

        Another one than the station's, where that does not hold the text (PS3.4 C.4.1.1.3.2): better UTF-8 than a
        name with question marks in it.
        """
        texts = [text for text in _texts(answer) if not text.isascii()]
        if not texts:
            return
        characters = {character for text in texts for character in text if not character.isascii()}
        held = all(any(_holds(term, character) for term in self._terms) for character in characters)
        answer.SpecificCharacterSet = list(self._terms) if held else UTF_8


def _texts(data_set: Dataset) -> Iterator[str]:
    for element in data_set:
        if element.VR == "SQ":
            for item in element.value:
                yield from _texts(item)
        elif element.VR in _TEXTS:
            yield text_of(element)


def _holds(term: str, character: str) -> bool:
    encoding = python_encoding[term]
    if encoding == python_encoding[""]:
        return False  # the default repertoire is ASCII (PS3.5 6.1.1), whatever pydicom makes of it
    try:
        encode = custom_encoders.get(encoding)
        return bool(encode(character, "strict") if encode else character.encode(encoding))
    except UnicodeEncodeError:
        return False
