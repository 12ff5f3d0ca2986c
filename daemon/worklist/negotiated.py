"""What more than plain matching a client may agree on with us when it associates (PS3.4 C.5.1.1)."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from pydicom.uid import UID


class Agreed(NamedTuple):
    """What was agreed on; nothing, where a client proposes nothing."""

    #: Ranges of Study Date and Study Time are one range of date and time (PS3.4 C.2.2.2.5.4).
    combined: bool = False
    #: Two quotation marks ask for what is empty (PS3.4 C.2.2.2.7).
    empty: bool = False
    #: Several values ask for an entry that has each of them (PS3.4 C.2.2.2.8).
    several: bool = False


NOTHING: Final = Agreed()
#: PS3.4 Table C.5-2: the place of each among the item bytes, counted from zero. The others are of relational queries,
#: fuzzy matching, time zone adjustment and conversion of multi-frame images.
_PLACES: Final = (1, 5, 6)


def answered(proposed: bytes) -> bytes:
    """Accept of a proposal what we do: a byte for each that was proposed."""
    return bytes(int(wanted == 1 and place in _PLACES) for place, wanted in enumerate(proposed))


def agreed_in(accepted: Mapping[UID, bytes], sop_class_uid: UID) -> Agreed:
    """Read what was agreed on in an association, of what we accepted there by SOP class."""
    ours = accepted.get(sop_class_uid, b"")
    return Agreed(*(place < len(ours) and ours[place] == 1 for place in _PLACES))
