"""Objects that a destination does not take, and what it gets instead."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"
#: SQLite numbers rows by itself only for INTEGER.
ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them. What was made before stands in for nothing."""
    op.add_column("result_object", sa.Column("stand_in", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.add_column("delivery", sa.Column("instead", sa.Text(), nullable=True))
    # By hand: Alembic names no constraint within a column, and cannot add one afterwards on SQLite.
    kind = ID.compile(dialect=op.get_bind().dialect)
    op.execute(
        f"ALTER TABLE delivery ADD COLUMN instead_id {kind} "
        "CONSTRAINT fk_delivery_instead_id_result_object REFERENCES result_object (id)"
    )
    op.create_index(op.f("ix_delivery_instead"), "delivery", ["instead"], unique=False)
