"""Events have a context: declared columns of the log."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what is lacking."""
    op.add_column("events", sa.Column("context", sa.JSON(none_as_null=True)))
