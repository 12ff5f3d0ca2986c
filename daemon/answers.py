"""What a status that we answer means: beside each service's numbers, and printed in the conformance statement."""

from typing import NamedTuple


class Answered(NamedTuple):
    """One status of a DIMSE response of ours (PS3.7 Annex C)."""

    #: The standard's name for it.
    meaning: str
    #: When we give it.
    when: str
    #: What the peer should do; empty where that goes without saying.
    advice: str = ""
