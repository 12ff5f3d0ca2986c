"""Whatever process is killed, and whenever: nothing that was acknowledged is lost, and nothing is doubled."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage, generate_uid

from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.ledger import Housekeeping, Reporting
from cxr_triage.storage.ledger.history import History
from cxr_triage.storage.records import DeliveryState, InstanceState, RevisionState
from daemons import (
    Daemon,
    RecordingPacs,
    another,
    chest_radiographs,
    kill_process,
    send_by_dcmtk,
    wait_until,
)
from journal import references

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1500)]

IMAGES = 30
KILLS = 15
SEED = 20240304
#: A kill counts as an attempt at the image that it hit; here the test decides how often that happens.
EXTRA = """
[infer]
maximum_attempts = 50
retry_first_seconds = 0.5
retry_longest_seconds = 2
[deliver]
retry_first_seconds = 0.5
retry_longest_seconds = 2
[upkeep]
interval_seconds = 2
[service]
restart_first_seconds = 0.2
restart_longest_seconds = 1
"""


def test_random_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """30 images, 15 kills of any process: one prediction, one SEG and one current SR for each image."""
    chance = random.Random(SEED)
    images = make_images(tmp_path)
    with RecordingPacs().running() as pacs:
        daemon = Daemon(tmp_path, destinations={"pacs": ("TESTPACS", pacs.port)}, extra=EXTRA).start()
        try:
            pusher = threading.Thread(target=push_until_acknowledged, args=(images, daemon.dicom_port))
            pusher.start()
            killed = kill_at_random(daemon, chance)
            pusher.join()
            with closing(open_database(f"sqlite:///{tmp_path / 'triage.db'}")) as database:
                wait_until(finished(database), seconds=600, what="every image scored, reported and delivered")
        finally:
            daemon.kill()
    assert len(killed) == KILLS
    uids = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in images}
    assert predictions(tmp_path) == dict.fromkeys(uids, 1)
    assert Counter(source for ds in pacs.of_class(SegmentationStorage) for source in references(ds) & uids) == (
        dict.fromkeys(uids, 1)
    )
    assert Counter(source for ds in current_reports(pacs) for source in references(ds) & uids) == dict.fromkeys(uids, 1)
    assert {uid: len(contents) for uid, contents in pacs.contents.items()} == dict.fromkeys(pacs.contents, 1)


def make_images(folder: Path) -> list[Path]:
    """Thirty instances: the studies have one, two or three images."""
    made: list[Path] = []
    sources = chest_radiographs()
    while len(made) < IMAGES:
        study = generate_uid()
        for _ in range(min(len(made) % 3 + 1, IMAGES - len(made))):
            made.append(another(sources[len(made) % len(sources)], folder, study=study))
    return made


def push_until_acknowledged(images: list[Path], port: int) -> None:
    """As a modality does: again and again, until it is told success; a forgetful one sends some once more."""
    chance = random.Random(SEED + 1)
    for path in images:
        time.sleep(chance.uniform(0, 2.5))
        for _ in range(chance.choice((1, 1, 1, 2))):
            while not send_by_dcmtk(path, port=port):
                time.sleep(0.2)


def kill_at_random(daemon: Daemon, chance: random.Random) -> list[int]:
    """Kill any process of the daemon, again and again; start it anew when the supervisor itself was hit."""
    killed: list[int] = []
    while len(killed) < KILLS:
        time.sleep(chance.uniform(0.3, 6))
        processes = daemon.processes()
        if not processes:
            daemon.start(wait=False)
            continue
        victim = chance.choice(processes)
        kill_process(victim)
        killed.append(victim)
        assert daemon.process is not None
        if victim == daemon.process.pid:
            daemon.process.wait()
    if not daemon.processes():
        daemon.start(wait=False)
    return killed


def finished(database: Database) -> Callable[[], bool]:
    """Tell whether no work is left."""
    housekeeping, reporting = Housekeeping(database), Reporting(database)

    def now() -> bool:
        images = housekeeping.counts().instances
        unreported = reporting.studies_to_report(1)
        counts = housekeeping.counts()
        pending = sum(states[DeliveryState.PENDING] for states in counts.deliveries.values())
        at_rest = not unreported and counts.revisions[RevisionState.OPEN] == 0 and pending == 0
        assert images[InstanceState.FAILED] == 0
        assert images[InstanceState.UNSUITABLE] == 0
        return images[InstanceState.SCORED] == IMAGES and at_rest

    return now


def predictions(folder: Path) -> dict[str, int]:
    """How many predictions the ledger has, by image."""
    with closing(open_database(f"sqlite:///{folder / 'triage.db'}")) as database:
        return Counter(image.sop_instance_uid for image in History(database).scored_images())


def current_reports(pacs: RecordingPacs) -> list[Dataset]:
    """The reports at the PACS that no other one there takes the place of."""
    reports = pacs.of_class(Comprehensive3DSRStorage)
    superseded = {
        uid for ds in reports for item in ds.get("PredecessorDocumentsSequence", []) for uid in references(item)
    }
    return [ds for ds in reports if ds.SOPInstanceUID not in superseded]
