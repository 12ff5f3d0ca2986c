"""What the inference role writes: indexed, scored, unsuitable, failed."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import ColumnElement, Select, exists, select, update
from sqlalchemy.orm import Session

from cxr_triage.model.prediction import Prediction, Refusal
from cxr_triage.model.priority import Policy
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.image_records import Claim, InstanceHeader, InstanceState
from cxr_triage.storage.ledger import headers, leases, predictions
from cxr_triage.storage.ledger.ordering import lock_accession_numbers, settle
from cxr_triage.storage.ledger.studies import BATCH, locked_study, recompute
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.result_records import RevisionState
from cxr_triage.storage.schema import Event, InstanceRow, PredictionRow, RevisionRow, StudyRow

#: Who acted, in the audit trail, where the ledger follows its own rule.
_ACTOR: Final = "ledger"
#: To be scored by other weights. One whose file was removed after its time keeps the result that it has.
_AGAIN: Final = InstanceRow.to_score_again & InstanceRow.owns_file & InstanceRow.withdrawn.is_(False)


class Scoring:
    """Hands out images by lease, most urgent first, and takes their results back, once."""

    def __init__(self, database: Database, *, lease: timedelta, clock: Clock = utc_now) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock

    def claim_to_index(self, owner: str, limit: int) -> list[Claim]:
        """Claim received images, oldest first. No two owners are given the same one."""
        return self._claim(InstanceRow.state == InstanceState.RECEIVED, owner, limit)

    def claim_to_score(self, owner: str) -> Claim | None:
        """Claim the indexed image whose study was ordered most urgently, then the oldest; None = none waits.

        Where none waits for its first result, the same of those that are to be scored again.
        """
        claims = self._claim(InstanceRow.state == InstanceState.INDEXED, owner, 1) or self._claim(_AGAIN, owner, 1)
        return next(iter(claims), None)

    def extend(self, claims: Sequence[Claim]) -> list[Claim]:
        """Begin the lease anew.

        Returns:
            The claims that are still this owner's; work on the others is in vain.
        """
        attempts = [(claim.instance_id, claim.attempt) for claim in claims]
        held = leases.extend(self._database, InstanceRow, attempts, self._clock() + self._lease)
        return [claim for claim in claims if (claim.instance_id, claim.attempt) in held]

    def give_back_forgotten(self, owner: str, claims: Sequence[Claim]) -> int:
        """Give back what this owner holds besides these claims: the answer to a claim got lost. How many those were."""
        in_hand = [claim.instance_id for claim in claims]
        return leases.give_back_forgotten(self._database, InstanceRow.owner == owner, InstanceRow, in_hand)

    def record_indexed(self, claim: Claim, header: InstanceHeader, policy: Policy) -> None:
        """Put an image into its study, which is on the reading list from now on, and as urgent as was ordered before.

        A study that was finished comes back when the image was received after that: somebody still has to read it.

        Raises:
            StaleAttemptError: a later attempt has the image.
        """
        with self._database.transaction() as session:
            lock_accession_numbers(session, header.accession_number)
            study = locked_study(session, header.study_instance_uid)
            row = leases.held(session, InstanceRow, claim.instance_id, claim.attempt)
            assert row.state is InstanceState.RECEIVED
            row.study_instance_uid = study.study_instance_uid
            row.ordered = study.ordered
            row.failures = 0
            session.add(headers.row_of(row.id, header))
            self._settle(session, row, InstanceState.INDEXED, Event.INDEXED)
            self._arrive(session, row, study)
            settle(session, study, policy, now=self._clock())

    def record_scored(self, claim: Claim, prediction: Prediction, policy: Policy) -> None:
        """Keep a prediction and recompute the study's priority, in one transaction: the list moves now.

        A prediction that carries a refusal is recorded as unsuitable: its findings are not to be used.

        Raises:
            StaleAttemptError: a later attempt has the image.
        """
        if prediction.refusal is not None:
            self.record_unsuitable(claim, prediction.refusal)
            return
        assert claim.study_instance_uid is not None
        packed = predictions.packed(claim.instance_id, prediction, self._clock())
        with self._database.transaction() as session:
            study = locked_study(session, claim.study_instance_uid)
            row = leases.held(session, InstanceRow, claim.instance_id, claim.attempt)
            assert row.state is InstanceState.INDEXED or row.to_score_again
            if predictions.keep(session, packed):
                _replace(session, row)
            bundle = prediction.bundle
            self._settle(session, row, InstanceState.SCORED, Event.SCORED, f"{bundle.name} {bundle.version}")
            recompute(session, study, policy, now=self._clock(), actor=_ACTOR)

    def record_unsuitable(self, claim: Claim, refusal: Refusal) -> None:
        """Set an image aside, indexed or not; its study's priority stays as it is.

        Raises:
            StaleAttemptError: a later attempt has the image.
        """
        with self._database.transaction() as session:
            row = leases.held(session, InstanceRow, claim.instance_id, claim.attempt)
            if self._keep_result(session, row, refusal.reason):
                return
            self._settle(session, row, InstanceState.UNSUITABLE, Event.UNSUITABLE, refusal.reason)
            row.reason, row.explanation = refusal.reason, refusal.explanation

    def record_failure(self, claim: Claim, *, error_class: str, explanation: str, retry_at: datetime | None) -> None:
        """Record that an attempt failed.

        Args:
            claim: the attempt.
            error_class: a stable word.
            explanation: one sentence for a person, without patient data.
            retry_at: when to try again, UTC; None = not by itself: the image is set aside as failed.

        Raises:
            StaleAttemptError: a later attempt has the image.
        """
        with self._database.transaction() as session:
            row = leases.held(session, InstanceRow, claim.instance_id, claim.attempt)
            row.failures += 1
            if retry_at is None and self._keep_result(session, row, error_class):
                return
            if retry_at is None:
                self._settle(session, row, InstanceState.FAILED, Event.FAILED, error_class)
            else:
                note(session, self._clock(), row.owner or _ACTOR, Event.RETRIED, row, error_class)
                leases.give_back(row, retry_at)
            row.reason, row.explanation = error_class, explanation

    def put_back(self, claim: Claim, *, error_class: str, explanation: str, retry_at: datetime) -> None:
        """Give an image back that the machine did not let be read: the attempt counts neither as failed nor as lost.

        The audit trail does not tell of it: nothing has changed, and it may happen all the time while a disk is full.

        Args:
            claim: the attempt.
            error_class: a stable word.
            explanation: one sentence for a person, without patient data.
            retry_at: when the image may be had again, UTC.

        Raises:
            StaleAttemptError: a later attempt has the image.
        """
        with self._database.transaction() as session:
            row = leases.held(session, InstanceRow, claim.instance_id, claim.attempt)
            leases.give_back(row, retry_at)
            row.reason, row.explanation = error_class, explanation

    def replay(self, sop_instance_uid: str, *, actor: str = "operator") -> int:
        """Bring an image back that was set aside as failed or unsuitable and whose file is still there.

        Returns:
            How many were brought back: 0 = there was none.
        """
        set_aside = InstanceRow.state.in_((InstanceState.FAILED, InstanceState.UNSUITABLE))
        return self._replay((InstanceRow.sop_instance_uid == sop_instance_uid) & set_aside, actor)

    def replay_failed(self, *, actor: str = "operator") -> int:
        """Bring every image back that was set aside as failed and whose file is still there.

        Returns:
            How many.
        """
        return self._replay(InstanceRow.state == InstanceState.FAILED, actor)

    def score_again(self, bundle_sha256: str) -> int:
        """Have the images of studies that wait for a reader scored by other weights, after all that has no result yet.

        Until then, and where it does not come to a result, the one that there is stands.

        Args:
            bundle_sha256: of the weights; images that they have scored already are left alone.

        Returns:
            How many images.
        """
        waits = exists().where(
            StudyRow.study_instance_uid == InstanceRow.study_instance_uid,
            StudyRow.finished_at.is_(None),
            StudyRow.claimed_at.is_(None),
        )
        by_others = exists().where(
            PredictionRow.instance_id == InstanceRow.id, PredictionRow.bundle_sha256 != bundle_sha256
        )
        images = select(InstanceRow).where(
            InstanceRow.state == InstanceState.SCORED,
            InstanceRow.to_score_again.is_(False),
            InstanceRow.withdrawn.is_(False),
            InstanceRow.owns_file,
            waits,
            by_others,
        )
        batch = images.order_by(InstanceRow.id).limit(BATCH).with_for_update()
        count = 0
        while marked := self._mark(batch):
            count += marked
        return count

    def _mark(self, batch: Select[InstanceRow]) -> int:
        with self._database.transaction() as session:
            rows = session.scalars(batch).all()
            for row in rows:
                row.to_score_again = True
                row.failures = row.lost = 0
                note(session, self._clock(), _ACTOR, Event.TO_SCORE_AGAIN, row)
            return len(rows)

    def release_leases(self, is_alive: Callable[[str], bool], now: datetime) -> int:
        """Give back the images whose owner is dead or whose lease has run out.

        Args:
            is_alive: `owner_is_alive` with its folder.
            now: UTC.

        Returns:
            How many were given back.
        """

        def release(session: Session, row: InstanceRow) -> None:
            note(session, now, _ACTOR, Event.RELEASED, row, f"attempt {row.attempt} of {row.owner}")
            row.lost += 1
            leases.give_back(row)

        lost = leases.lost(self._database, InstanceRow, is_alive, now)
        return leases.end_each(self._database, InstanceRow, lost, release)

    def _replay(self, which: ColumnElement[bool], actor: str) -> int:
        again = select(InstanceRow).where(which, InstanceRow.owns_file, InstanceRow.withdrawn.is_(False))
        with self._database.transaction() as session:
            rows = session.scalars(again.order_by(InstanceRow.id).with_for_update()).all()
            for row in rows:
                row.state = InstanceState.INDEXED if row.study_instance_uid else InstanceState.RECEIVED
                row.changed_at = self._clock()
                row.reason = row.explanation = row.next_attempt_at = None
                row.failures = row.lost = 0
                note(session, self._clock(), actor, Event.REPLAYED, row)
            return len(rows)

    def _claim(self, which: ColumnElement[bool], owner: str, limit: int) -> list[Claim]:
        now = self._clock()
        waiting = which & leases.is_due(InstanceRow, now)
        if not leases.any_of(self._database, InstanceRow, waiting):
            return []
        most_urgent = (InstanceRow.ordered, InstanceRow.received_at, InstanceRow.id)
        jobs = select(InstanceRow).where(waiting).order_by(*most_urgent).limit(limit)
        with self._database.transaction() as session:
            return [_as_claim(row) for row in leases.claim(session, jobs, InstanceRow, owner, now + self._lease)]

    def _settle(self, session: Session, row: InstanceRow, state: InstanceState, event: Event, detail: str = "") -> None:
        """End an attempt with a new state."""
        note(session, self._clock(), row.owner or _ACTOR, event, row, detail)
        row.state = state
        row.changed_at = self._clock()
        row.reason = row.explanation = None
        row.lost = 0
        row.to_score_again = False
        leases.give_back(row)

    def _keep_result(self, session: Session, row: InstanceRow, why: str) -> bool:
        """Let the result of an image stand that other weights could not replace; whether there is one."""
        if session.get(PredictionRow, row.id) is None:
            return False
        self._settle(session, row, InstanceState.SCORED, Event.RESULT_KEPT, why)
        return True

    def _arrive(self, session: Session, row: InstanceRow, study: StudyRow) -> None:
        """Put a study on the list with its first image, and back on it with an image that came after the reading."""
        if study.finished_at is not None and row.received_at > study.finished_at:
            study.finished_at = None
            study.arrived_at = row.received_at
            study.overdue_at = study.plain_overdue_at = None  # it is to be prioritised as if it had just come
            note(session, self._clock(), _ACTOR, Event.REOPENED, study)
        elif study.arrived_at is None or row.received_at < study.arrived_at:
            study.arrived_at = row.received_at


def _replace(session: Session, row: InstanceRow) -> None:
    """Have what was made of an image's former result made anew, under other UIDs; what is being made is begun again."""
    row.edition, row.covered_by = row.edition + 1, None
    session.execute(
        update(RevisionRow)
        .where(
            RevisionRow.study_instance_uid == row.study_instance_uid,
            RevisionRow.state == RevisionState.OPEN,
            RevisionRow.withdrawal.is_(None),
        )
        .values(state=RevisionState.SUPERSEDED)
    )


def _as_claim(row: InstanceRow) -> Claim:
    return Claim(
        instance_id=row.id,
        attempt=row.attempt,
        sop_instance_uid=row.sop_instance_uid,
        study_instance_uid=row.study_instance_uid,
        path=Path(row.path),
        failures=row.failures,
        lost=row.lost,
    )
