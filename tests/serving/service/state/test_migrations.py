"""Migrations end in the tables that the store uses, whatever release made the database."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from twotower.errors import ArtefactError
from twotower.service.state import StateStore, live, shadow, tables
from twotower.service.state.engine import open_engine
from twotower.service.state.live import Split
from twotower.service.state.migrations import HEAD
from twotower.service.state.shadow import ShadowCounts

FIRST_RELEASE = Path(__file__).with_name("first_release.sql").read_text()
KINDS = {
    "sqlite": {"blob": "BLOB", "sequence": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT"},
    "postgresql": {"blob": "BYTEA", "sequence": "BIGSERIAL PRIMARY KEY"},
}


def differences(engine: sa.Engine) -> list[object]:
    """What a migration would still have to change. SQLite minds no lengths."""
    with engine.connect() as connection:
        minded = {"compare_type": connection.dialect.name != "sqlite"}
        context = MigrationContext.configure(connection, opts=minded)
        return list(compare_metadata(context, tables.metadata))


def test_a_new_database_has_the_tables_of_the_store(store: StateStore) -> None:
    assert differences(store.engine) == []


def test_a_database_of_the_first_release_gets_them_and_keeps_what_is_in_it(state_url: str) -> None:
    engine = open_engine(state_url)
    kinds = KINDS[engine.dialect.name]
    with engine.begin() as connection:
        for statement in FIRST_RELEASE.format(**kinds).split(";"):
            connection.execute(sa.text(statement))
        connection.execute(
            sa.text(
                "INSERT INTO events (event_id, user_id, item_id, kind, timestamp)"
                " VALUES ('1', 'ann', 'a', 'buy', 1)"
            )
        )
    store = StateStore(state_url)
    assert differences(store.engine) == []
    with engine.connect() as connection:
        assert connection.scalar(sa.select(tables.events.c.user_id)) == "ann"
    with engine.begin() as connection:  # the first release goes on beside it
        connection.execute(
            sa.text(
                "INSERT INTO events (event_id, user_id, item_id, kind, timestamp)"
                " VALUES ('2', 'bob', 'a', 'buy', 2)"
            )
        )
    assert store.forget(["bob"]).rows == 1
    store.close()
    engine.dispose()


def test_a_comparison_of_the_release_before_goes_on(store: StateStore, state_url: str) -> None:
    store.write(live.set_split, "bundle", "other", 0.5, "interleave")
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE events DROP COLUMN context"))
        connection.execute(sa.text("ALTER TABLE splits DROP COLUMN shadow"))
        for table in ("shadows", "shadow_lists"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0002'"))
    later = StateStore(state_url)
    assert differences(later.engine) == []
    assert later.read(live.split, "bundle") == Split("other", 0.5, 1, "interleave")
    assert later.write(live.set_split, "bundle", "other", 1.0, "shadow").ended == "interleave"
    later.write(shadow.add_counts, 2, ShadowCounts(dropped=3))
    later.write(shadow.add_counts, 2, ShadowCounts(dropped=1, shadowed=1, overlap=0.5))
    counts = later.read(shadow.counts, 2)
    assert (counts.dropped, counts.shadowed, counts.overlap) == (4, 1, 0.5)
    later.close()


def test_the_newest_migration_is_known_without_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", "twotower.service.state:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_what_a_later_release_added_is_no_hindrance_until_it_says_so(
    store: StateStore, state_url: str
) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(sa.text("ALTER TABLE events ADD COLUMN invented TEXT"))
    StateStore(state_url).close()
    with store.engine.begin() as connection:
        connection.execute(tables.about.update().values(schema_version=2))
    with pytest.raises(ArtefactError, match="schema version 2, this release reads 1"):
        StateStore(state_url)
