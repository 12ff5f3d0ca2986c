"""Orders as they are said, which studies they are about, and the studies that the RIS is asked for."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0010"
down_revision: Final = "0009"
#: SQLite numbers rows by itself only for INTEGER.
ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
#: What was ordered by command is from now on a person's order: no RIS may take it back unasked.
_KEPT: Final = """
INSERT INTO study_order (source, sender, message_id, level, at, recorded_at, study_instance_uid, accession_number,
                         issuer_of_accession_number, patient_id, issuer_of_patient_id, patient_birth_date)
SELECT 'person', audit.actor, 'audit ' || audit.id, study.ordered, audit.at, audit.at, study.study_instance_uid,
       '', '', '', '', ''
FROM study JOIN audit ON audit.id = (
    SELECT max(said.id) FROM audit AS said
    WHERE said.study_instance_uid = study.study_instance_uid AND said.event = 'ordered'
)
"""
_MATCHED: Final = """
INSERT INTO order_match (order_id, study_instance_uid, verdict)
SELECT id, study_instance_uid, 'agrees' FROM study_order
"""


def upgrade() -> None:
    """Add them. Images that were received before say no issuer of their accession number."""
    op.add_column(
        "instance_header",
        sa.Column("issuer_of_accession_number", sa.Text(), nullable=False, server_default=sa.text("''")),
    )
    _index("instance_header", "accession_number")
    _index("instance_header", "study_instance_uid")
    _create_orders()
    _create_inquiries()
    op.execute(_KEPT)
    op.execute(_MATCHED)


def _create_orders() -> None:
    op.create_table(
        "study_order",
        sa.Column("id", ID, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("source", "sender", "message_id")),
        sa.Column("level", sa.SmallInteger(), nullable=True),
        sa.Column("ending", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in (
                "study_instance_uid",
                "accession_number",
                "issuer_of_accession_number",
                "patient_id",
                "issuer_of_patient_id",
                "patient_birth_date",
            )
        ),
        sa.CheckConstraint("(level IS NULL) != (ending IS NULL)", name=op.f("ck_study_order_one_statement")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_order")),
        sa.UniqueConstraint("source", "sender", "message_id", name=op.f("uq_study_order_source_sender_message_id")),
    )
    for column in ("study_instance_uid", "accession_number", "recorded_at"):
        _index("study_order", column)
    op.create_table(
        "order_match",
        sa.Column("order_id", ID, nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["study_order.id"], name=op.f("fk_order_match_order_id_study_order")),
        _of_study("order_match"),
        sa.PrimaryKeyConstraint("order_id", "study_instance_uid", name=op.f("pk_order_match")),
    )
    _index("order_match", "study_instance_uid")


def _create_inquiries() -> None:
    op.create_table(
        "order_inquiry",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        _of_study("order_inquiry"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_inquiry")),
        sa.UniqueConstraint("study_instance_uid", name=op.f("uq_order_inquiry_study_instance_uid")),
    )
    _index("order_inquiry", "state", "next_attempt_at")
    _index("order_inquiry", "owner")


def _of_study(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_study_instance_uid_study")
    return sa.ForeignKeyConstraint(["study_instance_uid"], ["study.study_instance_uid"], name=name)


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns), unique=False)
