"""An image that is to be scored by other weights stays scored until it has been; changes of the list by their time."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0011"
down_revision: Final = "0010"
#: What a service of the former schema had put back: it has a result.
_PUT_BACK: Final = """
UPDATE instance SET state = 'scored', to_score_again = true
WHERE state = 'indexed' AND id IN (SELECT instance_id FROM prediction)
"""


def upgrade() -> None:
    """Add the column, an index of the few images where it is set, and one of the changes."""
    op.add_column(
        "instance", sa.Column("to_score_again", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
    op.execute(_PUT_BACK)
    op.create_index(
        "ix_instance_to_score_again",
        "instance",
        ["ordered", "received_at", "id"],
        sqlite_where=sa.text("to_score_again"),
        postgresql_where=sa.text("to_score_again"),
    )
    op.create_index("ix_list_change_at", "list_change", ["at"])
