"""Remarks on predictions: what a reader should know of an image that is triaged all the same."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"
#: SQLite numbers rows by itself only for INTEGER.
ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them. Of what was scored before, nothing was remarked."""
    op.create_table(
        "remark",
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["prediction.instance_id"], name=op.f("fk_remark_instance_id_prediction")
        ),
        sa.PrimaryKeyConstraint("instance_id", "position", name=op.f("pk_remark")),
    )
