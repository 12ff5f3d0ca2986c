"""Which bundle scores which image, by the patients that the bundles' cards name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cxr_triage.model.bundle import Card
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.training.data import DataError, Sample

EvaluatedSplit = Literal["test", "validation", "train", "all"]


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Whose turn it is."""

    #: Each image with the place of its bundle in the list of bundles.
    rows: tuple[tuple[Sample, int], ...]
    #: Images of patients that no card names for the split.
    left_out: int


def default_split(samples: Iterable[Sample], cards: Sequence[Card]) -> EvaluatedSplit:
    """The cards' test patients; in a folder of patients that the only card does not know, all of them."""
    if len(cards) > 1:
        return "test"
    named = {patient for patients in cards[0].patients.values() for patient in patients}
    return "all" if named.isdisjoint(sample.patient for sample in samples) else "test"


def assign(samples: Sequence[Sample], cards: Sequence[Card], split: EvaluatedSplit) -> Assignment:
    """Give each image to the bundle whose card names its patient for the split.

    Args:
        samples: the folder's samples.
        cards: one, or one per fold of a cross-validation.
        split: "all" gives every image to the only bundle.

    Raises:
        ConfigurationError: all images are asked of several bundles.
        DataError: two cards name one patient, or no card names any.
    """
    if split == "all":
        if len(cards) > 1:
            raise ConfigurationError("several bundles cannot score every image: choose test, validation or train")
        return Assignment(rows=tuple((sample, 0) for sample in samples), left_out=0)
    owners = _owners({sample.patient for sample in samples}, cards, split)
    rows = tuple((sample, owners[sample.patient]) for sample in samples if sample.patient in owners)
    if not rows:
        raise DataError(f"no bundle's card names a patient of this folder for the split {split!r}: try --split all")
    return Assignment(rows=rows, left_out=len(samples) - len(rows))


def _owners(patients: set[str], cards: Sequence[Card], split: EvaluatedSplit) -> dict[str, int]:
    owners: dict[str, int] = {}
    for index, card in enumerate(cards):
        named = patients.intersection(card.patients[split])
        twice = named & owners.keys()
        if twice:
            other = cards[owners[min(twice)]]
            raise DataError(
                f"the cards of {other.name} {other.version} and {card.name} {card.version} both name {len(twice)} "
                f"patients for the split {split!r}: give the bundles of one cross-validation"
            )
        owners |= dict.fromkeys(named, index)
    return owners
