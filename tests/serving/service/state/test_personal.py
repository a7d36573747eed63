"""Forgetting, export and age limits in the database, on both backends."""

import time
from pathlib import Path

import sqlalchemy as sa

from twotower.service.state import (
    Cursor,
    Event,
    Forgotten,
    ItemFields,
    StateStore,
    StoredItem,
    Tombstone,
    personal,
    tables,
)
from twotower.service.state.personal import now_ms

DAY = 86_400_000


def event(name: str, user: str = "ann", at: int = 5) -> Event:
    return Event(event_id=name, user_id=user, item_id="i", kind="view", occurred_at=at)


def kept(store: StateStore) -> list[str]:
    return [one.event_id for one in store.changes(Cursor()).events]


def test_a_forgotten_user_has_no_row_and_a_tombstone_without_the_id(store) -> None:
    store.add_events([event("1"), event("2", "bob"), event("3")])
    outcome = store.forget(["ann"])
    assert outcome.rows == 2
    assert kept(store) == ["2"]
    assert store.read(personal.rows_of, "ann") == {"events": [], "users": []}
    assert [row["event_id"] for row in store.read(personal.rows_of, "bob")["events"]] == ["2"]
    (row,) = store.changes(Cursor()).forgotten
    assert row.digest == store.forgotten().digest("ann")
    assert row.digest != Forgotten(b"another key").digest("ann")
    assert "ann" not in row.digest


def test_what_a_forgotten_user_did_before_does_not_come_back(store) -> None:
    store.forget(["ann"])
    later = now_ms() + 1
    time.sleep(0.003)
    assert store.add_events([event("1"), event("2", "bob"), event("3", at=later)]) == [
        False, True, True,
    ]  # fmt: skip
    assert kept(store) == ["2", "3"]


def test_an_event_of_a_fast_clock_is_forgotten_too(store) -> None:
    ahead = now_ms() + 30_000
    store.add_events([event("1", at=ahead)])
    (made,) = store.forget(["ann"]).tombstones
    assert made.forgotten_at == ahead


def test_a_reader_is_not_ahead_of_a_database_whose_newest_events_went(store) -> None:
    store.add_events([event(str(number)) for number in range(5)])
    cursor = store.changes(Cursor()).cursor
    store.forget(["ann"])
    changes = store.changes(cursor)
    assert (list(changes.events), len(changes.forgotten)) == ([], 1)
    store.add_events([event("x", "bob")])
    assert [one.event_id for one in store.changes(changes.cursor).events] == ["x"]


def test_forgetting_twice_moves_the_tombstone(store) -> None:
    first = store.forget(["ann", "bob"])
    second = store.forget(["ann"])
    assert second.revision == first.revision + 1
    assert len(store.forgotten()) == 2
    assert (store.forgotten().since("ann") or 0) >= first.tombstones[0].forgotten_at


def test_tombstones_are_obeyed_by_a_copy_that_lacks_them(store) -> None:
    store.add_events([event("1"), event("2", "bob"), event("3", at=10**13)])
    gone = store.forget_again([Tombstone(Forgotten(store.forget_key).digest("ann"), 10**12)])
    assert gone == 1
    assert kept(store) == ["2", "3"]
    assert store.forget_again(store.forgotten().tombstones()) == 0
    assert len(store.forgotten()) == 1


def test_old_events_are_deleted_in_portions(store, monkeypatch) -> None:
    monkeypatch.setattr("twotower.service.state.personal._PORTION", 3)
    store.add_events([event(str(number), at=number) for number in range(10)])
    cursor = store.changes(Cursor()).cursor
    assert store.delete_events(before=8) == 8
    assert kept(store) == ["8", "9"]
    assert not store.changes(cursor)


def test_old_events_lose_their_user_and_stay_together(store, monkeypatch) -> None:
    monkeypatch.setattr("twotower.service.state.personal._PORTION", 3)
    users = ["ann", "bob", "ann", "ann", "bob", "ann"]
    store.add_events([event(str(at), user, at) for at, user in enumerate(users)])
    assert store.anonymise_events(before=5) == 5
    log = store.changes(Cursor()).events
    names = [one.user_id for one in log]
    assert names[0] == names[2] == names[3] != names[1] == names[4]
    assert names[5] == "ann"
    assert all(name.startswith("anonymous-") for name in names[:5])
    assert [one.event_id for one in log[5:]] == ["5"]
    assert len({one.event_id for one in log}) == 6
    assert store.anonymise_events(before=5) == 0
    assert store.forget(["ann"]).rows == 1
    assert store.delete_events(before=5) == 5


