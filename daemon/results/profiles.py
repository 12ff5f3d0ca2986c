"""What differs between the receivers of our objects."""

from enum import StrEnum


class Profile(StrEnum):
    """An emission profile: one finding graph, written as a kind of viewer needs it."""

    #: IHE AI Results, by the standard.
    AIR = "air"
    #: For OHIF: SEG with a nominal plane, and spatial coordinates in every measurement group.
    OHIF = "ohif"
