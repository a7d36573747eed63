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
        connection.execute(sa.text("ALTER TABLE splits DROP COLUMN interleaved"))
        connection.execute(sa.text("DROP TABLE interleaved_units"))
        connection.execute(sa.text("DROP TABLE alembic_version"))

    return undo
