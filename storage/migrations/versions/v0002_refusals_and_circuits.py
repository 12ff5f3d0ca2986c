"""What destinations refused, and which of them are left alone for a while."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Add the count of refusals and the circuit breakers; nothing was refused and every circuit is closed so far."""
    op.add_column("delivery", sa.Column("refusals", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.create_table(
        "circuit",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("open_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_circuit")),
    )
