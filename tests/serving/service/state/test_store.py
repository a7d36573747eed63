import os
import stat
import threading
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from twotower.errors import ArtefactError, InputError
from twotower.service.state import (
    Cursor,
    Event,
    ItemFields,
    StateConflictError,
    StateReplacedError,
    StateStore,
    StateUnavailableError,
    StoredItem,
    tables,
)
from twotower.service.state.engine import within


def item(name: str = "n1", **changes: object) -> StoredItem:
    fields = {"item_id": name, "title": "Dark Saga", "price": 19.99, "category": "rpg", **changes}
    return StoredItem(ItemFields(**fields), False, "hashing-1", b"\x00\x00\x80?")


def event(name: str, **changes: object) -> Event:
    fields = {"event_id": name, "user_id": "u", "item_id": "i", "kind": "view", "occurred_at": 5}
    return Event(**{**fields, **changes})


def test_nothing_has_changed_at_first(store: StateStore) -> None:
    changes = store.changes(Cursor())
    assert not changes
    assert changes.cursor == Cursor()


def test_an_item_comes_back_as_it_was_given(store: StateStore) -> None:
    given = item(
        description="Bösses ☠", average_rating=4.5, rating_count=2**40, image="http://x/y",
        released=1.5e12,
    )  # fmt: skip
    assert store.create_item(given) == 1
    assert list(store.changes(Cursor()).items) == [given]


def test_a_retry_adds_nothing_and_another_item_is_refused(store: StateStore) -> None:
    store.create_item(item())
    before = store.changes(Cursor()).cursor
    assert store.create_item(item()) is None
    with pytest.raises(StateConflictError, match="item 'n1' exists; choose another id, or PUT"):
        store.create_item(item(title="Other"))
    assert store.changes(Cursor()).cursor == before


def test_changes_are_read_once_and_in_order(store: StateStore) -> None:
    store.create_item(item("a"))
    store.create_item(item("b"))
    first = store.changes(Cursor())
    assert [one.fields.item_id for one in first.items] == ["a", "b"]
    store.put_item(item("a", title="Darker Saga"))
    store.put_item(StoredItem(item("b").fields, deleted=True))
    store.set_stock({"a": False})
    store.set_stock({"c": True})
    second = store.changes(first.cursor)
    assert [(one.fields.title, one.deleted) for one in second.items] == [
        ("Darker Saga", False),
        ("Dark Saga", True),
    ]
    assert list(second.availability) == [("a", False), ("c", True)]
    assert not store.changes(second.cursor)


def test_a_deleted_id_can_be_used_again(store: StateStore) -> None:
    store.create_item(item())
    store.put_item(StoredItem(item().fields, deleted=True))
    assert store.create_item(item()) == 3
    assert [one.deleted for one in store.changes(Cursor()).items] == [False]


def test_stock_is_written_whole_or_not_at_all(store: StateStore) -> None:
    store.set_stock({"a": False})
    assert store.set_stock({"b": False, "a": True, "c": True}) == 4
    assert list(store.changes(Cursor()).availability) == [("b", False), ("a", True), ("c", True)]
    with pytest.raises(StateUnavailableError, match="does not answer"):
        store.set_stock({"d": False, "e": None})  # type: ignore[dict-item]
    assert len(store.changes(Cursor()).availability) == 3


def test_availability_is_the_last_said(store: StateStore) -> None:
    for available in (False, True, False):
        store.set_stock({"a": available})
    assert list(store.changes(Cursor()).availability) == [("a", False)]


def test_an_event_counts_once(store: StateStore) -> None:
    assert store.add_events([event("1"), event("2", kind="rating", rating=4.5)]) == [True, True]
    assert store.add_events([event("1"), event("3")]) == [False, True]
    assert store.add_events([event("4"), event("4")]) == [True, False]
    log = store.changes(Cursor()).events
    assert [one.event_id for one in log] == ["1", "2", "3", "4"]
    assert log[1] == event("2", kind="rating", rating=4.5)
    assert store.add_events([]) == []


def test_an_event_id_used_for_something_else_records_nothing(store: StateStore) -> None:
    store.add_events([event("1")])
    with pytest.raises(StateConflictError, match="event id '1' was used for another event"):
        store.add_events([event("2"), event("1", item_id="j")])
    assert [one.event_id for one in store.changes(Cursor()).events] == ["1"]


def test_events_come_in_portions(store: StateStore) -> None:
    store.add_events([event(str(number)) for number in range(25)])
    cursor, seen = store.start(newest_events=20), []
    while changes := store.changes(cursor, events=8):
        seen += [one.event_id for one in changes.events]
        cursor = changes.cursor
    assert seen == [str(number) for number in range(5, 25)]


def test_it_is_all_there_after_a_restart(store: StateStore, state_url: str) -> None:
    store.create_item(item())
    store.set_stock({"x": False})
    store.add_events([event("1")])
    again = StateStore(state_url)
    assert again.changes(Cursor()) == store.changes(Cursor())
    again.forgotten()
    again.close()


