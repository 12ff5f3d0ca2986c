"""Where findings lie: a site, a third of the lungs, a region."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"


def upgrade() -> None:
    """Add them. Of what was scored before, nothing is told."""
    with op.batch_alter_table("finding") as finding:
        finding.add_column(sa.Column("site", sa.Text(), nullable=False, server_default=sa.text("''")))
        finding.add_column(sa.Column("third", sa.Text(), nullable=False, server_default=sa.text("''")))
        finding.add_column(sa.Column("region", sa.LargeBinary(), nullable=True))
