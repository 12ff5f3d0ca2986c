"""The reading list as a whole: its version, its changes, who reads what, the pause; and results that replace others."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0008"
down_revision: Final = "0007"
#: SQLite numbers rows by itself only for INTEGER.
ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them. A list that was there before has no row until it changes: version 0, read by nobody, not paused."""
    op.create_table(
        "reading_list",
        sa.Column("id", ID, nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reading_list")),
    )
    op.create_table(
        "list_change",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("ordered", sa.SmallInteger(), nullable=False),
        sa.Column("effective", sa.SmallInteger(), nullable=False),
        sa.Column("utility", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("overdue_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["study.study_instance_uid"], name=op.f("fk_list_change_study_instance_uid_study")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_list_change")),
    )
    op.create_index(op.f("ix_list_change_study_instance_uid"), "list_change", ["study_instance_uid"], unique=False)
    op.add_column(
        "result_object", sa.Column("source_edition", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    op.add_column("study", sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("study", sa.Column("claimed_by", sa.Text(), nullable=True))
