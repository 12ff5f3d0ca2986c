"""By which policy the list was in order at each of its changes, so that past places can be explained by it."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0012"
down_revision: Final = "0011"


def upgrade() -> None:
    """Add it. Of earlier changes it is not known: an explanation says so."""
    for table in ("reading_list", "list_change"):
        op.add_column(table, sa.Column("mode", sa.Text(), nullable=True))
        op.add_column(table, sa.Column("raise_to", sa.SmallInteger(), nullable=True))
