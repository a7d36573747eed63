"""What a forgotten user leaves in answers, in memory, in other services and after a restoration."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from twotower.bundle.storage import save_bundle
from twotower.service.retrain import write_source
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.state import Cursor, Event
from twotower.service.state.backup import back_up, restore
from twotower.service.state.personal import now_ms

DAY = 86_400_000


@pytest.fixture
def start(open_contents, weights, tmp_path) -> Iterator:
    save_bundle(tmp_path / "bundle", open_contents, weights)
    save_bundle(tmp_path / "next", open_contents, weights)
    started: list[Service] = []

    def begin(**changes) -> Service:
        url = f"sqlite:///{tmp_path / 'state.sqlite3'}"
        started.append(Service(ServeSettings(bundle=tmp_path / "bundle", state_url=url, **changes)))
        return started[-1]

    yield begin
    for service in started:
        service.close()


def event(name: str, user: str, at: int = 5, item: str = "item-01") -> Event:
    return Event(event_id=name, user_id=user, item_id=item, kind="buy", occurred_at=at)


def knows(service: Service, user: str) -> tuple[bool, int]:
    """Whether the bundle knows a user, and how many events memory holds."""
    past = service.current.past_of(user)
    return user in service.pipeline.contents.users, len(past)


def test_no_service_knows_a_forgotten_user(start) -> None:
    one, two = start(), start()
    one.add_events([event("1", "user-03"), event("2", "newcomer"), event("3", "user-04")])
    two.catch_up()
    assert knows(two, "user-03") == (True, 1)

    def follow() -> None:  # as the app does, every second
        while not confirmed.is_set():
            two.catch_up()
            two.confirm()
            two.maintain()
            time.sleep(0.01)

    confirmed = threading.Event()
    thread = threading.Thread(target=follow)
    thread.start()
    outcome, behind = one.forget(["user-03", "newcomer", "never-seen"])
    confirmed.set()
    thread.join()
    assert (outcome.rows, behind) == (2, 0)
    for service in (one, two):
        assert knows(service, "user-03") == (False, 0)
        assert knows(service, "newcomer") == (False, 0)
        assert knows(service, "user-04") == (True, 1)
    assert "user-03" not in two.current.users.known()  # also before a request names them


def test_a_service_that_does_not_follow_is_said(start) -> None:
    one, _ = start(state_timeout_s=0.3), start()
    assert one.forget(["user-03"])[1] == 1


def test_no_other_bundle_and_no_restart_brings_a_user_back(start) -> None:
    one = start()
    one.forget(["user-03"])
    one.reload("next")
    assert knows(one, "user-03") == (False, 0)
    again = start()
    assert "user-03" not in again.current.users.known()
    assert knows(again, "user-04")[0]


def test_a_user_who_comes_back_is_a_new_one(start) -> None:
    service = start()
    service.forget(["user-03"])
    later = now_ms() + 1
    time.sleep(0.003)
    service.add_events([event("old", "user-03"), event("new", "user-03", later)])
    assert knows(service, "user-03") == (False, 1)
    exported = service.export("user-03")
    assert [row["event_id"] for row in exported["events"]] == ["new"]
    assert exported["bundle"]["history"] == []


def test_a_bundle_of_what_came_later_is_known(start, open_contents, weights, tmp_path) -> None:
    """Whoever came back and was trained on again is a user like others."""
    service = start()
    service.forget(["user-03"])
    log = open_contents.histories
    later = replace(log, timestamps=log.timestamps + 10**13)
    contents = replace(open_contents, histories=later)
    save_bundle(tmp_path / "next", contents, weights)
    service.reload("next")
    assert knows(service, "user-03")[0]


def test_everything_kept_is_exported(start, open_contents) -> None:
    service = start()
    service.add_events([event("1", "user-03", at=7)])
    found = service.export("user-03")
    assert found["events"][0]["event_id"] == "1"
    history = found["bundle"]["history"]
    assert [row["item_id"] for row in history] == [
        open_contents.items.ids[item] for item in open_contents.histories.row(3)
    ]
    assert all(row["rating"] and row["timestamp"] for row in history)


def test_the_next_training_has_nothing_of_them(start, open_contents, tmp_path: Path) -> None:
    import polars as pl

    service = start()
    service.add_events([event("1", "user-03", 10**12), event("2", "user-04", 10**12)])
    service.forget(["user-03"])
    write_source(open_contents, service.store, tmp_path / "source")
    log = pl.read_parquet(tmp_path / "source" / "interactions.parquet")
    assert "user-03" not in log["user_id"].to_list()
    assert (
        log.filter(pl.col("user_id") == "user-04").height == len(open_contents.histories.row(4)) + 1
    )


def test_the_next_training_keeps_the_limits_of_age(start, open_contents, tmp_path) -> None:
    import polars as pl

    service, times = start(), open_contents.histories.timestamps
    middle = int(sorted(times)[len(times) // 2])
    days = (now_ms() - middle) / DAY
    source = tmp_path / "source"
    write_source(open_contents, service.store, source, keep_days=days)
    log = pl.read_parquet(source / "interactions.parquet")
    assert 0 < log.height < len(times)
    write_source(open_contents, service.store, source, anonymise_after_days=days)
    log = pl.read_parquet(source / "interactions.parquet")
    assert log.height == len(times)
    names = log.filter(pl.col("timestamp") < middle - DAY)["user_id"].to_list()
    assert names
    assert all(name.startswith("anonymous-") for name in names)


def test_age_limits_are_kept_in_memory_and_in_the_database(start) -> None:
    service = start(events_keep_days=30, anonymise_after_days=10)
    now = now_ms()
    service.add_events([event(str(days), "newcomer", now - days * DAY) for days in (1, 20, 40)])
    service.maintain()
    assert knows(service, "newcomer") == (False, 1)
    log = service.store.changes(Cursor()).events
    assert [one.user_id == "newcomer" for one in log] == [True, False]
    service.add_events([event("50", "newcomer", now - 50 * DAY)])
    service.maintain()  # not due again for an hour
    assert len(service.store.changes(Cursor()).events) == 3


def test_a_restored_back_up_is_read_anew_and_brings_nobody_back(start, tmp_path) -> None:
    service = start()
    url = service.settings.database
    service.add_events([event("1", "user-03"), event("2", "user-04")])
    back_up(url, tmp_path / "copy")
    service.add_events([event("3", "user-04")])
    service.forget(["user-03"])
    restore(url, tmp_path / "copy")

    deadline = time.monotonic() + 20
    while knows(service, "user-04") != (True, 1) and time.monotonic() < deadline:
        try:
            service.catch_up()
        except Exception:
            time.sleep(0.02)
    assert knows(service, "user-04") == (True, 1)
    assert knows(service, "user-03") == (False, 0)
    while service.state != "up":
        time.sleep(0.02)
    assert service.add_events([event("4", "user-03")]) == [False]
