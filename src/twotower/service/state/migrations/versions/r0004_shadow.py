"""A bundle may answer unseen, and what came of it is counted by comparison."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add what is lacking."""
    op.add_column("splits", sa.Column("shadow", sa.String(200)))
    op.create_table(
        "shadows",
        sa.Column("split", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("shadowed", sa.BigInteger, nullable=False),
        sa.Column("dropped", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("overlap", sa.Float(53), nullable=False),
        sa.Column("same_first", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "shadow_lists",
        sa.Column("split", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("arm", sa.String(1), primary_key=True),
        sa.Column("places", sa.BigInteger, nullable=False),
        sa.Column("untrained", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("times", sa.JSON, nullable=False),
        sa.Column("items", sa.LargeBinary, nullable=False),
    )
