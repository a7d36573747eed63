"""Two bundles may share an answer, and what came of it is counted by unit."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what is lacking."""
    op.add_column("splits", sa.Column("interleaved", sa.Boolean))
    op.create_table(
        "interleaved_units",
        sa.Column("split", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("unit", sa.String(64), primary_key=True),
        sa.Column("a", sa.BigInteger, nullable=False),
        sa.Column("b", sa.BigInteger, nullable=False),
    )
