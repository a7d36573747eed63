"""A rolling upgrade: a replica of the first release writes and reads on while its successors start.

What that release did to the database is kept here as it was: its tables, its statements, its locks.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from support import until
from twotower.errors import ArtefactError
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.state import Event, StateStore, live, tables
from twotower.service.state.live import Split
from twotower.service.state.migrations import HEAD

TABLES = (Path(__file__).parent / "state" / "first_release.sql").read_text()
KINDS = {
    "sqlite": {"blob": "BLOB", "sequence": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT"},
    "postgresql": {"blob": "BYTEA", "sequence": "BIGSERIAL PRIMARY KEY"},
}
LOCKS = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_xact_lock(7236812104455317001)",
}
ADD_EVENT = """
INSERT INTO events (event_id, user_id, item_id, kind, rating, timestamp)
VALUES (:event_id, :user_id, :item_id, :kind, NULL, :timestamp)
ON CONFLICT (event_id) DO NOTHING RETURNING seq
"""
NEXT = "SELECT coalesce(max(revision), 0) + 1 FROM {}"
PUT_ITEM = """
INSERT INTO items (item_id, title, description, features, price, category, store, average_rating,
                   rating_count, image, deleted, text_encoder, text_vector, revision)
VALUES (:item_id, :title, NULL, NULL, 9.5, NULL, NULL, NULL, NULL, NULL, :deleted, NULL, NULL,
        :revision)
ON CONFLICT (item_id) DO UPDATE SET title = excluded.title, deleted = excluded.deleted,
                                    revision = excluded.revision
