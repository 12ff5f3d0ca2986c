"""Superseded objects: destinations that take rejection notes get one, and the others a number in the description."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import KeyObjectSelectionDocumentStorage

from builders import received_instance
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.commitment_records import Subject
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.image_records import Receipt
from cxr_triage.storage.ledger import Dispatch, Housekeeping, Intake, Rejections
from cxr_triage.storage.ledger.commitments import Commitments
from cxr_triage.storage.result_records import ObjectKind, Rejection, ResultObject
from cxr_triage.storage.schema import InstanceRow
from deliveries import LEASE, Pacs
from peers import orthanc, storescp
from rejecting import EVERYTHING, FIRST, SECOND, dataset, deliver, notes, rejected, report, settle, title, uids
from sites import Site

SEG, PR, SC, SR, KO, NOTE = ObjectKind
#: The same SOP Instance with other bytes.
CORRECTED = {"StudyDescription": "Corrected"}


@pytest.fixture
def site(tmp_path: Path, database: Database) -> Site:
    """Give an empty site, once per kind of database."""
    return Site(tmp_path, database)


def test_what_other_bytes_supersede_is_rejected_after_its_successors_came(site: Site) -> None:
    """Drawings and the flag; the report names its predecessor itself."""
    old = report(site)
    assert set(settle(site, {"pacs": True})["pacs"]) == uids(old)
    new = report(site, **CORRECTED)
    told = settle(site, {"pacs": True})["pacs"]
    [note] = notes(site)
    assert rejected(note) == uids(old, SEG, PR, KO)
    assert (title(note), note.Modality, note.StudyInstanceUID) == (
        "113001",
        "KO",
        dataset(site, old[0]).StudyInstanceUID,
    )
    assert (set(told[:-1]), told[-1]) == (uids(new), note.SOPInstanceUID)
    assert settle(site, {"pacs": True}) == {"pacs": []}


def test_a_destination_without_notes_sees_a_number(site: Site) -> None:
    """In the list of series, of what has a predecessor."""
    first = report(site, profile="floor")
    report(site, image=SECOND, profile="floor")
    again = report(site, profile="floor", **CORRECTED)
    settle(site, {"pacs": False}, profile="floor")
    assert notes(site) == []
    assert [dataset(site, each).SeriesDescription for each in (first[0], again[0])] == [
        "Chest triage picture (AI), research, not for diagnosis",
        "Chest triage picture (AI), research, not for diagnosis, rev 2",
    ]


@pytest.mark.parametrize("profile", ["air", "ohif", "stone", "weasis", "floor"])
def test_every_kind_has_the_number_within_64_characters(site: Site, profile: str) -> None:
    """PS3.5 6.2, VR LO."""
    report(site, profile=profile)
    for each in report(site, profile=profile, **CORRECTED):
        assert str(dataset(site, each).SeriesDescription).endswith(", rev 2")
        assert len(dataset(site, each).SeriesDescription) <= 64


def test_the_same_study_again_makes_no_second_object(site: Site) -> None:
    """Pushed again and replayed, byte for byte: nothing is made, and nothing is sent twice."""
    made = report(site)
    settle(site, {"pacs": True})
    [image] = site.inbox.absolute(Path()).rglob("*.dcm")
    before = (site.files(), image.read_bytes())
    with site.database.read() as session:
        sha256 = session.get_one(InstanceRow, 1).sha256
    again = received_instance(sop_instance_uid=FIRST, sha256=sha256)
    assert Intake(site.database).record_received(again) is Receipt.SAME_BYTES
    assert Dispatch(site.database, lease=LEASE).replay_object(made[0].sop_instance_uid, ["pacs"]) == []
    assert site.reporter("weasis").report_pending() == 0
    assert settle(site, {"pacs": True}) == {"pacs": []}
    assert (site.files(), image.read_bytes()) == before


def test_another_image_supersedes_the_flag_alone(site: Site) -> None:
    """Drawings of the first image are used again."""
    old = report(site)
    report(site, image=SECOND)
    settle(site, {"pacs": True})
    [note] = notes(site)
    assert rejected(note) == uids(old, KO)


def test_an_image_that_has_left_the_inbox_keeps_its_results(site: Site) -> None:
    """It has not left the study: what was seen on it is true."""
    report(site)
    [image] = site.inbox.absolute(Path()).rglob("*.dcm")
    image.unlink()
    with site.database.transaction() as session:
        session.get_one(InstanceRow, 1).owns_file = False
    report(site, image=SECOND)
    settle(site, {"pacs": True})
    assert notes(site) == []


def test_only_what_a_destination_has_is_rejected(site: Site) -> None:
    """A PACS may refuse a note about what it does not know; what comes late is rejected then."""
    old = report(site)
    [seg] = uids(old, SEG)
    refusing = {"pacs": Pacs(statuses=[0xC000])}
    settle(site, {"pacs": True}, pacs=refusing)
    report(site, **CORRECTED)
    settle(site, {"pacs": True})
    assert notes(site) == []  # its SR still waits for the SEG that was refused
    Dispatch(site.database, lease=LEASE).replay_dead("pacs")
    settle(site, {"pacs": True})
    [note] = notes(site)
    assert (rejected(note), seg in rejected(note)) == (uids(old, SEG, PR, KO), True)


def test_a_note_waits_for_what_stands_instead(site: Site) -> None:
    """Readers never have nothing."""
    report(site)
    settle(site, {"pacs": True})
    report(site, **CORRECTED)
    ledger = Rejections(site.database)
    assert ledger.due(["pacs"], 9) == []
    with Pacs(statuses=[0xC000]).serving(*EVERYTHING) as port:
        deliver(site, "pacs", port)
    assert ledger.due(["pacs"], 9) == []
    Dispatch(site.database, lease=LEASE).replay_dead("pacs")
    settle(site, {"pacs": False})
    [due] = ledger.due(["pacs"], 9)
    assert len(due.objects) == 3


def test_destinations_that_have_the_same_share_a_note(site: Site) -> None:
    """One that takes none has none."""
    report(site, "one", "two", "three")
    takes = {"one": True, "two": True, "three": False}
    settle(site, takes)
    report(site, "one", "two", "three", **CORRECTED)
    told = settle(site, takes)
    [note] = notes(site)
    assert [note.SOPInstanceUID in told[name] for name in takes] == [True, True, False]
    assert len(site.files()) == len(site.reporting.objects())


class _FailsOnce(Rejections):
    """A ledger whose database goes away once, before or after a commit."""

    def __init__(self, database: Database, *, after_commit: bool) -> None:
        super().__init__(database)
        self._after_commit = after_commit
        self.failures = 0

    def record_note(self, rejection: Rejection, made: ResultObject) -> bool:
        """Fail the first time."""
        if self.failures:
            return super().record_note(rejection, made)
        self.failures += 1
        if self._after_commit:
            super().record_note(rejection, made)
        raise StorageError("the connection was lost: start the database")


@pytest.mark.parametrize("after_commit", [False, True])
def test_a_crash_while_recording_doubles_no_note(site: Site, after_commit: bool) -> None:
    """Made again from the same rows, it is the same note."""
    report(site)
    settle(site, {"pacs": True})
    report(site, **CORRECTED)
    ledger = _FailsOnce(site.database, after_commit=after_commit)
    told = settle(site, {"pacs": True}, ledger=ledger)["pacs"]
    [note] = notes(site)
    assert (told.count(note.SOPInstanceUID), ledger.failures) == (1, 1)


def test_without_its_image_a_note_is_about_the_patient_that_the_ledger_knows(site: Site) -> None:
    """The file may have been removed after its time."""
    tags = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen", "AccessionNumber": "A7"}
    report(site, **tags)
    settle(site, {"pacs": True})
    new = report(site, **tags, **CORRECTED)
    for image in site.inbox.absolute(Path()).rglob("*.dcm"):
        image.unlink()
    settle(site, {"pacs": True})
    [note], other = notes(site), dataset(site, new[0])
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate"):
        assert note[keyword].value == other[keyword].value
    assert note.SpecificCharacterSet == "ISO_IR 100"


def test_what_is_rejected_is_not_asked_to_be_kept(site: Site) -> None:
    """A PACS may throw it away; it must not be sent again for that, and its file may go."""
    old = report(site)
    settle(site, {"pacs": True})
    new = report(site, **CORRECTED)
    settle(site, {"pacs": True})
    request = Commitments(site.database, lease=LEASE, clock=lambda: utc_now() + timedelta(days=1)).plan(
        "tester", "pacs", limit=99, settle=timedelta(0), subjects=[Subject.RESULTS]
    )
    assert request is not None
    asked = {reference.sop_instance_uid for reference in request.references}
    assert asked == uids(new) | uids(old, SR) | {str(note.SOPInstanceUID) for note in notes(site)}


@pytest.mark.parametrize("takes", [(), ("1.2.840.10008.5.1.4.1.1.66.4",)])
def test_a_destination_that_takes_no_key_objects_takes_no_notes(site: Site, takes: Sequence[str]) -> None:
    """That is said of it like of any other class, and nothing waits for ever."""
    report(site, profile="air")
    settle(site, {"pacs": False}, profile="air")
    report(site, profile="air", **CORRECTED)
    settle(site, {"pacs": False}, profile="air")
    site.rejections(("pacs", "air")).make_pending()
    with Pacs().serving(*takes) as port:
        deliver(site, "pacs", port)
    site.maker(("pacs", "air")).decide_pending()
    counts = Housekeeping(site.database).counts()
    [found] = counts.not_taken["pacs"]
    assert (found.sop_class_uid, found.instead.value) == (KeyObjectSelectionDocumentStorage, "nothing")
    assert counts.untold == {}
    assert counts.deliveries["pacs"][DeliveryState.PENDING] == 0


def test_what_stands_in_for_a_superseded_object_is_rejected_with_it(site: Site) -> None:
    """A destination that was away gets both, in the form that it takes, and then the note."""
    takes = ("1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.59")
    report(site, profile="air")
    report(site, profile="air", **CORRECTED)
    with Pacs().serving(*takes) as port:
        deliver(site, "pacs", port)
        while site.maker(("pacs", "air")).decide_pending() or site.rejections(("pacs", "air")).make_pending():
            deliver(site, "pacs", port)
    first, second = (each for each in site.reporting.objects() if each.kind is PR)
    [note] = notes(site)
    assert rejected(note) == {first.sop_instance_uid}
    assert str(dataset(site, second).SeriesDescription).endswith(", rev 2")


def test_orthanc_and_dcmtk_store_notes(site: Site, tmp_path: Path) -> None:
    """Neither acts on them."""
    report(site, "orthanc", "dcmtk")
    takes = {"orthanc": True, "dcmtk": True}
    settle(site, takes)
    report(site, "orthanc", "dcmtk", **CORRECTED)
    settle(site, dict.fromkeys(takes, False))
    assert site.rejections(*((name, "weasis") for name in takes)).make_pending() == 2
    [note] = notes(site)
    with orthanc(tmp_path / "orthanc") as server, storescp(tmp_path / "dcmtk") as port:
        for name, where in {"orthanc": server.dicom_port, "dcmtk": port}.items():
            deliver(site, name, where)
        assert server.instances() == [note.SOPInstanceUID]
    [file] = (tmp_path / "dcmtk").iterdir()
    assert dcmread(file).SOPInstanceUID == note.SOPInstanceUID
    assert Housekeeping(site.database).counts().deliveries["dcmtk"][DeliveryState.PENDING] == 0
