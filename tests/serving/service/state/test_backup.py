"""Back-ups: nothing acknowledged is lost, nobody forgotten comes back."""

import json
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from twotower.errors import ArtefactError, InputError
from twotower.service.state import Cursor, Event, StateStore
from twotower.service.state.backup import back_up, obey, read_tombstones, restore, write_tombstones


def event(name: str, user: str = "ann") -> Event:
    return Event(event_id=name, user_id=user, item_id="i", kind="view", occurred_at=5)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state.sqlite3'}"


def kept(url: str) -> list[str]:
    store = StateStore(url)
    found = [one.event_id for one in store.changes(Cursor()).events]
    store.close()
    return found


def test_nothing_acknowledged_before_a_back_up_is_lost(url, tmp_path) -> None:
    acknowledged: list[str] = []
    stop = threading.Event()

    def write(writer: int) -> None:
        store = StateStore(url)
        number = 0
        while not stop.is_set():
            name = f"{writer}-{number}"
            store.add_events([event(name)])
            acknowledged.append(name)
            number += 1
        store.close()

    StateStore(url).close()
    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in writers:
        thread.start()
    copies = []
    for number in range(5):
        while len(acknowledged) < 40 * (number + 1):
            pass
        before = list(acknowledged)
        copy = tmp_path / f"copy-{number}.sqlite3"
        assert back_up(url, copy)["events"] >= len(before)
        copies.append((copy, before))
    stop.set()
    for thread in writers:
        thread.join()
    for copy, before in copies:
        restore(url, copy)
        assert set(before) <= set(kept(url))


def test_a_back_up_is_one_private_file(url, tmp_path) -> None:
    store = StateStore(url)
    store.add_events([event("1")])
    copy = tmp_path / "sub" / "copy.sqlite3"
    assert back_up(url, copy) == {
        "availability": 0, "bundles": 0, "events": 1, "followers": 0, "forgotten_users": 0,
        "interleaved_units": 0, "item_encodings": 0, "items": 0, "shadow_lists": 0, "shadows": 0,
        "shown": 0, "split_units": 0, "splits": 0, "users": 0,
    }  # fmt: skip
    store.close()
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_a_restored_back_up_brings_nobody_back(url, tmp_path) -> None:
    store = StateStore(url)
    store.add_events([event("1"), event("2", "bob")])
    back_up(url, tmp_path / "copy")
    store.forget(["ann"])
    store.close()
    assert restore(url, tmp_path / "copy") == {"tombstones": 1, "rows": 1}
    assert kept(url) == ["2"]
    assert b"ann" not in (tmp_path / "state.sqlite3").read_bytes()


def test_nor_where_the_database_is_lost_but_a_list_is_there(url, tmp_path) -> None:
    store = StateStore(url)
    store.add_events([event("1"), event("2", "bob")])
    back_up(url, tmp_path / "copy")
    store.forget(["ann"])
    assert write_tombstones(store, tmp_path / "list") == 1
    assert "ann" not in (tmp_path / "list").read_text()
    store.close()
    for path in tmp_path.glob("state.sqlite3*"):
        path.unlink()
    assert restore(url, tmp_path / "copy", [tmp_path / "list"]) == {"tombstones": 1, "rows": 1}
    assert kept(url) == ["2"]


def test_a_list_is_obeyed_on_either_backend(state_url, tmp_path) -> None:
    """As after pg_restore."""
    store = StateStore(state_url)
    store.forget(["ann"])
    write_tombstones(store, tmp_path / "list")
    listed = read_tombstones(tmp_path / "list")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM forgotten_users")
    store.add_events([event("1"), event("2", "bob")])
    assert obey(store, listed) == {"tombstones": 1, "rows": 1}
    store.close()


def test_a_back_up_of_another_database_is_refused_where_users_were_forgotten(url, tmp_path) -> None:
    other = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    StateStore(other).close()
    back_up(other, tmp_path / "copy")
    store = StateStore(url)
    store.add_events([event("1")])
    store.forget(["bob"])
    store.close()
    with pytest.raises(InputError, match="1 users were forgotten in a database that this is no"):
        restore(url, tmp_path / "copy")
    assert kept(url) == ["1"]


@pytest.mark.parametrize("damage", ["text", "foreign", "newer", "cut", "none"])
def test_a_bad_back_up_changes_nothing(url, tmp_path, damage) -> None:
    store = StateStore(url)
    store.add_events([event(str(number)) for number in range(500)])
    copy = tmp_path / "copy"
    if damage == "text":
        copy.write_text("no database at all" * 100)
    elif damage == "foreign":
        sqlite3.connect(copy).execute("CREATE TABLE t (x)").connection.close()
    elif damage != "none":
        back_up(url, copy)
    if damage == "newer":
        connection = sqlite3.connect(copy)
        connection.execute("UPDATE twotower_state SET schema_version = 99")
        connection.commit()
        connection.close()
    if damage == "cut":
        copy.write_bytes(copy.read_bytes()[:20_000])
    with pytest.raises((InputError, ArtefactError)):
        restore(url, copy)
    store.close()
    assert len(kept(url)) == 500
    assert not [path for path in tmp_path.iterdir() if "restored" in path.name]


def test_postgresql_has_its_own_tools() -> None:
    for call in (back_up, restore):
        with pytest.raises(InputError, match="pg_dump"):
            call("postgresql://host/x", Path("copy"))


def test_what_is_no_list_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_tombstones(tmp_path / "none")
    for text in ("x", "{}", json.dumps({"key": "zz", "forgotten": []})):
        (tmp_path / "list").write_text(text)
        with pytest.raises(ArtefactError, match="is no list of forgotten users"):
            read_tombstones(tmp_path / "list")