"""
SET_AVAILABILITY = """
INSERT INTO availability (item_id, available, revision) VALUES (:item_id, :available, :revision)
ON CONFLICT (item_id) DO UPDATE SET available = excluded.available, revision = excluded.revision
"""
CHANGES = """
SELECT seq, event_id, user_id, item_id, kind, rating, timestamp FROM events
WHERE seq > :since ORDER BY seq LIMIT 10000
"""


class FirstRelease:
    """A replica of the first release: it writes, and takes over what others write.

    Attributes
    ----------
    acknowledged
        Event ids of its writes that returned.
    items
        Items that it added.
    seen
        Event ids that it has read, in the order of their numbers.
    failed
        What made it end.
    """

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        self.kind = self.engine.dialect.name
        if self.kind == "sqlite":
            sa.event.listen(self.engine, "connect", self._prepare)
        self.acknowledged: list[str] = []
        self.items: list[str] = []
        self.seen: list[str] = []
        self.failed: Exception | None = None
        self._last = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    @staticmethod
    def _prepare(connection, _) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA busy_timeout = 5000")

    def start(self) -> None:
        """Create the tables where there are none, and go on until `stop`."""
        statements = TABLES.format(**KINDS[self.kind]).split(";")
        with self.engine.begin() as connection:
            if not sa.inspect(connection).has_table("events"):
                for statement in statements:
                    connection.execute(sa.text(statement))
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self.engine.dispose()

    def _go_on(self) -> None:
        try:
            while not self._over.is_set():
                self._write(len(self.acknowledged))
                self._read()
                self._over.wait(0.01)
        except Exception as error:
            self.failed = error

    def _write(self, number: int) -> None:
        event = {
            "event_id": f"old-{number}", "user_id": f"user of old {number % 50}", "kind": "view",
            "item_id": "item-01", "timestamp": 10**12 + number,
        }  # fmt: skip
        item = {"item_id": f"old item {number}", "title": "Old", "deleted": False}
        with self.engine.connect() as connection:
            connection.execute(sa.text(LOCKS[self.kind]))
            connection.execute(sa.text(ADD_EVENT), event)
            if number % 5 == 0:
                item["revision"] = connection.scalar(sa.text(NEXT.format("items")))
                connection.execute(sa.text(PUT_ITEM), item)
                row = {"item_id": "item-02", "available": number % 2 == 0}
                row["revision"] = connection.scalar(sa.text(NEXT.format("availability")))
                connection.execute(sa.text(SET_AVAILABILITY), row)
            connection.commit()
        self.acknowledged.append(event["event_id"])
        if number % 5 == 0:
            self.items.append(item["item_id"])

    def _read(self) -> None:
        with self.engine.connect() as connection:
            rows = connection.execute(sa.text(CHANGES), {"since": self._last}).all()
            connection.rollback()
        for row in rows:
            self._last = row.seq
            self.seen.append(row.event_id)


@pytest.fixture
def first(state_url: str) -> Iterator[FirstRelease]:
    replica = FirstRelease(state_url)
    yield replica
    replica.stop()


def test_replicas_are_replaced_one_after_the_other_and_nothing_is_lost(
    first, open_folder, state_url
) -> None:
    settings = ServeSettings(bundle=open_folder, state_url=state_url)
    first.start()
    assert until(lambda: len(first.acknowledged) > 10)

    second = Service(settings)  # brings the tables forward while the first one writes
    migrated_at = len(first.acknowledged)
    acknowledged = []
    for number in range(20):
        event = Event(
            event_id=f"new-{number}", user_id="user of new", item_id="item-01", kind="buy",
            occurred_at=10**12 + number, recommendation_id="v5~~k~~0", position=1,
        )  # fmt: skip
        assert second.add_events([event]) == [True]
        acknowledged.append(event.event_id)
    assert until(lambda: len(first.acknowledged) > migrated_at + 10 or first.failed is not None)
    assert until(lambda: {*acknowledged} <= {*first.seen} or first.failed is not None)
    assert first.failed is None

    first.stop()
    third = Service(settings)
    second.catch_up()
    everything = {*first.acknowledged, *acknowledged}
    with second.store.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == HEAD
        stored = connection.scalars(sa.select(tables.events.c.event_id)).all()
    assert sorted(stored) == sorted(everything)
    for service in (second, third):
        users = {f"user of old {number}" for number in range(50)} | {"user of new"}
        assert sum(len(service.current.past_of(user)) for user in users) == len(everything)
        assert all(item in service.pipeline.items for item in first.items)
        assert service.pipeline.recommend(history=["item-01"])
        service.close()


def test_a_replica_of_the_first_release_is_restarted_beside_its_successor(
    first, open_folder, state_url
) -> None:
    service = Service(ServeSettings(bundle=open_folder, state_url=state_url))
    first.start()
    assert until(lambda: len(first.acknowledged) > 5)
    first.stop()
    assert first.failed is None
    service.catch_up()
    assert len(service.current.past_of("user of old 0")) > 0
    service.close()


def test_the_release_before_shows_nobody_what_a_shadow_answers(state_url) -> None:
    """It reads the comparison that runs, without the column for what nobody is to see."""
    store = StateStore(state_url)
    store.write(live.set_split, "bundle", "other", 1.0, "shadow")
    columns = "SELECT name, share, revision, interleaved FROM splits WHERE configured = 'bundle'"
    begin = (
        "INSERT INTO splits (configured, name, share, revision, interleaved)"
        " VALUES ('bundle', 'third', 0.5, 2, NULL)"
    )
    with store.engine.begin() as connection:
        name, share, revision, interleaved = connection.execute(sa.text(columns)).one()
        assert (name, share, revision, bool(interleaved)) == (None, 1.0, 1, False)
        connection.execute(sa.text("DELETE FROM splits WHERE configured = 'bundle'"))
        connection.execute(sa.text(begin))
    assert store.read(live.split, "bundle") == Split("third", 0.5, 2)
    store.close()


def test_a_newer_schema_is_refused_in_one_line(state_url) -> None:
    store = StateStore(state_url)
    with store.engine.begin() as connection:
        connection.execute(tables.about.update().values(schema_version=2))
    store.close()
    with pytest.raises(ArtefactError) as refused:
        StateStore(state_url)
    assert str(refused.value) == (
        "the state database has schema version 2, this release reads 1; run the release that wrote "
        "it, or use another database"
    )
