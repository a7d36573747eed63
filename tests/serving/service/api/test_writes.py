"""What callers are told of writes while the database fails, or is locked."""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from support import until
from twotower.service.state import StateUnavailableError

logger = logging.getLogger(__name__)

EVENT = {
    "event_id": "e",
    "user_id": "bob",
    "item_id": "item-01",
    "kind": "buy",
    "occurred_at": 1_700_000_000_000,
}
NEW = {"item_id": "n1", "title": "Game 61"}


def state_up(client: TestClient) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    (family,) = [one for one in families if one.name == "twotower_state_up"]
    return family.samples[0].value


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to the database."""
    connection = sqlite3.connect(path)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


def test_a_committed_write_is_a_success_though_it_cannot_be_read_back(served, monkeypatch) -> None:
    def gone(*_: object) -> None:
        raise StateUnavailableError("the state database does not answer; nothing was written")

    with served() as client, served() as other:
        other.post("/v1/items", json={"item_id": "theirs", "title": "Game"})
        other.put("/v1/items/item-09/availability", json={"available": False})
        monkeypatch.setattr(client.app.state.context.service.store, "changes", gone)
        assert client.post("/v1/items", json=NEW).status_code == 201
        assert client.get("/v1/items/n1").status_code == 200
        renamed = client.put("/v1/items/n1", json={"title": "Renamed"})
        assert (renamed.status_code, renamed.json()["title"]) == (200, "Renamed")
        shut = client.put("/v1/items/n1/availability", json={"available": False})
        assert (shut.status_code, shut.json()["available"]) == (200, False)
        assert client.delete("/v1/items/item-05").status_code == 204
        assert client.get("/v1/items/item-05").status_code == 404
        recorded = client.post("/v1/events", json={"events": [EVENT]})
        assert recorded.json()["events"][0]["recorded"] is True
        assert client.get("/ready").json()["state"] == "down"


@pytest.mark.parametrize("poll_s", [60, 0.05])
def test_the_state_is_down_while_writes_are_refused(served, tmp_path, poll_s) -> None:
    with served(state_timeout_s=0.1, poll_s=poll_s) as client:
        with locked(tmp_path / "state.sqlite3"):
            answer = client.post("/v1/items", json=NEW)
            assert answer.status_code == 503
            assert "nothing was written" in answer.json()["detail"]
            time.sleep(0.3)  # looks go on, and are answered
            assert client.get("/ready").json()["state"] == "down"
            assert state_up(client) == 0
            assert client.get("/v1/users/user-03/recommendations").status_code == 200
        if poll_s == 60:
            assert client.post("/v1/items", json=NEW).status_code == 201
        deadline = time.monotonic() + 60  # or it is tried without a write
        while client.get("/ready").json()["state"] == "down" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.get("/ready").json()["state"] == "up"
        assert state_up(client) == 1


def post(client: TestClient, count: int) -> list[str]:
    """Ids of the items that were acknowledged."""
    names = [f"n{number}" for number in range(count)]
    return [
        name
        for name in names
        if client.post("/v1/items", json={**NEW, "item_id": name}).status_code == 201
    ]


def kept(path: Path) -> set[str]:
    if not path.exists():
        return set()
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        rows = connection.execute("SELECT item_id FROM items") if ("items",) in tables else ()
        found = {name for (name,) in rows}
    connection.close()
    return found


def test_what_is_acknowledged_is_kept_though_the_file_is_deleted(served, tmp_path) -> None:
    """Figures, before and after: ``--log-cli-level=INFO``."""
    path = tmp_path / "state.sqlite3"
    with served(poll_s=0.05) as client:
        assert client.get("/v1/users/user-03/recommendations").status_code == 200
        for beside in tmp_path.glob("state.sqlite3*"):
            beside.unlink()
        acknowledged = post(client, 16)
        time.sleep(0.2)
        state = client.get("/ready").json()["state"]
        read = client.get("/v1/users/user-03/recommendations").status_code
    lost = set(acknowledged) - kept(path)
    logger.info("file deleted: %d of 16 writes acknowledged, %d of them lost, /ready %s",
                len(acknowledged), len(lost), state)  # fmt: skip
    assert not lost
    assert state == "down"
    assert read == 200


def test_what_is_acknowledged_is_found_though_a_back_up_is_restored(served, tmp_path) -> None:
    path, copy = tmp_path / "state.sqlite3", tmp_path / "copy"
    with served(poll_s=0.05) as client:
        client.post("/v1/items", json={**NEW, "item_id": "early"})
        with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
            source.backup(target)
        source.close()
        target.close()
        for number in range(20):
            client.post("/v1/items", json={**NEW, "item_id": f"lost-{number}"})
        for beside in tmp_path.glob("state.sqlite3*"):
            beside.unlink()
        copy.rename(path)
        time.sleep(0.5)
        acknowledged = post(client, 10)
        unseen = [
            name for name in acknowledged if client.get(f"/v1/items/{name}").status_code != 200
        ]
        gone = [n for n in range(20) if client.get(f"/v1/items/lost-{n}").status_code == 404]
        deadline = time.monotonic() + 60
        while not acknowledged and time.monotonic() < deadline:
            acknowledged = post(client, 10)
        state = client.get("/ready").json()["state"]
    lost = set(acknowledged) - kept(path)
    logger.info(
        "back-up restored: %d writes acknowledged, %d of them then 404, %d lost; of 20 newer items "
        "%d gone, /ready %s", len(acknowledged), len(unseen), len(lost), len(gone), state,
    )  # fmt: skip
    assert acknowledged
    assert not unseen
    assert not lost
    assert len(gone) == 20
    assert state == "up"


def test_writes_that_wait_hold_up_no_read(served, tmp_path) -> None:
    with served(workers=1, state_timeout_s=3) as client:
        with locked(tmp_path / "state.sqlite3"):
            statuses: list[int] = []

            def write(number: int) -> None:
                event = {**EVENT, "event_id": str(number)}
                statuses.append(client.post("/v1/events", json={"events": [event]}).status_code)

            writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
            for thread in writers:
                thread.start()
            time.sleep(0.1)
            assert client.get("/v1/search?q=Game").status_code == 200
            assert client.post("/v1/recommendations", json={"text": "Game 7"}).status_code == 200
            assert statuses == []  # they wait still
        for thread in writers:
            thread.join()
        assert statuses == [200, 200]


def test_a_look_that_fails_is_not_the_last_one(served, caplog) -> None:
    with served(poll_s=0.05) as client:
        metrics = client.app.state.context.metrics
        note, looks = metrics.note, []

        def failing_once(service) -> None:
            looks.append(service)
            if len(looks) == 1:
                raise OSError("the disk is full")
            note(service)

        metrics.note = failing_once
        assert until(lambda: len(looks) > 2)
    assert caplog.text.count("could not look after the service") == 1
