"""Unified procedure steps, who is told of them, and what is still to be told."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid5

import sqlalchemy as sa
from alembic import op

revision: Final = "0009"
down_revision: Final = "0008"
#: SQLite numbers rows by itself only for INTEGER.
ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
#: Namespace of the UIDs of our own steps.
STEPS: Final = UUID("7b2f3f0c-52c4-4f0b-9d3c-3f5f1a7c8e21")


def upgrade() -> None:
    """Add them, and a step for each study that waits: the next change of the list would otherwise find none."""
    steps = op.create_table(
        "procedure_step",
        sa.Column("id", ID, nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("transaction_uid", sa.Text(), nullable=True),
        sa.Column("performer", sa.Text(), nullable=True),
        sa.Column("own", sa.Boolean(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("considered", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["study.study_instance_uid"],
            name=op.f("fk_procedure_step_study_instance_uid_study"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_procedure_step")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_procedure_step_sop_instance_uid")),
    )
    op.create_index(op.f("ix_procedure_step_considered"), "procedure_step", ["considered"], unique=False)
    op.create_index(
        op.f("ix_procedure_step_study_instance_uid_state"),
        "procedure_step",
        ["study_instance_uid", "state"],
        unique=False,
    )
    op.create_table(
        "step_subscription",
        sa.Column("id", ID, nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("deletion_lock", sa.Boolean(), nullable=False),
        sa.Column("filter", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_step_subscription")),
        sa.UniqueConstraint(
            "sop_instance_uid", "receiver", name=op.f("uq_step_subscription_sop_instance_uid_receiver")
        ),
    )
    op.create_index(op.f("ix_step_subscription_receiver"), "step_subscription", ["receiver"], unique=False)
    op.create_table(
        "announcement",
        sa.Column("id", ID, nullable=False),
        sa.Column("face", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_announcement")),
        sa.UniqueConstraint("message_id", name=op.f("uq_announcement_message_id")),
    )
    op.create_index(op.f("ix_announcement_sop_instance_uid"), "announcement", ["sop_instance_uid"], unique=False)
    op.create_index(op.f("ix_announcement_owner"), "announcement", ["owner"], unique=False)
    op.create_index(
        op.f("ix_announcement_state_face_receiver"), "announcement", ["state", "face", "receiver"], unique=False
    )
    _schedule_waiting(steps)


def _schedule_waiting(steps: sa.Table) -> None:
    study = sa.table(
        "study",
        *map(sa.column, ("study_instance_uid", "arrived_at", "finished_at", "claimed_at")),
    )
    waiting = sa.select(study.c.study_instance_uid, study.c.claimed_at).where(
        study.c.arrived_at.is_not(None), study.c.finished_at.is_(None)
    )
    now = datetime.now(UTC)
    rows = [
        {
            "sop_instance_uid": f"2.25.{uuid5(STEPS, f'{uid}/1').int}",
            "study_instance_uid": uid,
            "state": "SCHEDULED" if claimed_at is None else "IN PROGRESS",
            "transaction_uid": None if claimed_at is None else f"2.25.{uuid5(STEPS, f'{uid}/claimed').int}",
            "own": True,
            "attributes": {},
            "considered": False,
            "created_at": now,
            "changed_at": now,
        }
        for uid, claimed_at in op.get_bind().execute(waiting)
    ]
    if rows:
        op.bulk_insert(steps, rows)
