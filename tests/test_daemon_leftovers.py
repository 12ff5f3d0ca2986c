"""What a crash leaves between a file's name and its row: an image gets its row, a result is made again."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from builders import radiograph_file, store_file
from cxr_triage.daemon.adoption import Adoption
from cxr_triage.daemon.leftovers import Leftovers
from cxr_triage.model.errors import StorageError, UnreachableError
from cxr_triage.storage.database import Database
from cxr_triage.storage.image_records import InstanceState, ReceivedInstance
from cxr_triage.storage.inbox import Inbox, Outbox
from cxr_triage.storage.ledger import Housekeeping, Intake, Scoring
from cxr_triage.storage.upkeep_records import Place
from reception import Reception, data_set_bytes, receiving
from steps import LEASE

#: Longer than any test.
FOR_EVER = 1e6


class Site:
    """An inbox whose receiver may lose its row, and who looks after it."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.database = database
        self.inbox = Inbox(folder / "inbox")
        self.housekeeping = Housekeeping(database)
        self.rings: list[None] = []

    def leftovers(self, *, settle_seconds: float = 0) -> Leftovers:
        """Give a fresh pair of eyes."""
        adoption = Adoption(
            inbox=self.inbox,
            intake=Intake(self.database),
            housekeeping=self.housekeeping,
            on_adopted=lambda: self.rings.append(None),
        )
        return Leftovers("inbox", self.inbox, self.housekeeping, put_away=adoption.adopt, settle_seconds=settle_seconds)

    def received(self) -> int:
        """How many images the ledger has."""
        return self.housekeeping.counts().instances[InstanceState.RECEIVED]


@pytest.fixture
def site(tmp_path: Path, database: Database) -> Site:
    """An empty site, once per kind of database."""
    return Site(tmp_path, database)


