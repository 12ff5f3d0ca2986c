"""What was wrong with a published folder, counted by kind: nothing is skipped in silence."""

from dataclasses import dataclass, field
from typing import Any, Final

#: How many names a report gives of each kind.
NAMES_KEPT: Final = 5

#: Kinds of problems, and what was done about them.
PROBLEMS: Final = {
    "missing_file": "a table that belongs to the data set is not there",
    "unreadable_row": "a row that does not have the table's columns: left out",
    "missing_image": "listed, but there is no file: left out",
    "unlabelled_image": "listed, but no table says what is on it: left out",
    "unlisted_image": "a file that no table lists: not used",
    "duplicate_image": "two files of one name: the first one is used",
    "broken_image": "the file cannot be read as an image: left out",
    "broken_mask": "the mask cannot be read: the image is used without it",
    "missing_mask": "no complete mask: the image is used without one",
    "inverted_image": "lungs brighter than the heart: the grey scale is probably inverted",
    "duplicate_id": "listed again: the first row is used",
    "unknown_label": "a label that the source does not publish: the labels that the row does not name are left unknown",
    "unreadable_label": "a label's cell that is neither yes nor no: left unknown",
    "contradicting_labels": "no finding, and findings: the labels are left unknown",
    "unreadable_age": "an age that is no number: left unknown",
    "implausible_age": "an age beyond 120 years: left unknown",
    "unreadable_box": "a box without four numbers or outside the image: left out",
    "box_without_image": "a box on an image that is not listed: left out",
    "unlisted_split": "in none of the lists of the official split: left without one",
    "two_splits": "an image in two lists of the official split: the held-out one is used",
    "patient_in_several_splits": "a patient with images in more than one official split",
    "patient_unknown": "no patient can be told from the row or the name: taken as a patient of its own",
    "patients_of_another_source": "images of another data set, and no table says of which patients",
}

#: What is left out because the network is not made for it: no problem, and counted.
LEFT_OUT: Final = {
    "lateral_view": "not a frontal radiograph",
    "inadequate_image": "the reader called the radiograph inadequate",
}


@dataclass(frozen=True, slots=True)
class Report:
    """Counts and first names of each kind, in the order in which kinds were met."""

    _names: dict[str, list[str]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def note(self, kind: str, name: str) -> None:
        """Count a problem, or something that is left out.

        Args:
            kind: a key of PROBLEMS or LEFT_OUT.
            name: the file, row or patient that it is about.
        """
        assert kind in PROBLEMS or kind in LEFT_OUT, kind
        self._counts[kind] = self._counts.get(kind, 0) + 1
        names = self._names.setdefault(kind, [])
        if len(names) < NAMES_KEPT:
            names.append(name)

    def count(self, kind: str) -> int:
        """How often a kind was noted."""
        return self._counts.get(kind, 0)

    def problems(self) -> dict[str, dict[str, Any]]:
        """What was wrong, JSON-ready: by kind the count, the first names and the meaning."""
        return self._entries(PROBLEMS)

    def left_out(self) -> dict[str, dict[str, Any]]:
        """What was left out rightly, in the same form."""
        return self._entries(LEFT_OUT)

    def _entries(self, meanings: dict[str, str]) -> dict[str, dict[str, Any]]:
        return {
            kind: {"count": count, "first": self._names[kind], "meaning": meanings[kind]}
            for kind, count in self._counts.items()
            if kind in meanings
        }
