"""The reading list as it is read for a face: rows as plain values, since there may be a hundred thousand of them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cxr_triage.model.priority import Level, Priority
from cxr_triage.storage.image_records import InstanceHeader, InstanceState
from cxr_triage.storage.ledger.headers import FIELDS
from cxr_triage.storage.list_records import ListedImage, ListedStudy
from cxr_triage.storage.order_records import Verdict
from cxr_triage.storage.schema import HeaderRow, InstanceRow, OrderMatchRow, OrderRow, RemarkRow, StudyRow

#: On the list: it has an image, and nobody has read it.
LISTED: Final = StudyRow.arrived_at.is_not(None) & StudyRow.finished_at.is_(None)
#: What a reader is told of an order that was not followed.
_NOT_COUNTED: Final = {
    Verdict.OTHER_PATIENT: "names another patient",
    Verdict.UNCONFIRMED: "is not followed: nothing says that it is this patient's",
}


def studies(session: Session) -> list[ListedStudy]:
    """Give every open study with an indexed image, in the order of arrival."""
    rows = session.execute(
        select(
            StudyRow.study_instance_uid,
            StudyRow.ordered,
            StudyRow.arrived_at,
            StudyRow.effective,
            StudyRow.utility,
            StudyRow.reason,
            StudyRow.overdue_at,
            StudyRow.plain_effective,
            StudyRow.plain_utility,
            StudyRow.plain_reason,
            StudyRow.plain_overdue_at,
            StudyRow.claimed_at,
            StudyRow.claimed_by,
        )
        .where(LISTED)
        .order_by(StudyRow.arrived_at)
    )
    counted, first_headers = _images(session), _first_headers(session)
    remarks = _remarks(session, counted)
    return [_listed_study(tuple(row), counted, first_headers, remarks) for row in rows]


def state_of_remarks(session: Session) -> tuple[Any, ...]:
    """Give what differs as soon as anything has become known of an image or an order of a listed study.

    The version of the list stays the same where that moves no study, and the remarks of its entries do not.
    """
    counted = session.execute(
        select(
            func.count(),
            func.max(InstanceRow.changed_at),
            func.sum(InstanceRow.edition),
            func.count().filter(InstanceRow.withdrawn),
        )
        .join(StudyRow, StudyRow.study_instance_uid == InstanceRow.study_instance_uid)
        .where(LISTED)
    )
    not_followed = (
        select(func.count())
        .select_from(OrderMatchRow)
        .join(StudyRow, StudyRow.study_instance_uid == OrderMatchRow.study_instance_uid)
        .where(LISTED, OrderMatchRow.verdict != Verdict.AGREES)
    )
    return (*counted.one(), session.scalar(not_followed))


def images(session: Session) -> dict[str, list[ListedImage]]:
    """Give the images of every listed study; other bytes of the same SOP Instance are no other image."""
    rows = session.execute(
        select(
            InstanceRow.study_instance_uid,
            HeaderRow.series_instance_uid,
            HeaderRow.modality,
            InstanceRow.sop_class_uid,
            InstanceRow.sop_instance_uid,
        )
        .join(HeaderRow, HeaderRow.instance_id == InstanceRow.id)
        .join(StudyRow, StudyRow.study_instance_uid == InstanceRow.study_instance_uid)
        .where(LISTED, InstanceRow.other_bytes.is_(False))
        .order_by(InstanceRow.received_at, InstanceRow.id)
    )
    listed: dict[str, list[ListedImage]] = defaultdict(list)
    for study, series, modality, sop_class, sop_instance in rows:
        listed[str(study)].append(ListedImage(series, modality, sop_class, sop_instance))
    return listed


def _listed_study(
    row: Sequence[Any],
    images: Mapping[str, dict[InstanceState, int]],
    headers: Mapping[str, InstanceHeader],
    remarks: Mapping[str, tuple[str, ...]],
) -> ListedStudy:
    uid, ordered, arrived_at, *placed, claimed_at, claimed_by = row
    found, plain = placed[:4], placed[4:]
    priority = _priority(ordered, found)
    return ListedStudy(
        study_instance_uid=uid,
        ordered=ordered,
        arrived_at=arrived_at,
        priority=priority,
        priority_without_findings=priority if plain == found else _priority(ordered, plain),
        claimed_at=claimed_at,
        claimed_by=claimed_by or "",
        images=images[uid],
        remarks=remarks.get(uid, ()),
        header=headers[uid],
    )


def _priority(ordered: Level, rest: Sequence[Any]) -> Priority:
    effective, utility, reason, overdue_at = rest
    return Priority(ordered=ordered, effective=effective, utility=utility, reason=reason, overdue_at=overdue_at)


def _images(session: Session) -> dict[str, dict[InstanceState, int]]:
    """Count the images of each listed study by state."""
    counted = session.execute(
        select(InstanceRow.study_instance_uid, InstanceRow.state, func.count())
        .join(StudyRow, StudyRow.study_instance_uid == InstanceRow.study_instance_uid)
        .where(LISTED)
        .group_by(InstanceRow.study_instance_uid, InstanceRow.state)
    )
    images: dict[str, dict[InstanceState, int]] = defaultdict(dict.fromkeys(InstanceState, 0).copy)
    for uid, state, count in counted:
        images[str(uid)][state] = count
    return images


def _first_headers(session: Session) -> dict[str, InstanceHeader]:
    """Header of the first received image of each listed study."""
    number = func.row_number().over(
        partition_by=InstanceRow.study_instance_uid, order_by=(InstanceRow.received_at, InstanceRow.id)
    )
    indexed = (
        select(InstanceRow.id, InstanceRow.study_instance_uid, number.label("number"))
        .join(HeaderRow, HeaderRow.instance_id == InstanceRow.id)
        .join(StudyRow, StudyRow.study_instance_uid == InstanceRow.study_instance_uid)
        .where(LISTED)
        .subquery()
    )
    columns = [getattr(HeaderRow, name) for name in FIELDS]
    first = (
        select(indexed.c.study_instance_uid, *columns)
        .join(indexed, indexed.c.id == HeaderRow.instance_id)
        .where(indexed.c.number == 1)
    )
    return {uid: InstanceHeader(**dict(zip(FIELDS, row, strict=True))) for uid, *row in session.execute(first)}


def _reasons(session: Session) -> dict[str, list[str]]:
    """Why images of listed studies have no result; images that are tried again are not among them."""
    set_aside = session.execute(
        select(InstanceRow.study_instance_uid, InstanceRow.explanation)
        .join(StudyRow, StudyRow.study_instance_uid == InstanceRow.study_instance_uid)
        .where(LISTED, InstanceRow.state.in_((InstanceState.UNSUITABLE, InstanceState.FAILED)))
        .order_by(InstanceRow.received_at, InstanceRow.id)
    )
    reasons: dict[str, list[str]] = defaultdict(list)
    for uid, explanation in set_aside:
        reasons[str(uid)].append(explanation or "")
    return reasons


def _remarks_on_images(session: Session) -> dict[str, list[str]]:
    """What a reader should know of the scored images of each listed study, each sentence once."""
    rows = session.execute(
        select(InstanceRow.study_instance_uid, RemarkRow.sentence)
        .join(RemarkRow, RemarkRow.instance_id == InstanceRow.id)
        .join(StudyRow, StudyRow.study_instance_uid == InstanceRow.study_instance_uid)
        .where(LISTED, InstanceRow.state == InstanceState.SCORED, InstanceRow.withdrawn.is_(False))
        .order_by(InstanceRow.received_at, InstanceRow.id, RemarkRow.position)
    )
    sentences: dict[str, list[str]] = defaultdict(list)
    for uid, sentence in rows:
        if sentence not in sentences[str(uid)]:
            sentences[str(uid)].append(sentence)
    return sentences


def _remarks_on_orders(session: Session) -> dict[str, list[str]]:
    """Say of each listed study which orders do not count for it, each sentence once."""
    rows = session.execute(
        select(OrderMatchRow.study_instance_uid, OrderMatchRow.verdict, OrderRow.study_instance_uid)
        .join(OrderRow, OrderRow.id == OrderMatchRow.order_id)
        .join(StudyRow, StudyRow.study_instance_uid == OrderMatchRow.study_instance_uid)
        .where(LISTED, OrderMatchRow.verdict != Verdict.AGREES)
        .order_by(OrderRow.id)
    )
    sentences: dict[str, list[str]] = defaultdict(list)
    for uid, verdict, named in rows:
        by = "Study Instance UID" if named == uid else "accession number"
        sentence = f"An order with the {by} {_NOT_COUNTED[verdict]}."
        if sentence not in sentences[str(uid)]:
            sentences[str(uid)].append(sentence)
    return sentences


def _remarks(session: Session, images: Mapping[str, dict[InstanceState, int]]) -> dict[str, tuple[str, ...]]:
    """Say of each listed study which images the findings do not speak of, and what to know of the others."""
    reasons, remarks, withdrawn = _reasons(session), _remarks_on_images(session), _withdrawn(session)
    orders = _remarks_on_orders(session)
    return {
        uid: (
            *_left_out(counted, reasons.get(uid, ()), withdrawn.get(uid, 0)),
            *orders.get(uid, ()),
            *remarks.get(uid, ()),
        )
        for uid, counted in images.items()
    }


def _withdrawn(session: Session) -> dict[str, int]:
    """Count the images of each listed study whose results were withdrawn."""
    counted = session.execute(
        select(InstanceRow.study_instance_uid, func.count())
        .join(StudyRow, StudyRow.study_instance_uid == InstanceRow.study_instance_uid)
        .where(LISTED, InstanceRow.withdrawn)
        .group_by(InstanceRow.study_instance_uid)
    )
    return {str(uid): count for uid, count in counted}


def _left_out(images: dict[InstanceState, int], reasons: Sequence[str], withdrawn: int) -> Iterator[str]:
    """Say which images the findings do not speak of. An image that waits may still move the study."""
    waiting = images[InstanceState.RECEIVED] + images[InstanceState.INDEXED]
    if not (waiting or reasons or withdrawn):
        return
    total = sum(images.values())
    if withdrawn:
        yield f"Withdrawn by a person: the results of {withdrawn} of {total} images."
    if reasons:
        yield f"Not triaged, {len(reasons)} of {total} images: {' '.join(dict.fromkeys(reasons))}"
    if waiting:
        yield f"Waiting for the network: {waiting} of {total} images."
