"""Results that count no more: superseded, or withdrawn."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"
#: SQLite numbers rows by itself only for INTEGER.
ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them. Of what was made before, nothing is rejected."""
    op.add_column("instance", sa.Column("withdrawn", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.add_column("instance", sa.Column("edition", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("revision", sa.Column("withdrawal", sa.Text(), nullable=True))
    op.add_column("result_object", sa.Column("rejected", sa.Text(), nullable=True))
    op.create_index(op.f("ix_result_object_rejected"), "result_object", ["rejected"], unique=False)
    # By hand: Alembic names no constraint within a column, and cannot add one afterwards on SQLite.
    kind = ID.compile(dialect=op.get_bind().dialect)
    op.execute(
        f"ALTER TABLE delivery ADD COLUMN rejected_by_id {kind} "
        "CONSTRAINT fk_delivery_rejected_by_id_result_object REFERENCES result_object (id)"
    )
