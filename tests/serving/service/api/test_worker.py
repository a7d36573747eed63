"""Several processes as one service, their parts one by one; tests/serving/test_process.py starts
whole ones."""

import asyncio
import multiprocessing
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twotower.errors import ArtefactError, InputError
from twotower.service import service as service_module
from twotower.service.api.limits import share_of_one
from twotower.service.api.metrics import Metrics
from twotower.service.api.read_your_writes import CatchingUp
from twotower.service.api.supervisor import supervise
from twotower.service.api.worker import Place, Sibling, bound, reserve
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.state import (
    Changes,
    Event,
    ItemFields,
    StateConflictError,
    StateUnavailableError,
)
from twotower.service.write_counter import Writes


def test_writes_of_all_count() -> None:
    counts = multiprocessing.get_context("spawn").RawArray("Q", 2)
    one, other = Writes(counts, 0), Writes(counts, 1)
    threads = [threading.Thread(target=lambda: [one.add() for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.add()
    assert one.total == other.total == 401
    Writes(counts, 0).add()  # one that takes the place of another counts on
    assert one.total == 402


def test_a_service_counts_what_it_committed_and_knows_what_it_has_seen(
    open_folder, monkeypatch
) -> None:
    counts = multiprocessing.get_context("spawn").RawArray("Q", 2)
    settings = ServeSettings(bundle=open_folder)
    one, other = (Service(settings, Writes(counts, number)) for number in range(2))
    try:
        one.set_availability("item-01", False)
        assert (one.written, one.caught_up_with) == (1, 1)
        assert (other.written, other.caught_up_with) == (1, 0)
        assert other.pipeline.items.open[1]
        other.catch_up()
        assert (other.caught_up_with, other.pipeline.items.open[1]) == (1, False)

        # While the database is gone there is one try for each write, not one for each request.
        def gone(*_: object) -> None:
            raise StateUnavailableError("gone")

        monkeypatch.setattr(other.store, "changes", gone)
        one.set_availability("item-01", True)
        with pytest.raises(StateUnavailableError):
            other.catch_up()
        assert other.caught_up_with == other.written == 2
    finally:
        one.close()
        other.close()


def test_an_own_item_is_not_read_back_where_nothing_else_is_new(open_folder, monkeypatch) -> None:
    counts = multiprocessing.get_context("spawn").RawArray("Q", 2)
    settings = ServeSettings(bundle=open_folder)
    one, other = (Service(settings, Writes(counts, number)) for number in range(2))
    looks = []
    changes = one.store.changes

    def counted(*given: Any) -> Changes:
        looks.append(given)
        return changes(*given)

    monkeypatch.setattr(one.store, "changes", counted)
    try:
        one.create_item(ItemFields(item_id="a", title="A"))
        one.put_item(ItemFields(item_id="item-01", title="Renamed"))
        one.delete_item("a")
        assert not looks
        other.create_item(ItemFields(item_id="b", title="B"))  # reads the three before it
        one.create_item(ItemFields(item_id="c", title="C"))
        assert len(looks) == 1
        other.set_availability("item-02", False)  # takes over c
        one.create_item(ItemFields(item_id="d", title="D"))  # items have no gap, but that is new
        assert len(looks) == 2
        other.catch_up()
        for service in (one, other):
            items = service.pipeline.items
            assert service.caught_up_with == service.written == 7
            assert [str(one) for one in items.ids.rows[-3:]] == ["b", "c", "d"]
            assert items.titles.rows[1] == "Renamed"
            assert "a" not in {one.item_id for one in service.pipeline.similar_items("d", k=999)}
            assert not items.open[2]
        assert one.current.cursor == other.current.cursor
    finally:
        one.close()
        other.close()


def test_items_of_many_threads_are_all_taken_over(open_folder) -> None:
    counts = multiprocessing.get_context("spawn").RawArray("Q", 2)
    settings = ServeSettings(bundle=open_folder)
    services = [Service(settings, Writes(counts, number)) for number in range(2)]

    def add(thread: int) -> None:
        service = services[thread % 2]
        for number in range(10):
            service.create_item(ItemFields(item_id=f"{thread}-{number}", title="Game"))
            assert service.pipeline.items.find(f"{thread}-{number}") is not None

    try:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(add, range(6)))
        rows = []
        for service in services:
            if service.caught_up_with < service.written:
                service.catch_up()
            rows.append([str(one) for one in service.pipeline.items.ids.rows])
        assert rows[0] == rows[1]
        assert len(set(rows[0])) == len(rows[0]) == len(services[0].pipeline.contents.items) + 60
    finally:
        for service in services:
            service.close()


def test_more_events_than_are_read_at_once_are_all_taken_over(open_folder, monkeypatch) -> None:
    monkeypatch.setattr(service_module, "_AT_ONCE", 3)
    settings = ServeSettings(bundle=open_folder)
    one, other = Service(settings), Service(settings)
    try:
        for first, last in ((0, 6), (6, 7)):
            names = [f"item-{number:02}" for number in range(first, last)]
            one.add_events(
                [
                    Event(event_id=name, user_id="bob", item_id=name, kind="view", occurred_at=1)
                    for name in names
                ]
            )
            other.catch_up()
        assert len(other.current.past.of("bob")) == 7
    finally:
        one.close()
        other.close()


def test_the_rate_is_shared_out() -> None:
    settings = ServeSettings(bundle=Path("b"), processes=3, rate_limit=10, rate_burst=100)
    share = share_of_one(settings)
    assert share.rate_limit == pytest.approx(10 / 3)
    assert share.rate_burst == 34
    assert share_of_one(ServeSettings(bundle=Path("b"), processes=2)).rate_limit is None


def test_a_database_in_memory_cannot_be_shared() -> None:
    settings = ServeSettings(bundle=Path("b"), processes=2, state_url="sqlite://")
    with pytest.raises(InputError, match="cannot share a database in memory; set state_url"):
        supervise(settings, lambda *_: None)


def test_an_address_is_held_and_taken_by_those_that_share_it_alone() -> None:
    reserved = reserve("localhost", 0)
    try:
        assert len({one.getsockname()[1] for one in reserved}) == 1
        host, port = reserved[0].getsockname()[:2]
        address = (reserved[0].family, reserved[0].getsockname())
        with bound(address, shared=True) as listening:
            listening.listen()
            with pytest.raises(InputError, match=f"cannot listen on {host} port {port} "):
                reserve(host, port)
    finally:
        for one in reserved:
            one.close()


class Reloading:
    """What a sibling needs of a service."""

    def __init__(self) -> None:
        self.served: list[str | None] = []
        self.broken = {"broken"}

    def reload(self, name: str | None) -> None:
        if name in self.broken:
            raise ArtefactError("it is broken")
        self.served.append(name)


class Hub:
    """Two siblings, and what their supervisor would do with what they say."""

    def __init__(self) -> None:
        pipes = [multiprocessing.Pipe() for _ in range(2)]
        self.pipes = [ours for ours, _ in pipes]
        self.theirs = [theirs for _, theirs in pipes]
        self.siblings = [
            Sibling(Place(number, [], [0, 0], pipe, Path(), None))
            for number, pipe in enumerate(self.theirs)
        ]
        self.services: list[Any] = [Reloading(), Reloading()]
        self.metrics: Any = Metrics()
        self.metrics.note = lambda _: None

    def pass_on(self, *order: int) -> None:
        for speaker in order:
            what, swap = self.pipes[speaker].recv()
            assert what == "swapped"
            for sibling, service in zip(self.siblings, self.services, strict=True):
                sibling._follow(swap, service, self.metrics)

    def close(self) -> None:
        for pipe in self.pipes + self.theirs:
            pipe.close()


@pytest.fixture
def hub():
    made = Hub()
    # A sibling's own number is its process's, and these are in one.
    made.siblings[1]._reloads = 1000
    yield made
    made.close()


def test_the_others_follow_a_reload_and_nobody_does_it_twice(hub) -> None:
    hub.siblings[0].reload(hub.services[0], "a")
    hub.pass_on(0)
    assert [one.served for one in hub.services] == [["a"], ["a"]]
    hub.siblings[1].reload(hub.services[1], None)
    hub.pass_on(1)
    assert [one.served for one in hub.services] == [["a", None], ["a", None]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_after_two_reloads_at_once_all_serve_the_same(hub, order) -> None:
    hub.siblings[0].reload(hub.services[0], "a")
    hub.siblings[1].reload(hub.services[1], "b")
    hub.pass_on(*order)
    assert {one.served[-1] for one in hub.services} == {"ab"[order[-1]]}


def test_what_cannot_be_followed_is_counted_and_the_old_bundle_goes_on(hub, caplog) -> None:
    hub.services[0].broken = set()
    hub.siblings[0].reload(hub.services[0], "broken")
    hub.pass_on(0)
    assert [one.served for one in hub.services] == [["broken"], []]
    assert b'twotower_reloads_total{outcome="refused"} 1.0' in hub.metrics.text()
    assert "the old bundle goes on" in caplog.text


def test_a_refused_reload_is_nobody_elses_business(hub) -> None:
    with pytest.raises(ArtefactError):
        hub.siblings[0].reload(hub.services[0], "broken")
    assert not hub.pipes[0].poll()
    with hub.siblings[0]._asked, pytest.raises(StateConflictError, match="under way"):
        hub.siblings[0].reload(hub.services[0], "a")


class Behind:
    """A service that others write to."""

    state_answers = True

    def __init__(self, error: Exception | None = None, is_local: bool = False) -> None:
        self.written = self.caught_up_with = self.looks = 0
        self.error = error
        self.store = SimpleNamespace(is_local=is_local)

    def catch_up(self) -> None:
        self.looks += 1
        written = self.written
        time.sleep(0.05)
        self.caught_up_with = written
        if self.error is not None:
            raise self.error


def ask(service: Behind, *paths: str, during: float = 0.0) -> list[int]:
    """What each request found taken over; another write comes ``during`` the first look."""
    found: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(service.caught_up_with)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        assert message["headers"] == [(b"x-process", b"3")]

    async def run() -> None:
        middleware = CatchingUp(app, SimpleNamespace(service=service), 3)  # type: ignore[arg-type]
        scopes = [{"type": "http", "path": path} for path in paths]
        tasks = [asyncio.create_task(middleware(one, None, send)) for one in scopes]  # type: ignore[arg-type]
        if during:
            await asyncio.sleep(during)
            service.written += 1
            await middleware({"type": "http", "path": "/v1/late"}, None, send)  # type: ignore[arg-type]
        await asyncio.gather(*tasks)

    asyncio.run(run())
    return found


def test_requests_that_wait_share_one_look() -> None:
    service = Behind()
    service.written = 1
    assert ask(service, *["/v1/search"] * 10) == [1] * 10
    assert service.looks == 1
    assert ask(service, "/v1/search") == [1]
    assert service.looks == 1


def test_a_file_is_looked_at_at_once() -> None:
    service = Behind(is_local=True)
    service.written = 1
    assert ask(service, *["/v1/search"] * 3) == [1, 1, 1]
    assert service.looks == 1
    service = Behind(StateUnavailableError("gone"), is_local=True)
    service.written = 1
    assert ask(service, "/v1/search", "/v1/search") == [1, 1]
    assert service.looks == 1


def test_a_look_that_began_before_a_write_does_not_count() -> None:
    service = Behind()
    service.written = 1
    assert sorted(ask(service, "/v1/search", during=0.02)) == [1, 2]
    assert service.looks == 2


def test_health_waits_for_nothing_and_no_database_is_no_reason_to_refuse() -> None:
    service = Behind(StateUnavailableError("gone"))
    service.written = 1
    assert ask(service, "/health") == [0]
    assert ask(service, "/v1/search", "/v1/search") == [1, 1]
    assert service.looks == 1


GIVES_UP = """
import os, pathlib, signal, sys, time
from twotower.service.api import processes
from twotower.service.settings import ServeSettings

def answer(settings, place):
    lives = pathlib.Path(settings.bundle, f"lives-{place.number}")
    if lives.exists():
        place.pipe.send(("failed", "there is no life left"))
        raise SystemExit(2)
    lives.touch()
    place.pipe.send(("ready", None))
    while len(list(lives.parent.glob("lives-*"))) < 2:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    processes._MOST_FAILED_STARTS = 2
    settings = ServeSettings(bundle=sys.argv[1], port=0, processes=2)
    try:
        processes.supervise(settings, answer)
    except processes.TwoTowerError as error:
        print("gave up:", error)
"""


def test_it_gives_up_where_no_process_can_be_started_any_more(tmp_path) -> None:
    script = tmp_path / "gives_up.py"
    script.write_text(GIVES_UP)
    (tmp_path / "bundle").mkdir()
    done = subprocess.run(
        [sys.executable, script, tmp_path / "bundle"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "gave up: there is no life left\n", done.stderr
    assert done.stderr.count("a process ended and is replaced") == 3
    assert done.stderr.count('"exit_code": -9, "pause_s": 0.0') == 2
    assert '"exit_code": 2, "pause_s": 0.5, "why": "there is no life left"' in done.stderr
