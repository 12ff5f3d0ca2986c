"""Which patients train, which tune, which judge: by hash, by fold, or as the publishers split their sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxr_triage.model.errors import ConfigurationError
from cxr_triage.training.data import Sample, Split, fold_of, official_splits, split_of


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold of a cross-validation: its patients are the test patients."""

    #: 0 to `of` - 1.
    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Fold":
        """Read "2/5": the second of five.

        Raises:
            ConfigurationError: it is not one of them.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) and int(count) > 1):
            raise ConfigurationError(f"there is no fold {text!r}: write 1/5 to 5/5 for five folds")
        return cls(int(number) - 1, int(count))


@dataclass(frozen=True, kw_only=True, eq=False)
class Division:
    """Samples by split; all radiographs of a patient are in one."""

    parts: Mapping[Split, list[Sample]]
    #: How it was made, in words, for the card.
    rule: str

    def patients(self) -> dict[str, tuple[str, ...]]:
        """The patients of each split, for the card."""
        return {split: tuple(sorted({one.patient for one in samples})) for split, samples in self.parts.items()}

    def counts(self) -> dict[str, dict[str, int]]:
        """Radiographs per source and split, for the card."""
        sources = sorted({one.source for samples in self.parts.values() for one in samples})
        return {
            source: {split: sum(one.source == source for one in samples) for split, samples in self.parts.items()}
            for source in sources
        }


def by_hash(samples: Sequence[Sample]) -> Division:
    """70 % of the patients train, 10 % tune, 20 % judge: stable when data is added."""
    return _divided(samples, {one.patient: split_of(one.patient) for one in samples}, "a hash of each patient")


def as_published(samples: Sequence[Sample]) -> Division:
    """The publishers' own splits, where they made some; the hash elsewhere."""
    return _divided(samples, official_splits(samples), "the publishers' splits, else a hash of each patient")


def for_fold(samples: Sequence[Sample], fold: Fold) -> Division:
    """Of the patients who do not judge in `by_hash`, a fold's judge here; of the others, who tunes there tunes here.

    Who judges in `by_hash` is left out: all folds and the network of `by_hash` together judge everybody once, and what
    is chosen by the folds was not chosen by the test patients.
    """
    known = [one for one in samples if split_of(one.patient) != "test"]
    splits = {one.patient: _split_in(one.patient, fold) for one in known}
    return _divided(known, splits, f"fold {fold.index + 1} of {fold.of} of the training and validation patients")


def _split_in(patient: str, fold: Fold) -> Split:
    if fold_of(patient, fold.of) == fold.index:
        return "test"
    return "validation" if split_of(patient) == "validation" else "train"


def _divided(samples: Sequence[Sample], splits: Mapping[str, Split], rule: str) -> Division:
    parts: dict[Split, list[Sample]] = {"train": [], "validation": [], "test": []}
    for one in samples:
        parts[splits[one.patient]].append(one)
    return Division(parts=parts, rule=rule)
