"""A study's row, and its priority: recomputed in the transaction that changes what it depends on.

Whoever changes a study locks it before any of its images, and recomputes it last: one order of locks, so that no two
wait for each other.
"""

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from cxr_triage.model.findings import Finding
from cxr_triage.model.priority import Level, Policy, Priority, prioritise
from cxr_triage.storage.database import lock_name
from cxr_triage.storage.ledger.changes import changed, locked_list, pause_of
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.list_records import Change, Sighting, in_force
from cxr_triage.storage.schema import Event, FindingRow, InstanceRow, PredictionRow, StudyRow

#: What a study is until somebody says otherwise.
ORDERED_BY_DEFAULT: Final = Level.ROUTINE
#: How many rows a transaction locks at most that goes through the whole list: nobody waits for it for long.
BATCH: Final = 200


def locked_study(session: Session, study_instance_uid: str) -> StudyRow:
    """Lock a study's row, which begins as ordered ROUTINE and off the list."""
    row = session.get(StudyRow, study_instance_uid, with_for_update=True)
    if row is not None:
        return row
    lock_name(session, f"study {study_instance_uid}")
    row = session.get(StudyRow, study_instance_uid, with_for_update=True)
    return row or _new_study(session, study_instance_uid)


def _new_study(session: Session, study_instance_uid: str) -> StudyRow:
    row = StudyRow(
        study_instance_uid=study_instance_uid,
        ordered=ORDERED_BY_DEFAULT,
        effective=ORDERED_BY_DEFAULT,
        utility=0.0,
        reason="",
        plain_effective=ORDERED_BY_DEFAULT,
        plain_utility=0.0,
        plain_reason="",
    )
    session.add(row)
    session.flush()
    return row


def recompute(session: Session, study: StudyRow, policy: Policy, *, now: datetime, actor: str) -> bool:
    """Say anew where a study belongs, once it has arrived; whether that changed. What was ordered is never touched."""
    if study.arrived_at is None:
        return False
    # Locked already here, so that nobody pauses triage between this look and the end of the transaction.
    the_list = locked_list(session)
    the_list.mode, the_list.raise_to = policy.mode, policy.raise_to
    policy = in_force(policy, pause_of(the_list))
    priority, plain = _priorities(session, study, study.arrived_at, policy)
    is_new = study.overdue_at is None
    if not is_new and (priority, plain) == (priority_of(study), plain_priority_of(study)):
        return False
    _write(study, priority, plain)
    detail = f"{study.ordered.name} -> {priority.effective.name}, utility {priority.utility:.4f}: {priority.reason}"
    note(session, now, actor, Event.PRIORITISED, study, detail)
    if study.finished_at is None:
        changed(session, study, Change.LISTED if is_new else Change.MOVED, now=now, actor=actor)
    return True


def _priorities(session: Session, study: StudyRow, arrived_at: datetime, policy: Policy) -> tuple[Priority, Priority]:
    """Prioritise a study with its findings, and without."""
    images, models = _evidence(session, study.study_instance_uid)
    priority = prioritise(
        images, ordered=study.ordered, arrived_at=arrived_at, policy=policy, model=models, images=images
    )
    return priority, prioritise((), ordered=study.ordered, arrived_at=arrived_at, policy=policy)


def priority_of(study: StudyRow) -> Priority:
    """Give the priority of a study that has arrived."""
    assert study.overdue_at is not None
    return Priority(
        ordered=study.ordered,
        effective=study.effective,
        utility=study.utility,
        reason=study.reason,
        overdue_at=study.overdue_at,
    )


def plain_priority_of(study: StudyRow) -> Priority:
    """Give the priority that a study that has arrived would have without findings."""
    assert study.plain_overdue_at is not None
    return Priority(
        ordered=study.ordered,
        effective=study.plain_effective,
        utility=study.plain_utility,
        reason=study.plain_reason,
        overdue_at=study.plain_overdue_at,
    )


def _write(study: StudyRow, priority: Priority, plain: Priority) -> None:
    study.effective, study.plain_effective = priority.effective, plain.effective
    study.utility, study.plain_utility = priority.utility, plain.utility
    study.reason, study.plain_reason = priority.reason, plain.reason
    study.overdue_at, study.plain_overdue_at = priority.overdue_at, plain.overdue_at


def sightings_of(session: Session, study_instance_uid: str) -> list[Sighting]:
    """Give the maximum per label over the images of a study that count, the most probable label first."""
    best: dict[str, Sighting] = {}
    for row in _found(session, study_instance_uid):
        seen = Sighting(
            label=row.finding.label,
            probability=row.finding.probability,
            threshold=row.finding.threshold,
            sop_instance_uid=row.sop_instance_uid,
            model=row.model,
        )
        if seen.label not in best or seen.probability > best[seen.label].probability:
            best[seen.label] = seen
    return sorted(best.values(), key=lambda seen: (-seen.probability, seen.label))


def _evidence(session: Session, study_instance_uid: str) -> tuple[dict[Finding, str], str]:
    """Give what counts for a study's priority.

    Returns:
        Each different finding with the first image that it was made on, in words, empty where there is only one; and
        which weights found them, in words.
    """
    found = _found(session, study_instance_uid)
    instances = dict.fromkeys(row.instance_id for row in found)
    numbers = {instance: number for number, instance in enumerate(instances, start=1)}
    images: dict[Finding, str] = {}
    for row in found:
        images.setdefault(row.finding, f"frontal image {numbers[row.instance_id]}" if len(numbers) > 1 else "")
    return images, ", ".join(sorted({row.model for row in found}))


class _Found(NamedTuple):
    """A finding, where it comes from, and by what."""

    finding: Finding
    instance_id: int
    sop_instance_uid: str
    model: str


def _found(session: Session, study_instance_uid: str) -> list[_Found]:
    """Give the findings of all images of a study that were not withdrawn, in the order of arrival.

    Also of one whose file was lost after it was scored: what was seen on it is true.
    """
    rows = session.execute(
        select(FindingRow, InstanceRow.sop_instance_uid, PredictionRow.bundle_name, PredictionRow.bundle_version)
        .join(PredictionRow, PredictionRow.instance_id == FindingRow.instance_id)
        .join(InstanceRow, InstanceRow.id == FindingRow.instance_id)
        .where(InstanceRow.study_instance_uid == study_instance_uid, InstanceRow.withdrawn.is_(False))
        .order_by(InstanceRow.received_at, InstanceRow.id, FindingRow.position)
    )
    return [
        _Found(
            Finding(label=row.label, probability=row.probability, threshold=row.threshold),
            row.instance_id,
            sop_instance_uid,
            f"{name} {version}",
        )
        for row, sop_instance_uid, name, version in rows
    ]
