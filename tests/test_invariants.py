"""The invariants can fail: each kind of damage is seen, and named after the image or file that it hit."""

from pathlib import Path

import pytest
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from cxr_triage.storage.image_records import InstanceState
from invariants import (
    Books,
    Echo,
    Folders,
    Image,
    Result,
    check_acknowledged,
    check_core_files,
    check_echoes,
    check_files,
    check_said,
    check_unanswered,
    check_vitals,
    measured,
)
from journal import Arrival, Sent
from vitals import Vitals

IMAGE = Sent("1.1", "aa")
SEG, SR, LATER_SR = "2.1", "2.2", "2.3"


def image(state: InstanceState = InstanceState.SCORED, *, sha256: str = "aa", reason: str = "") -> Image:
    """Give the ledger's row of the image."""
    return Image(sop_instance_uid="1.1", sha256=sha256, state=state, reason=reason, path="x.dcm", owns_file=True)


def books(*images: Image) -> Books:
    """Give a ledger of these images, and of the objects that were made."""
    made = [Result(sop_instance_uid=uid, sha256="bb", path="", owns_file=False) for uid in (SEG, SR, LATER_SR)]
    return Books(images=images, results=tuple(made))


def seg(uid: str = SEG, *, sha256: str = "bb") -> Arrival:
    """Give the arrival of a SEG of the image."""
    return arrival(uid, SegmentationStorage, {"1.1"}, sha256=sha256)


def sr(uid: str = SR, *predecessors: str, cites: frozenset[str] = frozenset({"1.1", SEG})) -> Arrival:
    """Give the arrival of an SR about the image."""
    return arrival(uid, Comprehensive3DSRStorage, cites, predecessors)


def arrival(
    uid: str,
    sop_class: str,
    references: set[str] | frozenset[str],
    predecessors: tuple[str, ...] = (),
    *,
    sha256: str = "bb",
) -> Arrival:
    """Give the arrival of an object."""
    return Arrival(
        sop_instance_uid=uid,
        sop_class_uid=sop_class,
        sha256=sha256,
        references=frozenset(references),
        predecessors=frozenset(predecessors),
    )


WELL = [
    (books(image()), [seg(), sr()]),
    (books(image()), [seg(), seg(), sr(), sr()]),
    (books(image()), [seg(), sr(), sr(LATER_SR, SR)]),
    (books(image(), image(sha256="cc")), [seg(), seg("2.9"), sr(), sr(LATER_SR, SR)]),
    (books(image(InstanceState.UNSUITABLE, reason="not_chest")), []),
    (books(image(InstanceState.FAILED, reason="killed")), []),
]
LOST_OR_DOUBLED = [
    ("the ledger has 0 rows", books(), []),
    ("the ledger has 0 rows", books(image(sha256="cc")), [seg(), sr()]),
    ("the ledger has 2 rows", books(image(), image()), [seg(), sr()]),
    ("0 current SR", books(image()), [seg()]),
    ("2 current SR", books(image()), [seg(), sr(), sr(LATER_SR)]),
    ("1 current SR", books(image(InstanceState.UNSUITABLE, reason="not_chest")), [seg(), sr()]),
    ("cites 0 SEG", books(image()), [sr()]),
    ("cites 0 SEG", books(image()), [seg(), sr(cites=frozenset({"1.1"}))]),
    ("has 2 SEG", books(image()), [seg(), seg("2.9"), sr()]),
    ("2 contents", books(image()), [seg(), seg(sha256="dd"), sr()]),
    ("no end", books(image(InstanceState.INDEXED)), []),
    ("without a reason", books(image(InstanceState.FAILED)), []),
]


@pytest.mark.parametrize(("ledger", "arrivals"), WELL)
def test_what_is_well_is_no_violation(ledger: Books, arrivals: list[Arrival]) -> None:
    """Resent objects, later reports, other bytes under one UID, and stated end states."""
    offered = [IMAGE, Sent("1.1", "cc")]
    assert check_acknowledged(ledger, [IMAGE], arrivals) == []
    assert check_unanswered(ledger, [IMAGE], offered, arrivals) == []