def lose_the_row(reception: Reception, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Send an image whose row is not committed, as when the receiver is killed at that moment."""

    def refuse(_intake: Intake, _instance: ReceivedInstance, **_lost: Path | None) -> None:
        raise StorageError("killed")

    with monkeypatch.context() as changed:
        changed.setattr(Intake, "record_received", refuse)
        with pytest.raises(UnreachableError, match="0xA700"):
            reception.send(path)


@pytest.fixture
def orphan(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """An image as it was sent, and its file in the inbox that has no row."""
    sent = radiograph_file(tmp_path)
    with receiving(tmp_path, site.database) as reception:
        lose_the_row(reception, monkeypatch, sent)
        (kept,) = reception.files
    return sent, kept


def test_an_image_without_a_row_is_adopted(site: Site, orphan: tuple[Path, Path]) -> None:
    """Byte for byte, with its sender's title: as if it had just been received; and work on it begins."""
    sent, kept = orphan
    assert site.leftovers().look() == 1
    (claim,) = Scoring(site.database, lease=LEASE).claim_to_index("test", 10)
    assert site.inbox.absolute(claim.path) == kept
    assert claim.sop_instance_uid == dcmread(sent).SOPInstanceUID
    assert data_set_bytes(kept) == data_set_bytes(sent)
    assert site.rings == [None]
    assert site.leftovers().look() == 0


def test_an_adopted_image_that_is_sent_again_is_the_same(tmp_path: Path, site: Site, orphan: tuple[Path, Path]) -> None:
    """Its digest is over the data set, as the receiver's."""
    sent, _ = orphan
    site.leftovers().look()
    with receiving(tmp_path, site.database) as reception:
        assert reception.send(sent) == 0
        assert len(reception.files) == 1
    assert site.received() == 1


def test_an_image_that_was_sent_again_first_has_one_file(tmp_path: Path, site: Site, orphan: tuple[Path, Path]) -> None:
    """The file without a row goes, the one with a row stays."""
    sent, kept = orphan
    with receiving(tmp_path, site.database) as reception:
        assert reception.send(sent) == 0
        assert len(reception.files) == 2
        site.leftovers().look()
        assert len(reception.files) == 1
    assert not kept.exists()
    assert site.received() == 1


def test_the_titles_stand_in_the_file(orphan: tuple[Path, Path]) -> None:
    """PS3.10 Table 7.1-1: who sent it, and whom it called."""
    meta = dcmread(orphan[1]).file_meta
    assert (meta.SendingApplicationEntityTitle, meta.ReceivingApplicationEntityTitle) == ("MODALITY", "CXRTRIAGE")


def test_what_a_living_writer_is_about_to_record_stays(site: Site) -> None:
    """However often somebody looks."""
    leftovers = site.leftovers()
    with site.inbox.storing(b"x", sop_instance_uid="1.2") as stored:
        assert [leftovers.look() for _ in range(3)] == [0, 0, 0]
        assert site.inbox.absolute(stored.path).exists()
    assert leftovers.look() == 1


def test_nothing_is_put_away_before_its_time(site: Site, orphan: tuple[Path, Path]) -> None:
    """A dead writer's commit may still be on its way through the server."""
    leftovers = site.leftovers(settle_seconds=FOR_EVER)
    assert [leftovers.look(), leftovers.look()] == [0, 0]
    assert orphan[1].exists()
    assert site.received() == 0


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _overwrite(file: Path) -> None:
    file.write_bytes(b"nothing that a receiver writes")


@pytest.mark.parametrize("spoil", [_cut, _overwrite])
def test_what_is_not_as_it_was_received_is_set_aside(
    site: Site, orphan: tuple[Path, Path], spoil: Callable[[Path], None]
) -> None:
    """A person decides on it; the ledger does not take it."""
    _, kept = orphan
    spoil(kept)
    site.leftovers().look()
    assert not kept.exists()
    assert (site.inbox.absolute(Path("unknown")) / kept.name).exists()
    assert site.received() == 0
    assert site.leftovers().look() == 0


def test_a_folder_in_which_nothing_changed_is_not_read_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inbox of a month is large. A file that comes later is seen all the same."""
    with receiving(tmp_path, site.database) as reception:
        reception.send(radiograph_file(tmp_path))
    leftovers = site.leftovers()
    read: list[Path] = []
    files = Inbox.files

    def watched(inbox: Inbox, folder: Path) -> Iterator[str]:
        read.append(folder)
        return files(inbox, folder)

    monkeypatch.setattr(Inbox, "files", watched)
    for _ in range(4):
        leftovers.look()
    assert len(read) == 2
    store_file(site.inbox, b"x", sop_instance_uid="1.2")
    assert leftovers.look() == 1


def test_more_files_than_are_held_in_memory_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of the folder is looked at, some at a time."""
    monkeypatch.setattr("cxr_triage.daemon.leftovers.FILES_AT_ONCE", 2)
    asked: list[int] = []
    unowned = Housekeeping.unowned

    def counted(housekeeping: Housekeeping, place: Place, paths: Iterable[str]) -> list[Path]:
        some = list(paths)
        asked.append(len(some))
        return unowned(housekeeping, place, some)

    monkeypatch.setattr(Housekeeping, "unowned", counted)
    for number in range(5):
        store_file(site.inbox, b"x", sop_instance_uid=f"1.2.{number}")
    assert site.leftovers().look() == 5
    assert asked[:3] == [2, 2, 1]


def test_an_orphan_replaces_a_file_that_was_lost(site: Site, orphan: tuple[Path, Path], tmp_path: Path) -> None:
    """The sender was not answered, and may never send the image again."""
    sent, kept = orphan
    with receiving(tmp_path, site.database) as reception:
        assert reception.send(sent) == 0
        [known] = set(reception.files) - {kept}
    known.unlink()
    assert site.leftovers().look() == 1
    (claim,) = Scoring(site.database, lease=LEASE).claim_to_index("test", 10)
    assert site.inbox.absolute(claim.path) == kept


def test_parts_of_the_dead_go(site: Site) -> None:
    """Half an image is no image."""
    with site.inbox.storing(b"x", sop_instance_uid="1.2"):
        part = site.inbox.absolute(Path("incoming")) / "dead.part"
        part.write_bytes(b"half")
    site.leftovers().look()
    assert not part.exists()


def test_results_that_no_row_knows_go(tmp_path: Path, site: Site) -> None:
    """They are made again from what the database knows."""
    outbox = Outbox(tmp_path / "outbox")
    left = outbox.absolute(store_file(outbox, b"left", sop_instance_uid="1.1").path)
    Leftovers("outbox", outbox, site.housekeeping, put_away=outbox.discard, settle_seconds=0).look()
    assert not left.exists()