def test_writers_take_turns_and_readers_miss_nothing(store: StateStore) -> None:
    """Whatever a reader has passed never appears later: numbers are committed in their order."""
    done = threading.Event()
    seen: list[str] = []

    def write(writer: int) -> None:
        for number in range(15):
            store.add_events([event(f"{writer}-{number}")])
            store.create_item(item(f"{writer}-{number}"))

    def read() -> None:
        cursor = Cursor()
        while True:
            last = done.is_set()
            changes = store.changes(cursor)
            seen.extend(one.event_id for one in changes.events)
            seen.extend(one.fields.item_id for one in changes.items)
            cursor = changes.cursor
            if last:
                return

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    expected = [f"{writer}-{number}" for writer in range(4) for number in range(15)]
    assert sorted(seen) == sorted(2 * expected)


def test_tables_of_an_earlier_release_get_the_columns_that_came_later(
    store: StateStore, state_url: str, without_migrations
) -> None:
    store.create_item(item("a"))
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE items DROP COLUMN released"))
        without_migrations(connection)
    StateStore(state_url).close()
    later = StateStore(state_url)  # there is nothing to add any more
    later.create_item(item("b", released=2017))
    assert list(later.changes(Cursor()).items) == [item("a"), item("b", released=2017)]
    later.close()


def test_refuses_tables_of_another_release(store: StateStore, state_url: str) -> None:
    with store.engine.begin() as connection:
        connection.execute(tables.about.update().values(schema_version=99))
    with pytest.raises(ArtefactError, match="schema version 99, this release reads 1"):
        StateStore(state_url)


@pytest.mark.parametrize("url", ["mysql://host/x", "state.db", "", "oracle://secret@host/x"])
def test_refuses_other_databases_without_repeating_the_url(url: str) -> None:
    with pytest.raises(InputError, match="must begin with sqlite:/// or postgresql://") as raised:
        StateStore(url)
    assert "secret" not in str(raised.value)


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path) -> None:
    store = StateStore(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    store.create_item(item("a"))
    with store.engine.connect() as connection:
        pages = connection.scalar(sa.text("PRAGMA page_count"))

    @sa.event.listens_for(store.engine, "checkout")
    def limit(connection, *_) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StateUnavailableError, match=r"does not answer \(the disk is full\)"):
        store.create_item(item("b", description="x" * 20_000))
    store.set_stock({"a": False})  # what still fits is still written
    assert [one.fields.item_id for one in store.changes(Cursor()).items] == ["a"]
    store.close()


def test_a_folder_that_is_not_there_is_said_without_its_path(tmp_path) -> None:
    with pytest.raises(StateUnavailableError, match="does not answer") as raised:
        StateStore(f"sqlite:///{tmp_path}/nowhere/state.sqlite3")
    assert str(tmp_path) not in str(raised.value)


def test_the_database_may_go_and_come_back(postgres) -> None:
    store = StateStore(postgres.new_database())
    store.add_events([event("1")])
    postgres.stop()
    try:
        for call in (store.forgotten, lambda: store.add_events([event("2")])):
            with pytest.raises(StateUnavailableError, match="does not answer") as raised:
                call()
            assert "127.0.0.1" not in str(raised.value)
    finally:
        postgres.start()
    assert store.add_events([event("1"), event("2")]) == [False, True]
    assert [one.event_id for one in store.changes(Cursor()).events] == ["1", "2"]
    store.close()


def test_a_commit_whose_outcome_is_unknown_is_not_called_nothing(store: StateStore) -> None:
    def lost(_: object) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, Exception("connection lost"))

    sa.event.listen(store.engine, "commit", lost)
    with pytest.raises(StateUnavailableError, match="is not known: send it again") as raised:
        store.create_item(item())
    assert "nothing was written" not in str(raised.value)
    sa.event.remove(store.engine, "commit", lost)
    store.create_item(item())
    assert list(store.changes(Cursor()).items) == [item()]


def test_a_call_ends_though_postgresql_does_not_answer(postgres) -> None:
    """Whatever it is that keeps it waiting, and whichever of several statements."""
    store = StateStore(postgres.new_database(), wait_s=0.5)
    with store.engine.connect() as connection:

        def ask() -> None:
            connection.exec_driver_sql("SELECT pg_sleep(0.2)")
            connection.exec_driver_sql("SELECT pg_sleep(5)")

        connection.exec_driver_sql("SET statement_timeout = 0")  # as if the server could not
        began = time.monotonic()
        with within(0.3), pytest.raises(sa.exc.OperationalError, match="no answer in time"):
            ask()
        assert time.monotonic() - began < 2
        assert connection.invalidated
    store.add_events([event("1")])
    store.close()


