"""Storage commitment: what destinations are asked to commit to, and what modalities ask of us."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"
#: SQLite numbers rows by itself only for INTEGER.
ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the requests in both directions. What is delivered already is asked for where a destination wants that."""
    _create_requests()
    _create_items()
    # By hand: Alembic names no constraint within a column, and cannot add one afterwards on SQLite.
    kind = ID.compile(dialect=op.get_bind().dialect)
    op.execute(
        f"ALTER TABLE delivery ADD COLUMN commitment_id {kind} "
        "CONSTRAINT fk_delivery_commitment_id_commitment REFERENCES commitment (id)"
    )
    op.create_index(op.f("ix_delivery_commitment_id"), "delivery", ["commitment_id"], unique=False)
    op.add_column(
        "delivery", sa.Column("commitment_failures", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )


def _create_requests() -> None:
    op.create_table(
        "commitment",
        sa.Column("id", ID, nullable=False),
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        *_lease(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment")),
        sa.UniqueConstraint("transaction_uid", name=op.f("uq_commitment_transaction_uid")),
    )
    _index("commitment", "state", "destination", "next_attempt_at")
    _index("commitment", "owner")
    op.create_table(
        "modality_request",
        sa.Column("id", ID, nullable=False),
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("calling_ae_title", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        *_lease(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_modality_request")),
        sa.UniqueConstraint(
            "transaction_uid",
            "calling_ae_title",
            "digest",
            name=op.f("uq_modality_request_transaction_uid_calling_ae_title_digest"),
        ),
    )
    _index("modality_request", "state", "calling_ae_title", "next_attempt_at")
    _index("modality_request", "owner")


def _create_items() -> None:
    op.create_table(
        "modality_request_item",
        sa.Column("id", ID, nullable=False),
        sa.Column("request_id", ID, nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("commitment_id", ID, nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("failure_reason", sa.Integer(), nullable=True),
        _foreign("modality_request_item", "request_id", "modality_request"),
        _foreign("modality_request_item", "commitment_id", "commitment"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_modality_request_item")),
        sa.UniqueConstraint(
            "request_id", "sop_instance_uid", name=op.f("uq_modality_request_item_request_id_sop_instance_uid")
        ),
    )
    _index("modality_request_item", "commitment_id")
    _index("modality_request_item", "outcome", "next_attempt_at")
    op.create_table(
        "commitment_item",
        sa.Column("id", ID, nullable=False),
        sa.Column("commitment_id", ID, nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("delivery_id", ID, nullable=True),
        sa.Column("modality_item_id", ID, nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("failure_reason", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "(delivery_id IS NULL) != (modality_item_id IS NULL)", name=op.f("ck_commitment_item_one_subject")
        ),
        _foreign("commitment_item", "commitment_id", "commitment"),
        _foreign("commitment_item", "delivery_id", "delivery"),
        _foreign("commitment_item", "modality_item_id", "modality_request_item"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment_item")),
        sa.UniqueConstraint(
            "commitment_id", "sop_instance_uid", name=op.f("uq_commitment_item_commitment_id_sop_instance_uid")
        ),
    )
    _index("commitment_item", "delivery_id")
    _index("commitment_item", "modality_item_id")


def _lease() -> list[sa.Column[object]]:
    return [
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
    ]


def _foreign(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=op.f(f"fk_{table}_{column}_{other}"))


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns), unique=False)