def test_encodings_that_no_item_has_go(store) -> None:
    for name in ("a", "b", "c"):
        fields = ItemFields(item_id=name, title="x")
        store.put_item(StoredItem(fields, model_version="m", encoding=b"1"))
    store.put_item(StoredItem(ItemFields(item_id="a", title="y")))
    store.put_item(StoredItem(ItemFields(item_id="b", title="x"), deleted=True))
    assert store.write(personal.delete_old_encodings) == 2
    assert store.write(personal.delete_old_encodings) == 0
    assert [one.encoding for one in store.changes(Cursor()).items] == [b"1", None, None]


def test_a_forgetting_is_confirmed_by_those_who_serve(store) -> None:
    store.confirm("one", 0)
    store.confirm("two", 0)
    revision = store.forget(["ann"]).revision
    assert store.wait_for_followers(revision, 0) == 2
    store.confirm("one", revision)
    assert store.wait_for_followers(revision, 0.1) == 1
    store.leave("two")
    assert store.wait_for_followers(revision, 0) == 0
    store.confirm("two", 0)
    with store.engine.begin() as connection:  # it was killed two minutes ago
        connection.execute(tables.followers.update().values(seen_at=now_ms() - 120_000))
    assert store.wait_for_followers(revision, 0) == 0


def test_maintenance_is_the_turn_of_one(store, state_url) -> None:
    other = StateStore(state_url)
    assert store.write(personal.claim_maintenance, 60)
    assert not other.write(personal.claim_maintenance, 60)
    assert other.write(personal.claim_maintenance, 0)
    other.close()


def test_nothing_of_a_forgotten_user_is_left_in_the_files(tmp_path: Path) -> None:
    store = StateStore(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    for number in range(20):
        users = ("Zarathustra-77", f"other-{number}")
        store.add_events([event(f"{user}/{number}", user) for user in users])

    def found() -> set[str]:
        return {path.name for path in tmp_path.iterdir() if b"Zarathustra" in path.read_bytes()}

    assert found()
    store.forget(["Zarathustra-77"])
    assert found() == set()
    assert len(kept(store)) == 20
    store.close()
    assert found() == set()


def test_a_log_that_is_being_read_is_scrubbed_later(tmp_path: Path) -> None:
    store = StateStore(f"sqlite:///{tmp_path / 'state.sqlite3'}", wait_s=0.2)
    store.add_events([event("Zarathustra")])
    with store.engine.connect() as reading, reading.begin():
        reading.execute(sa.select(tables.events)).all()
        store.forget(["ann"])
        assert not store.scrub()
    assert store.scrub()
    assert b"Zarathustra" not in (tmp_path / "state.sqlite3-wal").read_bytes()
    store.close()


def test_a_database_of_an_earlier_release_is_brought_forward(
    store, state_url, without_migrations
) -> None:
    """Tables, columns and indexes; what is in it stays, and the earlier release can go on."""
    store.add_events([event("1")])
    with store.engine.begin() as connection:
        for index in (*tables.events.indexes,):
            index.drop(connection)
        connection.execute(sa.text("ALTER TABLE events DROP COLUMN anonymous"))
        for name in ("forget_key", "newest_deleted_event", "maintained_at"):
            connection.execute(sa.text(f"ALTER TABLE twotower_state DROP COLUMN {name}"))
        for table in (tables.forgotten, tables.followers):
            table.drop(connection)
        without_migrations(connection)
    later = StateStore(state_url)
    assert kept(later) == ["1"]
    assert later.forget(["ann"]).rows == 1
    indexes = {one["name"] for one in sa.inspect(later.engine).get_indexes("events")}
    assert {"events_user", "events_age"} <= indexes
    again = StateStore(state_url)
    assert again.forget_key == later.forget_key
    again.close()
    later.close()
