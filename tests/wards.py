"""A ledger, an inbox and the inference role on them, with children that really die."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

import scorers
from builders import radiograph_dataset, received_instance
from cxr_triage.daemon.infer import Inference, InferRole, Readers, Retry, Timing
from cxr_triage.daemon.readers import Score
from cxr_triage.model.priority import Policy
from cxr_triage.storage.database import Database
from cxr_triage.storage.image_records import InstanceState, ReceivedInstance
from cxr_triage.storage.ledger import Intake, Scoring
from cxr_triage.storage.schema import InstanceRow

#: On a machine that is busy with other things.
PATIENCE_SECONDS = 120
LEASE = timedelta(seconds=300)
#: Long enough for a child to start, short enough to wait for.
DEADLINE_SECONDS = 30.0


@dataclass
class Ward:
    """A ledger and an inbox, and a role that works on them."""

    database: Database
    folder: Path

    @property
    def inbox(self) -> Path:
        """Where images lie."""
        return self.folder / "inbox"

    @property
    def run_folder(self) -> Path:
        """Locks and bells."""
        return self.folder / "run"

    @property
    def scoring(self) -> Scoring:
        """The ledger's side of the role."""
        return Scoring(self.database, lease=LEASE)

    def receive(self, word: str = "", **tags: Any) -> str:
        """Bring an image in; the word tells the scorer what to do with it. Returns its SOP Instance UID."""
        dataset = radiograph_dataset(StudyDescription=word, **tags)
        uid = str(dataset.SOPInstanceUID)
        dataset.save_as(self.inbox / f"{uid}.dcm", enforce_file_format=True)
        self.receive_file(uid)
        return uid

    def receive_file(self, uid: str) -> ReceivedInstance:
        """Bring in a file that lies in the inbox, or should."""
        instance = received_instance(sop_instance_uid=uid, path=Path(f"{uid}.dcm"))
        Intake(self.database).record_received(instance)
        return instance

    def row(self, uid: str) -> InstanceRow:
        """What the ledger says of an image."""
        with self.database.read() as session:
            row = session.scalars(select(InstanceRow).where(InstanceRow.sop_instance_uid == uid)).one()
            session.expunge(row)
            return row

    def state(self, uid: str) -> InstanceState:
        """Where an image stands."""
        return self.row(uid).state

    def settled(self, *uids: str) -> Callable[[], bool]:
        """Whether all of these have come to an end."""
        ends = (InstanceState.SCORED, InstanceState.UNSUITABLE, InstanceState.FAILED)
        return lambda: all(self.state(uid) in ends for uid in uids)

    def inference(
        self,
        *,
        load: Callable[[], Score] = scorers.load,
        workers: int = 1,
        deadline_seconds: float = DEADLINE_SECONDS,
        drain_seconds: float = PATIENCE_SECONDS,
        maximum_attempts: int = 2,
    ) -> Inference:
        """Make the role."""
        return Inference(
            self.scoring,
            readers=Readers(load=load, workers=workers, deadline_seconds=deadline_seconds),
            timing=Timing(
                lease_seconds=LEASE.total_seconds(),
                poll_seconds=0.1,
                drain_seconds=drain_seconds,
                retry=Retry(maximum_attempts=maximum_attempts, first_seconds=0.01, longest_seconds=0.1),
            ),
            policy=Policy(),
            inbox=self.inbox,
            run_folder=self.run_folder,
        )


def empty_ward(database: Database, folder: Path) -> Ward:
    """Make an empty ledger and inbox."""
    ward = Ward(database, folder)
    ward.inbox.mkdir()
    ward.run_folder.mkdir()
    return ward


@contextmanager
def running(inference: Inference | InferRole) -> Iterator[threading.Event]:
    """Run a role in a thread, from readiness to the end of its drain; gives its stop event."""
    stop, ready = threading.Event(), threading.Event()
    with ThreadPoolExecutor(max_workers=1) as thread:
        role = thread.submit(inference.run, stop, ready.set)
        role.add_done_callback(lambda _: ready.set())
        try:
            assert ready.wait(PATIENCE_SECONDS)
            yield stop
        finally:
            stop.set()
            role.result(timeout=PATIENCE_SECONDS)


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fail when it never does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)
