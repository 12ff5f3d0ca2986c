"""The ways in which a chest radiograph can come wrong, so that a refusal says which."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from cxr_triage.model.prediction import Refusal


@dataclass(frozen=True, kw_only=True, slots=True)
class Misplacement:
    """A way in which a chest radiograph can come wrong: how to undo it, and what to say of it."""

    refusal: Refusal
    #: From an image as the network would see it, (1, S, S), to what it should have been.
    undo: Callable[[Tensor], Tensor]


def _turned(quarters: int, place: str) -> Misplacement:
    """An image that came turned clockwise by so many quarters."""
    explanation = f"The chest {place}: turn the image upright and send it again."
    return Misplacement(
        refusal=Refusal(reason="rotated", explanation=explanation),
        undo=lambda image: image.rot90(quarters, dims=(1, 2)),
    )


#: Mirroring is not among them: nothing in an image tells a mirrored chest from one whose heart lies on the right.
MISPLACEMENTS: Final = (
    Misplacement(
        refusal=Refusal(
            reason="inverted",
            explanation="The image is inverted: correct its Photometric Interpretation and send it again.",
        ),
        undo=lambda image: 1 - image,
    ),
    _turned(1, "lies on its side, turned clockwise by 90 degrees"),
    _turned(2, "is upside down"),
    _turned(3, "lies on its side, turned counter-clockwise by 90 degrees"),
)
