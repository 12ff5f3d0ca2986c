"""An old service's database with work in flight is migrated, and this version's service finishes the work."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage
from pynetdicom.dsutils import split_dataset

from backed_up import old_ledger
from builders import prediction, received_instance, store_file, thorax_masks
from conftest import DATABASES
from cxr_triage.daemon.indexing import read_instance_header
from cxr_triage.daemon.picturing import picture_of
from cxr_triage.daemon.report import Reporter
from cxr_triage.daemon.workbench import Workbench
from cxr_triage.model.priority import Policy
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.inbox import Inbox, Outbox
from cxr_triage.storage.ledger import Dispatch, Housekeeping, Intake, Reporting, Scoring
from cxr_triage.storage.migrate import MIGRATIONS, head, migrate
from cxr_triage.storage.result_records import RevisionState
from daemons import Daemon, RecordingPacs, another, chest_radiographs, wait_until
from journal import references

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

PACS = ("pacs", "air")
#: Of a host that is gone: nobody can ask whether it lives, so its leases decide.
GONE = "1-0123456789ab-cdef"
LEASE = timedelta(seconds=5)
POLICY = Policy()


class OldService:
    """What a service had done, step by step, on this version's schema; `old_ledger` makes it an older one's."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._sources = iter(chest_radiographs())
        self._folder = folder
        self._inbox = Inbox(folder / "inbox")
        self._intake = Intake(database)
        self.scoring = Scoring(database, lease=LEASE)
        self.dispatch = Dispatch(database, lease=LEASE)
        self.reporting = Reporting(database)
        self._reporter = Reporter(
            self.reporting,
            bench=Workbench(inbox=self._inbox, outbox=Outbox(folder / "outbox"), read_picture=picture_of),
            destinations=[PACS],
            policy_digest=POLICY.digest(),
        )

    def receive(self) -> Dataset:
        """Take a real radiograph in; its header."""
        path = another(next(self._sources), self._folder)
        ds = dcmread(path, stop_before_pixels=True)
        content, start = path.read_bytes(), split_dataset(path)[1]
        stored = store_file(self._inbox, content[start:], sop_instance_uid=ds.SOPInstanceUID, meta=content[:start])
        image = received_instance(
            sop_instance_uid=str(ds.SOPInstanceUID),
            sop_class_uid=str(ds.SOPClassUID),
            path=stored.path,
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            received_at=utc_now(),
        )
        self._intake.record_received(image)
        return ds

    def index(self) -> Dataset:
        """And put it into its study."""
        ds = self.receive()
        [claim] = self.scoring.claim_to_index("infer-" + GONE, 1)
        self.scoring.record_indexed(claim, read_instance_header(self._inbox.absolute(claim.path)), POLICY)
        return ds

    def score(self) -> Dataset:
        """And score it."""
        ds = self.index()
        claim = self.scoring.claim_to_score("infer-" + GONE)
        assert claim is not None
        self.scoring.record_scored(claim, prediction(masks_CHW=thorax_masks(ds.Rows, ds.Columns)), POLICY)
        return ds

    def report(self) -> Dataset:
        """And report it."""
        ds = self.score()
        self._reporter.report(str(ds.StudyInstanceUID))
        return ds


def fill(service: OldService) -> tuple[set[str], str]:
    """Have something in every state; the images whose result the PACS has not got, and one that failed."""
    service.report()
    for delivery in service.dispatch.claim("deliver-" + GONE, "pacs", 2):
        service.dispatch.record_stored(delivery)
    given_up = service.report()
    for delivery in service.dispatch.claim("deliver-" + GONE, "pacs", 1):
        service.dispatch.record_dead(delivery, "refused")
    in_flight = service.report()
    assert len(service.dispatch.claim("deliver-" + GONE, "pacs", 1)) == 1
    opened = service.score()
    service.reporting.open_revision(str(opened.StudyInstanceUID), POLICY.digest())
    failed = service.index()
    claim = service.scoring.claim_to_score("infer-" + GONE)
    assert claim is not None
    service.scoring.record_failure(claim, error_class="killed", explanation="It died.", retry_at=None)
    claimed = service.index()
    assert service.scoring.claim_to_score("infer-" + GONE) is not None
    indexed = service.index()
    received = service.receive()
    assert len(service.scoring.claim_to_index("infer-" + GONE, 1)) == 1
    free = service.receive()
    left = (given_up, in_flight, opened, failed, claimed, indexed, received, free)
    return {str(ds.SOPInstanceUID) for ds in left}, str(failed.SOPInstanceUID)


@pytest.mark.parametrize("kind", DATABASES)
def test_service_finishes_what_an_old_one_began(tmp_path: Path, new_database: Callable[[str], str], kind: str) -> None:
    """From the first schema: every image has its SEG and its SR at the PACS, once."""
    folder = tmp_path / "service"
    folder.mkdir()
    filled, url = new_database(kind), f"sqlite:///{folder / 'triage.db'}" if kind == "sqlite" else new_database(kind)
    migrate(filled)
    with closing(open_database(filled)) as database:
        left, failed = fill(OldService(folder, database))
        old_ledger(database, url, first_revision())
    with RecordingPacs().running() as pacs:
        daemon = Daemon(
            folder,
            destinations={"pacs": ("TESTPACS", pacs.port)},
            database=url,
            extra="[upkeep]\ninterval_seconds = 1\n",
            # The old one scored by no weights that exist: what it left is to be finished, not done anew.
            environment={"CXR_TRIAGE_INFER__SCORE_AGAIN": "false"},
        )
        if head() != first_revision():
            with pytest.raises(AssertionError, match="run `cxr-triage migrate`"):
                daemon.run("status")
        daemon.run("migrate")
        with daemon, closing(open_database(url)) as database:
            daemon.run("replay", failed)
            daemon.run("replay", "--dead", "pacs")
            wait_until(finished(database), seconds=600, what="all work done")
    for sop_class in (SegmentationStorage, Comprehensive3DSRStorage):
        cited = [uid for ds in pacs.of_class(sop_class) for uid in references(ds) & left]
        assert sorted(cited) == sorted(left)
    assert {uid: len(contents) for uid, contents in pacs.contents.items()} == dict.fromkeys(pacs.contents, 1)


def first_revision() -> str:
    """Where every site began."""
    [base] = ScriptDirectory(str(MIGRATIONS)).get_bases()
    return base


def finished(database: Database) -> Callable[[], bool]:
    """Tell whether every image is scored and reported, and everything delivered."""
    housekeeping = Housekeeping(database)

    def now() -> bool:
        counts = housekeeping.counts()
        images = {state for state, count in counts.instances.items() if count}
        deliveries = {state for state, count in counts.deliveries["pacs"].items() if count}
        unreported = Reporting(database).studies_to_report(1) or counts.revisions[RevisionState.OPEN]
        return images == {InstanceState.SCORED} and deliveries == {DeliveryState.STORED} and not unreported

    return now
