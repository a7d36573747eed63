"""What the service makes of a database that fails, is locked, or is replaced under it."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from support import until
from twotower.errors import InputError
from twotower.inference.item_table import ItemTable
from twotower.service import service as service_module
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.state import (
    Changes,
    Cursor,
    Event,
    ItemFields,
    StateReplacedError,
    StateUnavailableError,
    tables,
)

Start = Callable[..., Service]


@pytest.fixture
def start(open_folder, tmp_path) -> Iterator[Start]:
    """Starts services over one bundle and one database."""
    started: list[Service] = []

    def begin(**settings: Any) -> Service:
        given = {"state_url": f"sqlite:///{tmp_path / 'state.sqlite3'}", **settings}
        started.append(Service(ServeSettings(bundle=open_folder, **given)))
        return started[-1]

    yield begin
    for service in started:
        service.close()


def events(*names: str, user: str = "bob") -> list[Event]:
    return [
        Event(event_id=name, user_id=user, item_id="item-01", kind="view", occurred_at=number)
        for number, name in enumerate(names)
    ]


def item(name: str, price: float = 9.0, title: str = "Game 7") -> ItemFields:
    return ItemFields(item_id=name, title=title, category="genre-1", price=price)


def test_business_rules_are_read_again_by_a_reload(start: Start, tmp_path: Path) -> None:
    def pinned(position: int, item_id: str = "item-40") -> str:
        return f'[[pin]]\nitem = "{item_id}"\nposition = {position}\n'

    rules = tmp_path / "rules.toml"
    rules.write_text(pinned(2) + pinned(3, "n1"))
    service = start(rules=rules)

    def shown() -> list[tuple[str, str | None]]:
        found = service.pipeline.recommend(history=["item-05"], k=4)
        return [(one.item_id, one.rule) for one in found]

    assert [rule for _, rule in shown()] == [None, "pinned", None, None]
    service.create_item(item("n1"))  # was not known when the rules were read
    assert shown()[1:3] == [("item-40", "pinned"), ("n1", "pinned")]
    rules.write_text(pinned(1))
    assert shown()[0] != ("item-40", "pinned")
    service.reload()
    assert shown()[0] == ("item-40", "pinned")
    rules.write_text(pinned(0))
    with pytest.raises(InputError, match=r"pin.0.position: .* got 0"):
        service.reload()
    assert shown()[0] == ("item-40", "pinned")


def gone(*_: object) -> None:
    raise StateUnavailableError("gone")


def answers(service: Service) -> list[Any]:
    """What it recommends, finds alike, and finds by words."""
    pipeline = service.pipeline
    return [
        sorted((-round(one.score, 5), one.item_id, one.title or "") for one in found)
        for found in (
            pipeline.recommend(history=["item-05"], k=70),
            pipeline.similar_items("item-07", k=70),
            pipeline.search("Game 7", k=70),
        )
    ]


def test_an_event_counts_once_though_the_database_fails_between_two_pages(
    start, monkeypatch
) -> None:
    monkeypatch.setattr(service_module, "_AT_ONCE", 3)
    one, other = start(), start()
    one.add_events(events(*"abcdefg"))
    changes, calls = other.store.changes, []

    def fails_once(*given: Any) -> Changes:
        calls.append(given)
        if len(calls) == 2:
            raise StateUnavailableError("gone")
        return changes(*given)

    monkeypatch.setattr(other.store, "changes", fails_once)
    with pytest.raises(StateUnavailableError):
        other.catch_up()
    other.catch_up()
    assert [past.time for past in other.current.past.of("bob")] == list(range(7))


def test_an_added_item_that_is_changed_often_takes_two_rows(start) -> None:
    one = start()
    one.create_item(item("n1"))
    one.create_item(item("n2"))
    for number in range(50):
        one.put_item(item("n1", price=number, title=f"Game {number % 9}"))
    assert len(one.pipeline.items) <= 60 + 2 * 2
    one.set_availability("n1", False)
    one.put_item(item("n1", price=3.0))
    assert not one.pipeline.items.eligible[one.pipeline.items.row("n1")]


def test_changed_items_are_answered_with_as_by_a_service_that_starts_then(start) -> None:
    """Whether the index holds them as they were, or not at all."""
    one = start(extend_share=0.05)
    draw = np.random.default_rng(3)
    for number in range(60):
        name, price = f"n{draw.integers(5)}", float(draw.uniform(1, 60))
        one.put_item(item(name, price, f"Game {draw.integers(5)} edition {number % 4}"))
        if number == 30:
            assert until(lambda: not one.pipeline.lags(0.05))
    assert until(lambda: not one._extending.locked())
    assert len(one.pipeline.items) <= 60 + 2 * 5
    assert answers(one) == answers(start())
    assert one.pipeline.outside_index <= 0.05 * len(one.pipeline.items)


def test_a_change_looks_at_the_items_that_changed_alone(start, monkeypatch) -> None:
    one = start()
    for number in range(30):
        one.set_availability(f"item-{number:02}", False)
    looked: list[str] = []
    find = ItemTable.find
    monkeypatch.setattr(
        ItemTable, "find", lambda self, name: (looked.append(name), find(self, name))[1]
    )
    one.set_availability("item-40", False)
    assert int(one.pipeline.items.eligibility.count) == 60 - 31
    assert set(looked) == {"item-40"}


def test_a_committed_write_is_acknowledged_though_it_cannot_be_read_back(
    start, monkeypatch
) -> None:
    one, other = start(), start()
    other.create_item(item("theirs"))  # so that what follows must be read back
    other.set_availability("item-09", False)
    with monkeypatch.context() as patch:
        patch.setattr(one.store, "changes", gone)
        assert one.create_item(item("n1"))
        assert one.pipeline.items.row("n1")
        one.put_item(item("n1", title="Renamed"))
        assert one.pipeline.title("n1") == "Renamed"
        one.set_availability("n1", False)
        assert not one.pipeline.items.eligible[one.pipeline.items.row("n1")]
        one.delete_item("item-08")
        assert not one.pipeline.items.eligible[8]
        assert one.add_events(events("e")) == [True]
        assert one.state == "down"
    one.catch_up()
    assert one.state == "up"
    assert len(one.current.past.of("bob")) == 1
    assert answers(one) == answers(start())


def test_what_is_sent_again_is_taken_over_where_its_first_answer_was_lost(start) -> None:
    one, other = start(), start()
    other.store.create_item(one._encoded(item("n1")))  # committed, and the answer lost
    assert one.create_item(item("n1")) is False
    assert one.pipeline.items.row("n1")


@pytest.mark.parametrize("when", ["first", "later"])
def test_writes_to_a_deleted_file_are_refused(start, tmp_path, when) -> None:
    one = start()
    if when == "later":
        one.create_item(item("n1"))
    path = tmp_path / "state.sqlite3"
    path.rename(tmp_path / "elsewhere")
    for write in (
        lambda: one.create_item(item("n2")),
        lambda: one.set_availability("item-01", False),
        lambda: one.add_events(events("e")),
    ):
        with pytest.raises(StateUnavailableError, match="file is gone; nothing was written, put"):
            write()
    assert one.state == "down"
    assert "n2" not in one.pipeline.items
    assert not path.exists()  # no empty one in its place
    assert one.pipeline.recommend("user-03")
    (tmp_path / "elsewhere").rename(path)
    one.catch_up()
    assert one.create_item(item("n2"))
    assert one.state == "up"


def back_up(path: Path, to: Path) -> None:
    with sqlite3.connect(path) as source, sqlite3.connect(to) as target:
        source.backup(target)
    target.close()
    source.close()


@pytest.mark.parametrize("how", ["another file", "in place"])
def test_a_restored_back_up_is_read_anew(start, tmp_path, how) -> None:
    one = start()
    path, copy = tmp_path / "state.sqlite3", tmp_path / "copy"
    one.create_item(item("kept"))
    one.add_events(events("e1"))
    back_up(path, copy)
    for number in range(5):
        one.create_item(item(f"lost-{number}"))
    one.add_events(events("e2"))
    one.delete_item("item-08")
    if how == "another file":
        copy.replace(path)
    else:
        back_up(copy, path)
    with pytest.raises(StateReplacedError):
        one.catch_up()
    assert one.pipeline.recommend("user-03")  # meanwhile
    assert until(lambda: one.state == "up")
    assert one.create_item(item("n2"))
    assert one.pipeline.items.row("kept")
    assert one.pipeline.items.row("n2")
    assert "lost-0" not in one.pipeline.items
    assert one.pipeline.items.eligible[8]
    assert len(one.current.past.of("bob")) == 1
    assert answers(one) == answers(start())
    one.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_write_notices_a_replaced_database_and_is_refused(start, tmp_path) -> None:
    one = start()
    path, copy = tmp_path / "state.sqlite3", tmp_path / "copy"
    back_up(path, copy)
    one.create_item(item("lost"))
    copy.replace(path)
    with pytest.raises(StateReplacedError, match="nothing was written"):
        one.create_item(item("n1"))
    assert until(lambda: one.state == "up")
    assert one.create_item(item("n1"))
    assert "lost" not in one.pipeline.items
    assert one.pipeline.items.row("n1")


@pytest.mark.parametrize("how", ["an older back-up", "another database"])
def test_a_replaced_postgresql_database_is_read_anew(start, postgres, how) -> None:
    one = start(state_url=postgres.new_database())
    one.create_item(item("lost"))
    one.add_events(events("e1"))
    with one.store.engine.begin() as connection:
        for table in (tables.items, tables.encodings, tables.events):
            connection.execute(table.delete())
        if how == "another database":
            connection.execute(tables.about.update().values(epoch="another"))
    if how == "another database":
        with pytest.raises(StateReplacedError, match="was replaced; nothing was written"):
            one.create_item(item("n1"))
    else:
        with pytest.raises(StateReplacedError, match="a back-up was restored"):
            one.catch_up()
    assert until(lambda: one.state == "up")
    assert one.create_item(item("n1"))
    assert "lost" not in one.pipeline.items
    assert one.pipeline.items.row("n1")
    assert not one.current.past.of("bob")


def test_the_state_is_down_while_every_write_fails(start, tmp_path) -> None:
    one = start(state_timeout_s=0.1)
    with sqlite3.connect(tmp_path / "state.sqlite3") as lock:
        lock.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailableError):
            one.create_item(item("n1"))
        one.catch_up()  # a reader is not held up
        assert one.state == "down"
        with pytest.raises(StateUnavailableError):
            one.probe()
        assert one.state == "down"
        lock.rollback()
    lock.close()
    one.probe()
    assert one.state == "up"


def test_a_full_disk_counts_too(start) -> None:
    one = start()
    with one.store.engine.connect() as connection:
        pages = connection.scalar(sa.text("PRAGMA page_count"))

    @sa.event.listens_for(one.store.engine, "checkout")
    def limit(connection, *_) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    big = item("n1").vary(description="x" * 20_000)
    with pytest.raises(StateUnavailableError, match="the disk is full"):
        one.put_item(big)
    assert one.state == "down"
    one.set_availability("item-01", False)
    assert one.state == "up"


def test_no_more_events_are_kept_in_memory_than_set(start) -> None:
    one = start(events_in_memory=20)
    for number in range(100):
        one.add_events(events(f"a{number}", f"b{number}", user=f"user {number}"))
    assert len(one.current.past) <= 20
    assert len(one.current.past.of("user 99")) == 2
    assert not one.current.past.of("user 0")
    one.reload()
    assert len(one.current.past) <= 20
    assert len(one.current.past.of("user 99")) == 2


def test_the_users_of_the_newest_events_are_kept(start) -> None:
    one = start(events_in_memory=4)
    for number, user in enumerate(["a", "b", "c", "a", "d", "e"]):
        one.add_events(events(f"e{number}", user=user))
    kept = {user: len(one.current.past.of(user)) for user in "abcde"}
    assert kept == {"a": 2, "b": 0, "c": 0, "d": 1, "e": 1}


def test_no_lock_is_held_while_the_database_is_read(start, monkeypatch) -> None:
    """Another write is taken over, and answered with, while a read waits."""
    one = start()
    entered, go_on = threading.Event(), threading.Event()
    changes = one.store.changes

    def waits(*given: Any) -> Changes:
        if threading.current_thread().name == "reader":
            entered.set()
            assert go_on.wait(20)
        return changes(*given)

    monkeypatch.setattr(one.store, "changes", waits)
    reader = threading.Thread(target=one.catch_up, name="reader")
    reader.start()
    try:
        assert entered.wait(20)
        assert one.create_item(item("n1"))
        assert one.pipeline.items.row("n1")
        assert until(lambda: one.state == "stale")
    finally:
        go_on.set()
        reader.join()
    assert one.state == "up"
    assert one.current.cursor == Cursor(items=1)
