"""Several processes as one service, their parts one by one; test_process.py starts whole ones."""

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support import until
from twotower.bundle import save_bundle
from twotower.errors import ArtefactError, InputError
from twotower.service import service as service_module
from twotower.service.api import read_your_writes, workers
from twotower.service.api.limits import share_of_one
from twotower.service.api.read_your_writes import ReadYourWrites
from twotower.service.api.turns import Turns
from twotower.service.api.workers import Supervisor, reserve, run_workers
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.state import Changes, Event, ItemFields, StateUnavailableError


@pytest.fixture
def pair(open_folder, state_url) -> Iterator[list[Service]]:
    """Two services over one database, on each backend."""
    settings = ServeSettings(bundle=open_folder, state_url=state_url)
    services = [Service(settings), Service(settings)]
    yield services
    for service in services:
        service.close()


PATIENCE_S = 60
"""On a machine that is slow and busy."""


def version(service: Service) -> object:
    """What the middleware looks at."""
    store = service.store
    if store.file_watch is not None:
        return store.file_watch.version()
    assert store.server_watch is not None
    return asyncio.run(fresh_version(store.server_watch))


async def fresh_version(watch: Any) -> object:
    """On the connection of another event loop none can be read."""
    watch.close()
    return await watch.version()


def test_the_version_changes_with_every_write_of_others_and_with_nothing_else(pair) -> None:
    one, other = pair
    event = Event(event_id="e", user_id="b", item_id="item-01", kind="view", occurred_at=1)
    for write in (
        lambda: one.create_item(ItemFields(item_id="a", title="A")),
        lambda: one.set_availability("item-01", False),
        lambda: one.add_events([event]),
        lambda: one.store.set_bundle("bundle", None),
    ):
        before = version(other)
        other.store.changes(other.current.cursor)
        assert version(other) == before
        write()
        assert version(other) != before


def test_the_version_of_a_file_that_is_gone_or_another_one_is_not_told(open_folder) -> None:
    settings = ServeSettings(bundle=open_folder)
    service = Service(settings)
    try:
        watch = service.store.file_watch
        assert watch is not None
        watch.version()
        path = open_folder.parent / "state.sqlite3"
        path.rename(path.with_suffix(".away"))
        with pytest.raises(StateUnavailableError, match="file is gone"):
            watch.version()
        path.touch()
        with pytest.raises(StateUnavailableError, match="was replaced"):
            watch.version()
    finally:
        service.close()


def test_an_own_item_is_not_read_back_where_its_table_has_no_other(pair, monkeypatch) -> None:
    one, other = pair
    looks = []
    changes = one.store.changes

    def counted(*given: Any) -> Changes:
        looks.append(given)
        return changes(*given)

    monkeypatch.setattr(one.store, "changes", counted)
    one.create_item(ItemFields(item_id="a", title="A"))
    one.put_item(ItemFields(item_id="item-01", title="Renamed"))
    one.delete_item("a")
    assert not looks
    other.create_item(ItemFields(item_id="b", title="B"))  # reads the three before it
    one.create_item(ItemFields(item_id="c", title="C"))
    assert len(looks) == 1
    other.set_availability("item-02", False)
    one.create_item(ItemFields(item_id="d", title="D"))
    assert len(looks) == 1
    for service in (one, other):
        service.catch_up()
        items = service.pipeline.items
        assert [str(item_id) for item_id in items.ids.rows[-3:]] == ["b", "c", "d"]
        assert items.titles.rows[1] == "Renamed"
        assert "a" not in {near.item_id for near in service.pipeline.similar_items("d", k=999)}
        assert not items.eligible[2]
    assert one.current.cursor == other.current.cursor


def test_items_of_many_threads_are_all_taken_over(pair) -> None:
    def add(thread: int) -> None:
        service = pair[thread % 2]
        for number in range(10):
            service.create_item(ItemFields(item_id=f"{thread}-{number}", title="Game"))
            assert service.pipeline.items.find(f"{thread}-{number}") is not None

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(6)))
    rows = []
    for service in pair:
        service.catch_up()
        rows.append([str(item_id) for item_id in service.pipeline.items.ids.rows])
    assert rows[0] == rows[1]
    assert len(set(rows[0])) == len(rows[0]) == len(pair[0].pipeline.contents.items) + 60


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


def test_a_database_in_memory_cannot_be_shared(tmp_path) -> None:
    settings = ServeSettings(bundle=Path("b"), processes=2, state_url="sqlite://")
    with pytest.raises(InputError, match="cannot share a database in memory; set state_url"):
        run_workers(None, settings, tmp_path)  # type: ignore[arg-type]


def test_an_address_is_held_and_taken_by_workers_alone() -> None:
    reserved = reserve("localhost", 0)
    try:
        assert len({address.getsockname()[1] for address in reserved}) == 1
        host, port = reserved[0].getsockname()[:2]
        with pickle.loads(pickle.dumps(reserved[0])) as listening:  # as it comes to a worker
            assert listening.getsockname() == reserved[0].getsockname()
            listening.listen()
            with pytest.raises(InputError, match=f"cannot listen on {host} port {port} "):
                reserve(host, port)
    finally:
        for address in reserved:
            address.close()


