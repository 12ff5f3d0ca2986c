"""The ledger, step by step: what the roles do to it, in one line each, under a clock that the test moves."""

from datetime import datetime, timedelta

from sqlalchemy import text

from builders import MORNING, instance_header, prediction, received_instance, result_object
from cxr_triage.model.findings import Finding
from cxr_triage.model.priority import Policy
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.image_records import Claim, ReceivedInstance
from cxr_triage.storage.ledger import (
    Dispatch,
    Housekeeping,
    Intake,
    ReadingList,
    Reporting,
    Scoring,
    StandIns,
)
from cxr_triage.storage.list_records import ListedStudy
from cxr_triage.storage.result_records import ObjectKind, ResultObject, Revision
from cxr_triage.storage.service_clock import Reading
from peers import eventually

LEASE = timedelta(minutes=5)
OWNER = "infer-1-host-1"
PACS = ("pacs", "air")


class SetClock:
    """A clock that stands still until the test moves it."""

    def __init__(self, now: datetime = MORNING) -> None:
        self.now = now
        #: How far the machine's clock is ahead and not believed.
        self.jump = timedelta(0)

    def __call__(self) -> datetime:
        """Read it."""
        return self.now

    def reading(self) -> Reading:
        """Read it beside the machine's clock."""
        return Reading(wall=self.now + self.jump, now=self.now, jumped=bool(self.jump))

    def move(self, by: timedelta) -> None:
        """Move it."""
        self.now += by


class Steps:
    """Every part of the ledger on one database, and the way of an image through it."""

    def __init__(self, database: Database, policy: Policy | None = None) -> None:
        self.database = database
        self.clock = SetClock()
        self.policy = policy or Policy()
        self.intake = Intake(database)
        self.scoring = Scoring(database, lease=LEASE, clock=self.clock)
        self.reporting = Reporting(database, clock=self.clock)
        self.dispatch = Dispatch(database, lease=LEASE, clock=self.clock)
        self.stand_ins = StandIns(database, clock=self.clock)
        self.reading_list = ReadingList(database, clock=self.clock)
        self.housekeeping = Housekeeping(database, clock=self.clock)

    def receive(self, image: ReceivedInstance | None = None) -> ReceivedInstance:
        """Take an image in."""
        image = image or received_instance(received_at=self.clock())
        self.intake.record_received(image)
        return image

    def claim_to_index(self) -> Claim:
        """Claim the one image that waits to be indexed."""
        [claim] = self.scoring.claim_to_index(OWNER, 1)
        return claim

    def claim_to_score(self) -> Claim:
        """Claim the next image that waits to be scored."""
        claim = self.scoring.claim_to_score(OWNER)
        assert claim is not None
        return claim

    def index(self, study: str, image: ReceivedInstance | None = None) -> ReceivedInstance:
        """Take an image in and put it into a study."""
        image = self.receive(image)
        self.scoring.record_indexed(self.claim_to_index(), instance_header(study_instance_uid=study), self.policy)
        return image

    def score(self, study: str, *findings: Finding, image: ReceivedInstance | None = None) -> ReceivedInstance:
        """Take an image in, put it into a study and score it; no other image may wait."""
        image = self.index(study, image)
        self.scoring.record_scored(self.claim_to_score(), prediction(findings=findings), self.policy)
        return image

    def segs(self, study: str, revision: Revision) -> list[ResultObject]:
        """Give a SEG for each image of a revision: those that exist, and new ones."""
        existing = {seg.source_sop_instance_uid: seg for seg in self.reporting.reported_of_images(study)}
        return [
            existing.get(each.sop_instance_uid)
            or result_object(ObjectKind.SEG, study_instance_uid=study, source_sop_instance_uid=each.sop_instance_uid)
            for each in self.reporting.predictions(revision)
        ]

    def report(self, study: str, *destinations: tuple[str, str]) -> tuple[Revision, list[ResultObject]]:
        """Report what a study has: a SEG per image and an SR."""
        revision = self.reporting.open_revision(study, self.policy.digest())
        objects = [*self.segs(study, revision), result_object(ObjectKind.SR, study_instance_uid=study)]
        self.reporting.complete_revision(revision, objects, destinations or [PACS])
        return revision, objects

    def deliver(self, destination: str = PACS[0]) -> None:
        """Let a destination take all that is due for it."""
        while due := self.dispatch.claim(OWNER, destination, 9):
            for delivery in due:
                self.dispatch.record_stored(delivery)

    def listed(self, study: str) -> ListedStudy:
        """Give a study as the reading list has it."""
        [listed] = [each for each in self.reading_list.studies() if each.study_instance_uid == study]
        return listed


def claim_all(database: Database) -> list[int]:
    """Claim whatever waits to be indexed, a little at a time, as one of several workers."""
    scoring = Scoring(database, lease=LEASE)
    claimed: list[int] = []
    while claims := scoring.claim_to_index("owner", 2):
        claimed += [claim.instance_id for claim in claims]
    return claimed


def claim_all_from(url: str) -> list[int]:
    """Do the same in another process."""
    database = open_database(url)
    claimed = claim_all(database)
    database.close()
    return claimed


def until_somebody_waits(database: Database) -> None:
    """Come back when somebody waits for a lock; SQLite has one writer, who waits before it looks at anything."""
    if database.is_sqlite:
        return

    def somebody_waits() -> bool:
        with database.read() as session:
            waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            return bool(session.scalar(text(f"SELECT count(*) {waiting}")))

    eventually(somebody_waits)
