"""A service is backed up under load, lost with all that it had, and restored: nothing is lost, and nothing doubled."""

import shutil
import threading
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage, generate_uid
from sqlalchemy import select

from backed_up import Ward
from cxr_triage.storage.backup import manifest
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Housekeeping, Reporting
from cxr_triage.storage.ledger.history import History
from cxr_triage.storage.result_records import RevisionState
from cxr_triage.storage.schema import InstanceRow
from daemons import DCMTK_OPTIONS, Daemon, RecordingPacs, another, chest_radiographs, wait_until
from journal import references
from peers import storescu

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1500)]

STUDIES = 20
IMAGES_OF_A_STUDY = 2
#: Between two studies.
PAUSE_SECONDS = 0.7
#: Of the images that are acknowledged when a backup is begun.
BACKUPS_AT = (6, 16)


@pytest.mark.parametrize(
    ("before", "after"), [("sqlite", "sqlite"), ("postgresql", "postgresql"), ("sqlite", "postgresql")]
)
def test_lost_service_comes_back(tmp_path: Path, new_database: Callable[[str], str], before: str, after: str) -> None:
    """Backed up twice under load, killed once it had gone on, deleted; restored elsewhere, also on PostgreSQL."""
    backup = tmp_path / "backup"
    images = make_studies(tmp_path)
    with RecordingPacs().running() as pacs:
        lost = service(tmp_path / "lost", new_database(before), pacs).start()
        try:
            with pushing(images, lost.dicom_port) as acknowledged:
                for count in BACKUPS_AT:
                    wait_until(lambda: len(acknowledged) >= count, seconds=300, what="enough acknowledged")  # noqa: B023
                    lost.run("backup", str(backup))
                # It goes on: results are made and delivered that the backup does not know of.
                arrived = len(pacs.arrivals)
                wait_until(lambda: len(pacs.arrivals) > arrived + 4, seconds=300, what="more delivered")
        finally:
            lost.kill()
        kept = manifest.read(backup)
        sent_before = {uid: contents.copy() for uid, contents in pacs.contents.items()}
        shutil.rmtree(lost.folder)
        found = service(tmp_path / "found", new_database(after), pacs)
        found.run("restore", str(backup))
        url = database_of(found)
        known, settled = images_of(found, url), reported_studies(url)
        assert len(known) == kept.counts["instance"] >= BACKUPS_AT[1]
        assert kept.problems == ()
        with found, closing(open_database(url)) as database:
            wait_until(finished(database), seconds=600, what="every image of the backup scored, reported, delivered")
        with closing(Ward(found.folder, url)) as ward:
            assert ward.files() == ward.owned()
        assert_nothing_lost_or_doubled(pacs, known, settled)
        assert {uid for uid, contents in sent_before.items() if pacs.contents[uid] != contents} == set()
        with closing(open_database(url)) as database:
            scored = Counter(image.sop_instance_uid for image in History(database).scored_images())
        assert scored == dict.fromkeys(known, 1)


def assert_nothing_lost_or_doubled(pacs: RecordingPacs, known: dict[str, str], settled: set[str]) -> None:
    """Each image of the backup is cited by one SEG and one current SR, and no UID stands for two contents.

    A study that both services reported, in other steps, may have two current SRs, as the guide to backups says.
    """
    assert {uid: len(contents) for uid, contents in pacs.contents.items()} == dict.fromkeys(pacs.contents, 1)
    segs = Counter(uid for ds in pacs.of_class(SegmentationStorage) for uid in references(ds) & known.keys())
    assert segs == dict.fromkeys(known, 1)
    reports = Counter(uid for ds in current_reports(pacs) for uid in references(ds) & known.keys())
    assert reports.keys() == known.keys()
    assert {uid: count for uid, count in reports.items() if count > (1 if known[uid] in settled else 2)} == {}
    current = Counter(str(ds.StudyInstanceUID) for ds in current_reports(pacs))
    assert {study: current[study] for study in settled} == dict.fromkeys(settled, 1)
    assert settled