@pytest.fixture
def next_folder(open_folder, open_contents, weights) -> Path:
    """Another bundle, beside the configured one."""
    folder = open_folder.parent / "next"
    save_bundle(folder, open_contents, {name: array + 1 for name, array in weights.items()})
    return folder


def served(service: Service) -> str:
    return service.manifest.model_version


def test_the_others_follow_a_reload_once_it_is_in_the_database(pair, next_folder) -> None:
    one, other = pair
    followed: list[bool] = []
    other.on_follow = followed.append
    old = served(one)
    new = one.reload("next").model_version
    assert new != old == served(other)
    other.catch_up()
    assert until(lambda: followed == [True])
    assert served(other) == new
    other.catch_up()
    one.catch_up()  # its own reload
    other.reload()
    one.catch_up()
    assert until(lambda: served(one) == old)
    time.sleep(0.1)
    assert followed == [True]


def test_after_two_reloads_at_once_all_serve_the_same(pair, next_folder) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda service, name: service.reload(name), pair, ["next", None]))
    for service in pair:
        service.catch_up()
    newest = pair[0].store.bundle("bundle")
    assert newest is not None
    assert newest.revision == 2
    assert until(lambda: served(pair[0]) == served(pair[1]))
    assert pair[0].current.pipeline.contents.info == pair[1].current.pipeline.contents.info


def test_what_cannot_be_followed_is_told_once_and_the_old_bundle_goes_on(pair, caplog) -> None:
    one, other = pair
    followed: list[bool] = []
    other.on_follow = followed.append
    one.store.set_bundle("bundle", "not-there")
    for _ in range(3):
        other.catch_up()
        assert until(lambda: followed == [False])
    assert "the old bundle goes on" in caplog.text
    assert served(other) == served(one)


def test_a_refused_reload_is_followed_by_none(pair, next_folder) -> None:
    (next_folder / "index.json").unlink()
    with pytest.raises(ArtefactError):
        pair[0].reload("next")
    assert pair[0].store.bundle("bundle") is None


def test_a_reload_that_the_database_does_not_take_is_none(pair, next_folder, monkeypatch) -> None:
    def gone(*_: object) -> None:
        raise StateUnavailableError("gone")

    old = served(pair[0])
    monkeypatch.setattr(pair[0].store, "set_bundle", gone)
    with pytest.raises(StateUnavailableError):
        pair[0].reload("next")
    assert served(pair[0]) == old


def test_one_that_starts_later_begins_with_what_the_last_reload_named(
    pair, next_folder, caplog
) -> None:
    old = served(pair[0])
    new = pair[0].reload("next").model_version
    settings = pair[0].settings
    for name, expected in (("next", new), ("gone", old)):
        pair[0].store.set_bundle("bundle", name)
        late = Service(settings)
        assert served(late) == expected
        late.close()
    assert "the configured bundle is served, not gone of the last reload" in caplog.text
    moved = Service(settings.model_copy(update={"bundle": next_folder}))
    assert served(moved) == new  # configured with another folder, it follows those alone
    moved.close()


class Behind:
    """A service that others write to."""

    def __init__(self, error: Exception | None = None, is_local: bool = False) -> None:
        self.written = self.taken_over = self.syncs = 0
        self.state_answers = True
        self.error = error
        self.reads = 0
        self.syncing = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.store = SimpleNamespace(
            is_local=is_local,
            file_watch=SimpleNamespace(version=self.version) if is_local else None,
            server_watch=SimpleNamespace(version=self.late_version),
        )

    def waiting(self) -> Any:
        return contextlib.nullcontext()

    def version(self) -> int:
        self.reads += 1
        return self.written

    async def late_version(self) -> int:
        version = self.version()
        await asyncio.sleep(0.02)
        return version

    def catch_up(self) -> None:
        self.syncs += 1
        written = self.written
        self.syncing.set()
        self.may_go_on.wait()
        if self.error is not None:
            self.state_answers = False
            raise self.error
        self.taken_over = written


def ask(service: Behind, *paths: str, late: bool = False, came: float | None = None) -> list[int]:
    """What each request found taken over; one comes ``late``, after a write during the sync."""
    state = {} if came is None else {"came": came}
    found: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(service.taken_over)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        assert message["headers"] == [(b"x-process", str(os.getpid()).encode())]

    async def run() -> None:
        tasks = [asyncio.create_task(middleware(one, None, send)) for one in scopes]
        if late:
            service.may_go_on.clear()
            await asyncio.to_thread(service.syncing.wait)
            service.written += 1
            tasks.append(
                asyncio.create_task(middleware({"type": "http", "path": "/v1/late"}, None, send))
            )
            await asyncio.sleep(0)  # it waits for the sync that is under way
            service.may_go_on.set()
        await asyncio.gather(*tasks)

    middleware: Any = ReadYourWrites(
        app,
        SimpleNamespace(service=service, turns=Turns(99, PATIENCE_S)),  # type: ignore[arg-type]
    )
    scopes = [{"type": "http", "path": path, "state": state} for path in paths]
    with pytest.MonkeyPatch.context() as patch:  # however slow the machine is
        patch.setattr(read_your_writes, "SYNC_S", PATIENCE_S)
        asyncio.run(run())
    return found


