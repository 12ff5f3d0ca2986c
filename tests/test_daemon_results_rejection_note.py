"""Rejection notes: what they reject, and why (IHE RAD TF-2 4.66)."""

from pathlib import Path

import pytest

import results
from cxr_triage.daemon.results.finishing import numbered
from cxr_triage.storage.result_records import ObjectKind, Reason
from rejecting import rejected, title


@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [
        (Reason.SUPERSEDED, "113001", "superseded by revision 2 of the result"),
        (Reason.QUALITY, "113001", "withdrawn by a person, reason: quality"),
        (Reason.PATIENT_SAFETY, "113037", "withdrawn by a person, reason: patient-safety"),
        (Reason.WORKLIST_ENTRY, "113038", "withdrawn by a person, reason: worklist-entry"),
    ],
)
def test_a_note_says_why(reason: Reason, code: str, words: str, tmp_path: Path) -> None:
    """By its title, for a PACS (PS3.16 CID 7010), and in words, as DCMTK reads them."""
    header = results.source()
    built = results.objects(header, profile="weasis")
    note = results.note(header, built, profile="weasis", reason=reason).dataset
    assert (title(note), rejected(note)) == (code, {each.dataset.SOPInstanceUID for each in built})
    assert words in results.dump(note, tmp_path)
    assert results.errors(note, tmp_path) == []


def test_a_note_is_the_same_when_it_is_made_again() -> None:
    """And another one about other objects."""
    header = results.source()
    built = results.objects(header, profile="weasis")
    first, again, other = (results.note(header, which).dataset.SOPInstanceUID for which in (built, built, built[:-1]))
    assert (first == again, first == other) == (True, False)


def test_images_are_pointed_at_as_images() -> None:
    """PS3.16 TID 2010."""
    header = results.source()
    built = [each for each in results.objects(header, profile="weasis") if each.kind is not ObjectKind.KO]
    note = results.note(header, built).dataset
    kinds = [item.ValueType for item in note.ContentSequence if "ReferencedSOPSequence" in item]
    assert kinds == ["IMAGE", "COMPOSITE", "COMPOSITE"]


@pytest.mark.parametrize(("words", "number"), [("a" * 56, 7), ("a" * 56, 123), ("a" * 64, 10_000), ("short", 2)])
def test_a_numbered_description_has_its_number_and_fits(words: str, number: int) -> None:
    """At most 64 characters (PS3.5 6.2, LO)."""
    described = numbered(words, number)
    assert described.endswith(f", rev {number}")
    assert described.startswith(words[:50])
    assert len(described) <= 64