@pytest.mark.parametrize(("words", "ledger", "arrivals"), LOST_OR_DOUBLED)
def test_lost_or_doubled_image_is_seen(words: str, ledger: Books, arrivals: list[Arrival]) -> None:
    """I1, and the image is named or the object at the PACS."""
    found = check_acknowledged(ledger, [IMAGE], arrivals)
    assert any(what.startswith("I1 ") and words in what for what in found), found


def test_unanswered_image_is_nowhere_or_whole() -> None:
    """I2: other bytes than were sent, a result without its image, and images that nobody sent are seen."""
    assert check_unanswered(books(), [], [IMAGE], []) == []
    assert check_unanswered(books(image()), [], [IMAGE], [seg(), sr()]) == []
    assert "bytes that nobody sent" in check_unanswered(books(image(sha256="cc")), [], [IMAGE], [seg(), sr()])[0]
    assert "0 scored contents, and 1 current SR" in check_unanswered(books(), [], [IMAGE], [seg(), sr()])[0]
    assert "not acknowledged, its state" in check_unanswered(books(image(InstanceState.RECEIVED)), [], [IMAGE], [])[0]
    assert "nobody sent it" in check_unanswered(books(), [], [], [seg()])[-1]
    assert "twice" in check_unanswered(books(image(), image()), [], [IMAGE], [seg(), sr()])[0]


def test_files_that_differ_from_their_rows_are_seen(tmp_path: Path) -> None:
    """I3: a row without its file, files without a row, what is temporary, and a dead process' results."""
    folders = Folders.below(tmp_path)
    for file in ("inbox/incoming/1.part", "inbox/2.dcm", "outbox/3.dcm", "run/infer-1-2-3.spool/4.result"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert check_files(books(image()), folders) == [
        "I3 inbox/2.dcm: no row owns it",
        "I3 inbox/incoming/1.part: no row owns it",
        "I3 inbox/x.dcm: a row owns it, and it is not there",
        "I3 outbox/3.dcm: no row owns it",
        "I3 run/infer-1-2-3.spool/4.result: is left",
    ]


def test_file_with_other_bytes_than_its_row_is_seen(tmp_path: Path) -> None:
    """I3: a file is whole."""
    folders = Folders.below(tmp_path)
    folders.inbox.mkdir()
    (folders.inbox / "x.dcm").write_bytes(bytes(128) + b"DICM")
    assert check_files(books(image()), folders) == ["I3 inbox/x.dcm: is not what its row says"]


def test_threads_and_handles_that_do_not_come_back_are_seen() -> None:
    """I4, by role; a pool may have its connections."""
    before = {
        "infer": Vitals(threads=2, handles=5, resident_bytes=1),
        "web": Vitals(threads=1, handles=1, resident_bytes=1),
    }
    after = {"infer": Vitals(threads=3, handles=9, resident_bytes=9)}
    assert check_vitals(before, before) == []
    assert check_vitals(before, after, handles=4) == [
        "I4 web: is not running",
        "I4 infer: 3 threads, and 2 before",
    ]
    assert "I4 infer: 9 handles, and 5 before" in check_vitals(before, after)


def test_patient_data_and_core_dumps_are_seen(tmp_path: Path) -> None:
    """I5, in any case of letters."""
    (tmp_path / "core.17").write_bytes(b"\x7fELF")
    (tmp_path / "core.py").write_text("no dump")
    assert check_said({"the log": "quiet", "metrics": "QUIRINELLA_total 1"}) == ["I5 metrics: says 'Quirinella'"]
    assert check_core_files(tmp_path) == [f"I5 {tmp_path / 'core.17'}: is a core dump"]


def test_late_echo_is_seen_unless_the_service_was_down() -> None:
    """I6."""
    times = {(0, 0.5): True, (2, 3.5): True, (5, 5.1): False, (8, 10): True}
    echoes = [Echo(began, ended, answered) for (began, ended), answered in times.items()]
    assert check_echoes(measured(echoes, [(7, 9)])) == [
        "I6 a C-ECHO was answered after 1.50 s",
        "I6 a C-ECHO was not answered after 0.10 s",
    ]