def test_the_url_may_set_its_own_time_outs(postgres) -> None:
    url = f"{postgres.new_database()}?connect_timeout=7&options=-c%20work_mem%3D8MB"
    store = StateStore(url)
    with store.engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("work_mem", "statement_timeout", "idle_in_transaction_session_timeout")
        }
        parameters = connection.connection.dbapi_connection.info.get_parameters()
    assert found == {
        "work_mem": "8MB",
        "statement_timeout": "5s",
        "idle_in_transaction_session_timeout": "30s",
    }
    assert parameters["connect_timeout"] == "7"
    assert parameters["tcp_user_timeout"] == "5000"
    assert parameters["keepalives_idle"] == "10"
    store.close()


def test_another_database_in_the_same_place_is_told_apart(store: StateStore) -> None:
    store.create_item(item())
    cursor = store.changes(Cursor()).cursor
    with store.engine.begin() as connection:
        connection.execute(tables.about.update().values(epoch="another"))
    for call in (lambda: store.changes(cursor), lambda: store.create_item(item("b"))):
        with pytest.raises(StateReplacedError, match="was replaced"):
            call()
    store.reopen()
    assert store.create_item(item("b")) == 2


def test_an_older_back_up_in_the_same_place_is_told_apart(store: StateStore) -> None:
    store.create_item(item())
    store.add_events([event("1"), event("2")])
    cursor = store.changes(Cursor()).cursor
    with store.engine.begin() as connection:
        connection.execute(tables.events.delete().where(tables.events.c.event_id == "2"))
    with pytest.raises(StateReplacedError, match="holds less than was read from it"):
        store.changes(cursor)
    assert [one.event_id for one in store.changes(Cursor()).events] == ["1"]


def test_tables_of_an_earlier_release_get_an_epoch(
    store: StateStore, state_url: str, without_migrations
) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE twotower_state DROP COLUMN epoch"))
        without_migrations(connection)
    first, second = StateStore(state_url), StateStore(state_url)
    first.create_item(item("a"))
    second.create_item(item("b"))
    assert len(first.changes(Cursor()).items) == 2
    first.close()
    second.close()


def test_the_log_of_a_replaced_file_is_not_replayed_into_its_successor(tmp_path) -> None:
    path = tmp_path / "state.sqlite3"
    old, new = StateStore(f"sqlite:///{path}"), StateStore(f"sqlite:///{tmp_path / 'new'}")
    old.create_item(item("old"))
    new.create_item(item("new"))
    new.close()
    assert (tmp_path / "state.sqlite3-wal").stat().st_size > 0
    (tmp_path / "new").replace(path)
    with pytest.raises(StateReplacedError, match="file was replaced; nothing was written"):
        old.create_item(item("b"))
    old.reopen()
    assert [one.fields.item_id for one in old.changes(Cursor()).items] == ["new"]
    assert len(list(tmp_path.glob("state.sqlite3-wal.replaced-*"))) == 1
    old.create_item(item("b"))
    old.close()
    again = StateStore(f"sqlite:///{path}")
    assert [one.fields.item_id for one in again.changes(Cursor()).items] == ["new", "b"]
    again.close()


@pytest.mark.parametrize(
    "changes",
    [{"item_id": ""}, {"item_id": "a\nb"}, {"item_id": "x" * 201}, {"title": "a\0b"},
     {"price": -1}, {"price": float("nan")}, {"rating_count": 2**60}, {"colour": "red"},
     {"released": float("inf")}],
)  # fmt: skip
def test_refuses_items_that_no_database_should_hold(changes) -> None:
    with pytest.raises(InputError):
        item(**changes)


def test_an_encoding_is_of_the_item_as_it_was_encoded(store: StateStore) -> None:
    encoded = replace(item(), model_version="v9-1", encoding=b"\x00\x00\x80?")
    store.create_item(encoded)
    assert list(store.changes(Cursor()).items) == [encoded]
    again = replace(encoded, model_version="v9-2", encoding=b"\x00\x00\x00@")
    store.put_item(again)
    assert list(store.changes(Cursor()).items) == [again]
    store.put_item(item(title="Darker Saga"))
    assert list(store.changes(Cursor()).items) == [item(title="Darker Saga")]


def test_the_file_is_its_owners_alone(tmp_path) -> None:
    before = os.umask(0o022)
    try:
        store = StateStore(f"sqlite:///{tmp_path / 'state.sqlite3'}")
        store.add_events([event("e1")])
    finally:
        os.umask(before)
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()}
    assert set(modes) >= {"state.sqlite3", "state.sqlite3-wal"}
    assert set(modes.values()) == {0o600}
    store.close()


def test_a_file_that_is_there_keeps_its_permissions(tmp_path) -> None:
    file = tmp_path / "state.sqlite3"
    file.touch(0o640)
    file.chmod(0o640)
    StateStore(f"sqlite:///{file}").close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_call_under_way_when_the_store_is_closed_leaves_no_connection(state_url: str) -> None:
    store = StateStore(state_url)
    with store.engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        store.close()
        assert connection.scalar(sa.select(1)) == 1
    with pytest.raises(Exception, match="closed"):
        driver.execute("SELECT 1")