def test_requests_that_wait_share_one_sync() -> None:
    service = Behind()
    service.written = 1
    assert ask(service, *["/v1/search"] * 10) == [1] * 10
    assert service.syncs == service.reads == 1


def test_a_file_is_read_at_once_and_only_after_a_write() -> None:
    service = Behind(is_local=True)
    service.written = 1
    assert ask(service, *["/v1/search"] * 3) == [1, 1, 1]
    assert service.syncs == 1
    assert service.reads == 3


def test_requests_that_came_before_a_look_at_the_file_need_none_of_their_own() -> None:
    service = Behind(is_local=True)
    service.written = 1
    assert ask(service, *["/v1/search"] * 3, came=time.monotonic()) == [1, 1, 1]
    assert service.reads == 1


@pytest.mark.parametrize("is_local", [True, False])
def test_without_the_database_answers_come_from_memory(is_local) -> None:
    service = Behind(StateUnavailableError("gone"), is_local)
    service.written = 1
    assert ask(service, *["/v1/search"] * 5) == [0] * 5
    assert service.syncs == 1


def test_a_sync_that_began_before_a_write_does_not_count() -> None:
    service = Behind()
    service.written = 1
    assert sorted(ask(service, "/v1/search", late=True)) == [1, 2]
    assert service.syncs == 2


def test_health_waits_for_nothing() -> None:
    service = Behind()
    service.written = 1
    assert ask(service, "/health") == [0]
    assert service.reads == 0


def test_a_worker_that_answers_late_each_time_is_ready_still() -> None:
    supervisor = SimpleNamespace(_ready={}, _answered={}, _failed_starts=1)

    def is_ready(timeout: float) -> bool:  # as uvicorn's, where no answer comes in time
        pings.append(timeout)
        return False

    pings: list[float] = []
    ours, theirs = multiprocessing.Pipe()
    worker = SimpleNamespace(pid=7, parent_conn=ours, is_ready=is_ready)
    for answer in (None, False, True):
        if answer is not None:
            theirs.send(answer)
        Supervisor._ping(supervisor, worker)  # type: ignore[arg-type]
        assert (7 in supervisor._ready) == (answer is True)
    assert len(pings) == 2
    assert supervisor._failed_starts == 0


GIVES_UP = """
import os, pathlib, signal, sys, threading, time
from functools import partial
from twotower.errors import TwoTowerError
from twotower.service.api import server, workers
from twotower.service.settings import ServeSettings

def app(folder):
    lives = list(folder.glob("life-*"))
    if len(lives) >= 2:
        workers.report_failure(folder, TwoTowerError("there is no life left"))
        raise SystemExit(2)
    (folder / f"life-{os.getpid()}").touch()
    threading.Thread(target=die, args=(folder,), daemon=True).start()
    return answer

def die(folder):
    while not (folder / "die").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

async def answer(scope, receive, send):
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})

class Supervisor(workers.Supervisor):
    def keep_subprocess_alive(self):
        super().keep_subprocess_alive()
        if self._listening:
            (self._folder / "die").touch()

if __name__ == "__main__":
    workers.Supervisor = Supervisor
    workers._MOST_FAILED_STARTS = 2
    folder = pathlib.Path(sys.argv[1])
    settings = ServeSettings(bundle=folder / "bundle", port=0, processes=2)
    try:
        config = server.server_config(partial(app, folder), settings)
        workers.run_workers(config, settings, folder)
    except TwoTowerError as error:
        print("gave up:", error)
"""


def test_it_gives_up_where_no_process_can_be_started_any_more(tmp_path) -> None:
    script = tmp_path / "gives_up.py"
    script.write_text(GIVES_UP)
    (tmp_path / "bundle").mkdir()
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.stdout == "gave up: there is no life left\n", done.stderr
    assert done.stderr.count("a process ended and is replaced") == 3, done.stderr
    assert done.stderr.count('"exit_code": -9, "pause_s": 0.0') == 2
    assert '"exit_code": 2, "pause_s": 0.5, "why": "there is no life left"' in done.stderr


def test_a_process_that_hangs_is_killed() -> None:
    killed: list[bool] = []
    worker = SimpleNamespace(
        pid=7,
        parent_conn=SimpleNamespace(poll=lambda: False),
        ping=lambda timeout: False,
        process=SimpleNamespace(kill=lambda: killed.append(True)),
    )
    supervisor = Supervisor.__new__(Supervisor)
    now = time.monotonic()
    supervisor._ready, supervisor._answered = {7: now}, {7: now - workers._HUNG_S + 30}
    supervisor._ping(worker)
    assert killed == []
    supervisor._answered[7] = now - workers._HUNG_S - 1
    supervisor._ping(worker)
    assert killed == [True]