def service(folder: Path, url: str, pacs: RecordingPacs) -> Daemon:
    """Configure a service on a database; SQLite's is in its folder."""
    folder.mkdir()
    return Daemon(
        folder,
        destinations={"pacs": ("TESTPACS", pacs.port)},
        database="sqlite:///triage.db" if url.startswith("sqlite") else url,
        extra="[deliver]\nretry_first_seconds = 0.5\n",
    )


def database_of(daemon: Daemon) -> str:
    """Where a service has its rows."""
    with daemon.config.open("rb") as file:
        url: str = tomllib.load(file)["storage"]["database"]
    return f"sqlite:///{daemon.folder / 'triage.db'}" if url.startswith("sqlite") else url


def make_studies(folder: Path) -> list[list[Path]]:
    """Each of two images in one transfer syntax."""
    sources = chest_radiographs()
    studies = []
    for number in range(STUDIES):
        study, source = generate_uid(), sources[number % len(sources)]
        studies.append([another(source, folder, study=study) for _ in range(IMAGES_OF_A_STUDY)])
    return studies


@contextmanager
def pushing(studies: list[list[Path]], port: int) -> Iterator[list[Path]]:
    """Push one study after the other, each over one association, until the block ends; gives what is acknowledged."""
    acknowledged: list[Path] = []
    stop = threading.Event()

    def push() -> None:
        for study in studies:
            options = ["-R", DCMTK_OPTIONS[read_file_meta_info(study[0]).TransferSyntaxUID]]
            while storescu(port, *study, options=options).returncode != 0:
                if stop.wait(0.2):
                    return
            acknowledged.extend(study)
            if stop.wait(PAUSE_SECONDS):
                return

    pusher = threading.Thread(target=push)
    pusher.start()
    try:
        yield acknowledged
    finally:
        stop.set()
        pusher.join()


def images_of(daemon: Daemon, url: str) -> dict[str, str]:
    """Every image of a ledger, with the study that its file names."""
    with closing(open_database(url)) as database, database.read() as session:
        paths = session.scalars(select(InstanceRow.path)).all()
    headers = [dcmread(daemon.folder / "inbox" / path, stop_before_pixels=True) for path in paths]
    return {str(ds.SOPInstanceUID): str(ds.StudyInstanceUID) for ds in headers}


def reported_studies(url: str) -> set[str]:
    """Studies of a ledger with all of their images, and every one of them reported."""
    with closing(open_database(url)) as database, database.read() as session:
        reported = session.scalars(select(InstanceRow.study_instance_uid).where(InstanceRow.covered_by.is_not(None)))
        return {str(study) for study, count in Counter(reported).items() if count == IMAGES_OF_A_STUDY}


def finished(database: Database) -> Callable[[], bool]:
    """Tell whether no work is left."""
    housekeeping, reporting = Housekeeping(database), Reporting(database)

    def now() -> bool:
        unreported = reporting.studies_to_report(1)
        counts = housekeeping.counts()
        waiting = counts.instances[InstanceState.RECEIVED] + counts.instances[InstanceState.INDEXED]
        pending = sum(states[DeliveryState.PENDING] for states in counts.deliveries.values())
        assert counts.instances[InstanceState.FAILED] + counts.instances[InstanceState.UNSUITABLE] == 0
        return not (waiting or unreported or pending or counts.revisions[RevisionState.OPEN])

    return now


def current_reports(pacs: RecordingPacs) -> list[Dataset]:
    """The reports at the PACS that no other one there takes the place of."""
    reports = pacs.of_class(Comprehensive3DSRStorage)
    superseded = {
        uid for ds in reports for item in ds.get("PredecessorDocumentsSequence", []) for uid in references(item)
    }
    return [ds for ds in reports if ds.SOPInstanceUID not in superseded]
