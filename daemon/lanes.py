"""A lane: one kind of work, from the claim to the outcome, over a few isolated workers."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from cxr_triage.daemon.isolation import Fault, Job, Worker
from cxr_triage.model.errors import StorageError, UnavailableError
from cxr_triage.storage.image_records import Claim

Outcome = TypeVar("Outcome")

#: Attempts that ended without a word (stops and restarts of the service among them) before an image is suspected of
#: ending whoever reads it.
MAX_LOST_ATTEMPTS: Final = 50

UNRECORDABLE: Final = Fault(
    error_class="unrecordable", explanation="The database refused to record the result; see the log."
)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class _Running(Generic[Outcome]):
    claim: Claim
    worker: Worker[Outcome]
    job: Job[Outcome]


class Lane(Generic[Outcome]):
    """One kind of work: claims as many images as it has idle workers, and hands over what came of each."""

    def __init__(
        self,
        workers: list[Worker[Outcome]],
        *,
        claim: Callable[[int], list[Claim]],
        work: Callable[[Path], Outcome],
        inbox: Path,
        when_done: Callable[[], None],
        pause_seconds: float,
    ) -> None:
        """Describe the lane.

        Args:
            workers: its children.
            claim: gives at most so many images.
            work: runs in a child.
            inbox: folder that claims' paths start from.
            when_done: called from another thread.
            pause_seconds: how long to claim nothing when the machine let no job come to its end, whatever the image.
        """
        self._idle = workers
        self._claim = claim
        self._work = work
        self._inbox = inbox
        self._when_done = when_done
        self._pause_seconds = pause_seconds
        self._resume_at = 0.0
        self._running: list[_Running[Outcome]] = []

    @property
    def claims(self) -> list[Claim]:
        """What is being worked on."""
        return [running.claim for running in self._running]

    def fill(self, give_up: Callable[[Claim], None]) -> None:
        """Give every idle worker an image, as long as there are any and the machine can be worked with.

        Args:
            give_up: called with an image that too many attempts ended at without a word; it is not read again.
        """
        if not self._idle or time.monotonic() < self._resume_at:
            return
        claims = self._claim(len(self._idle))
        for claim in [claim for claim in claims if claim.lost < MAX_LOST_ATTEMPTS]:
            worker = self._idle.pop()
            job = worker.start(self._work, self._inbox / claim.path, when_done=self._when_done)
            self._running.append(_Running(claim=claim, worker=worker, job=job))
        for claim in [claim for claim in claims if claim.lost >= MAX_LOST_ATTEMPTS]:
            give_up(claim)

    def collect(self, record: Callable[[Claim, Outcome | Fault], None]) -> None:
        """Hand over what is done. What cannot be recorded now stays, and is handed over again.

        Raises:
            StorageError: the ledger took nothing of at least one job; the others were handed over all the same.
        """
        refusal: StorageError | None = None
        for running in [running for running in self._running if running.job.done]:
            try:
                outcome = _record(running, record)
            except StorageError as error:
                refusal = error
            else:
                self._consider_machine(outcome)
                self._release(running)
        if refusal is not None:
            raise refusal

    def _release(self, running: _Running[Outcome]) -> None:
        if running.job.stuck:
            running.worker.replace()
        running.job.forget()
        self._running.remove(running)
        self._idle.append(running.worker)

    def _consider_machine(self, outcome: Outcome | Fault) -> None:
        """Leave the queue alone for a while where one image after the other would be read in vain."""
        if isinstance(outcome, Fault) and outcome.of_all_jobs:
            self._resume_at = time.monotonic() + self._pause_seconds

    def try_out(self, work: Callable[[Path], Any], *, wait: Callable[[], Any]) -> list[Fault]:
        """Run `work` once in every child, at the same time; returns how it failed, if it did."""
        jobs = [worker.start(work, self._inbox, when_done=self._when_done) for worker in self._idle]
        while not all(job.done for job in jobs):
            wait()
        outcomes = [job.outcome() for job in jobs]
        for job in jobs:
            job.forget()
        return [outcome for outcome in outcomes if isinstance(outcome, Fault)]

    def stop(self) -> None:
        """End the children, and what they still work on."""
        for running in self._running:
            running.job.forget()
        for worker in [*self._idle, *(running.worker for running in self._running)]:
            worker.replace()
        self._running.clear()


def _record(running: _Running[Outcome], record: Callable[[Claim, Outcome | Fault], None]) -> Outcome | Fault:
    outcome = running.job.outcome()
    try:
        record(running.claim, outcome)
    except UnavailableError:
        raise  # it may take this when its own fault is over
    except StorageError:
        # A ledger that takes this answers, and what it did not take was this outcome: no reason to wait for ever.
        record(running.claim, UNRECORDABLE)
    return outcome
