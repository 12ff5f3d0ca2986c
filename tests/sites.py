"""A ledger with its two folders, and what happens there before and during reporting."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from sqlalchemy import update

import builders
from cxr_triage.daemon.deliver import Courier
from cxr_triage.daemon.dicom_client import DicomTransport
from cxr_triage.daemon.dicom_server import VERIFICATION
from cxr_triage.daemon.indexing import read_instance_header
from cxr_triage.daemon.picturing import picture_of
from cxr_triage.daemon.rejections import RejectionMaker
from cxr_triage.daemon.report import Reporter
from cxr_triage.daemon.results.picture import Picture
from cxr_triage.daemon.results.profiles import PROFILES, Profile
from cxr_triage.daemon.setbacks import Backoff
from cxr_triage.daemon.stand_ins import StandInMaker
from cxr_triage.daemon.workbench import Workbench
from cxr_triage.model.priority import Policy
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import Instead
from cxr_triage.storage.image_records import StoredFile
from cxr_triage.storage.inbox import Inbox, Outbox
from cxr_triage.storage.ledger.circuits import Circuits
from cxr_triage.storage.ledger.dispatch import Dispatch
from cxr_triage.storage.ledger.housekeeping import Housekeeping
from cxr_triage.storage.ledger.intake import Intake
from cxr_triage.storage.ledger.reading_list import ReadingList
from cxr_triage.storage.ledger.rejections import Rejections
from cxr_triage.storage.ledger.reporting import Reporting
from cxr_triage.storage.ledger.scoring import Scoring
from cxr_triage.storage.ledger.stand_ins import StandIns
from cxr_triage.storage.ledger.withdrawals import Withdrawals, Withdrawn
from cxr_triage.storage.result_records import Reason, RevisionState
from cxr_triage.storage.schema import RevisionRow
from deliveries import HASTY, LEASE, NEVER, Pacs, pacs_at

POLICY = Policy()


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = builders.MORNING

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.now


class Site:
    """A ledger with its two folders, and what happens there before and during reporting."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.database = database
        self.inbox = Inbox(folder / "inbox")
        self.outbox = Outbox(folder / "outbox")
        self.reporting = Reporting(database)
        self.reading_list = ReadingList(database)
        self.clock = Clock()

    def score(self, *, mask_rows: int = 96, **tags: Any) -> str:
        """Receive and score an image: the study's UID."""
        dataset = builders.radiograph_dataset(**tags)
        file = stored_file(self.inbox, _bytes(dataset), dataset.SOPInstanceUID)
        Intake(self.database).record_received(
            builders.received_instance(sop_instance_uid=dataset.SOPInstanceUID, path=file.path, sha256=file.sha256)
        )
        scoring = Scoring(self.database, lease=timedelta(minutes=5))
        (claim,) = scoring.claim_to_index("tester", 10)
        scoring.record_indexed(claim, read_instance_header(self.inbox.absolute(file.path)), POLICY)
        scored = scoring.claim_to_score("tester")
        assert scored is not None
        masks = builders.thorax_masks(mask_rows, 80)
        scoring.record_scored(scored, builders.prediction(masks_CHW=masks), POLICY)
        return str(dataset.StudyInstanceUID)

    def reporter(
        self,
        *profiles: str,
        reporting: Reporting | None = None,
        read_picture: Callable[[Path], Picture] = picture_of,
    ) -> Reporter:
        """Give a reporter for destinations of these profiles."""
        return Reporter(
            reporting or self.reporting,
            bench=Workbench(inbox=self.inbox, outbox=self.outbox, read_picture=read_picture),
            destinations=[(f"pacs-{profile}", profile) for profile in profiles],
            policy_digest=POLICY.digest(),
            backoff=Backoff(first=timedelta(seconds=5), longest=timedelta(seconds=15)),
            clock=self.clock,
        )

    def maker(
        self,
        *destinations: tuple[str, str],
        ledger: StandIns | None = None,
        profiles: Mapping[str, Profile] = PROFILES,
        read_picture: Callable[[Path], Picture] = picture_of,
    ) -> StandInMaker:
        """Give a maker of stand-ins for destinations, by name and profile."""
        return StandInMaker(
            ledger or StandIns(self.database),
            bench=Workbench(inbox=self.inbox, outbox=self.outbox, read_picture=read_picture),
            destinations=destinations,
            profiles=profiles,
            backoff=Backoff(first=timedelta(seconds=5), longest=timedelta(seconds=15)),
            clock=self.clock,
        )

    def withdrawals(self, *rejecting: str) -> Withdrawals:
        """Give the ledger of withdrawals, where these destinations take notes."""
        return Withdrawals(self.database, rejecting=rejecting)

    def withdraw(self, study: str, *rejecting: str, reason: Reason = Reason.QUALITY) -> Withdrawn | None:
        """Withdraw a study's results."""
        return self.withdrawals(*rejecting).withdraw(study, reason, actor="tester", policy=POLICY)

    def rejections(self, *destinations: tuple[str, str], ledger: Rejections | None = None) -> RejectionMaker:
        """Give a maker of rejection notes for destinations, by name and profile."""
        return RejectionMaker(
            ledger or Rejections(self.database),
            bench=Workbench(inbox=self.inbox, outbox=self.outbox, read_picture=picture_of),
            destinations={name: PROFILES[profile] for name, profile in destinations},
            backoff=Backoff(first=timedelta(seconds=5), longest=timedelta(seconds=15)),
            clock=self.clock,
        )

    def report_to(self, *destinations: tuple[str, str]) -> None:
        """Report what is due to destinations, by name and profile."""
        reporter = Reporter(
            self.reporting,
            bench=Workbench(inbox=self.inbox, outbox=self.outbox, read_picture=picture_of),
            destinations=destinations,
            policy_digest=POLICY.digest(),
            clock=self.clock,
        )
        assert reporter.report_pending() == 1

    def withdraw_all(self) -> None:
        """Take every result back, as far as its state goes."""
        with self.database.transaction() as session:
            session.execute(update(RevisionRow).values(state=RevisionState.WITHDRAWN))

    def files(self) -> list[Path]:
        """Give what lies in the outbox."""
        return sorted(path for path in self.outbox.absolute(Path()).rglob("*") if path.is_file())


