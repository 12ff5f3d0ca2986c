"""Remarks on a prediction: what a reader should know of an image that is triaged all the same."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    """Add them. Of what was scored before, nothing was remarked."""
    op.add_column("prediction", sa.Column("remarks", sa.JSON(), nullable=False, server_default=sa.text("'[]'")))
