from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from twotower.service.state import StateStore


@pytest.fixture
def store(state_url: str) -> Iterator[StateStore]:
    store = StateStore(state_url)
    yield store
    store.close()


@pytest.fixture
def without_migrations() -> Callable[[sa.Connection], None]:
    """Makes a database one of the time before migrations, but for what `0001` brings."""

    def undo(connection: sa.Connection) -> None:
        connection.execute(sa.text("ALTER TABLE events DROP COLUMN context"))
        for column in ("interleaved", "shadow"):
            connection.execute(sa.text(f"ALTER TABLE splits DROP COLUMN {column}"))
        for table in ("interleaved_units", "shadows", "shadow_lists", "alembic_version"):
            connection.execute(sa.text(f"DROP TABLE {table}"))

    return undo