def _bytes(dataset: Any) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def stored_file(inbox: Inbox, content: bytes, sop_instance_uid: str) -> StoredFile:
    """Store a Part 10 file as the receiver does."""
    start = data_set_at(content)
    return builders.store_file(inbox, content[start:], sop_instance_uid=sop_instance_uid, meta=content[:start])


def data_set_at(content: bytes) -> int:
    """Say where the file meta information ends: its group's length is its first element (PS3.10 7.1)."""
    return 144 + int.from_bytes(content[140:144], "little")


def settle(
    site: Site,
    takes: Mapping[str, Sequence[str]],
    *,
    profile: str = "air",
    profiles: Mapping[str, Profile] = PROFILES,
    ledger: StandIns | None = None,
) -> dict[str, list[str]]:
    """Deliver to PACS that take these SOP Classes, and make stand-ins, until nothing is left to do.

    Returns:
        SOP Classes of what each was sent, in the order in which it came.
    """
    told: dict[str, list[str]] = {}
    with ExitStack() as served:
        couriers = []
        for name, classes in takes.items():
            pacs = Pacs()
            port = served.enter_context(pacs.serving(*(classes or [VERIFICATION])))
            told[name] = pacs.asked
            couriers.append(courier(site, name, port))
        maker = site.maker(*((name, profile) for name in takes), profiles=profiles, ledger=ledger)
        while sum(each.deliver_batch(NEVER) for each in couriers) or maker.decide_pending() or due(site):
            site.clock.now += timedelta(seconds=20)
    return told


def due(site: Site) -> bool:
    """Whether a decision is still to be made."""
    counted = Housekeeping(site.database).counts().not_taken.values()
    return any(each.instead is Instead.DUE for found in counted for each in found)


def courier(site: Site, name: str, port: int) -> Courier:
    """Give the sender for a destination."""
    return Courier(
        destination=name,
        # Patient: nobody here is silent, and a busy machine is no silence.
        transport=DicomTransport(pacs_at(port)),
        dispatch=Dispatch(site.database, lease=LEASE),
        circuits=Circuits(site.database),
        outbox=site.outbox,
        owner_id="deliver-test",
        patience=HASTY,
    )
