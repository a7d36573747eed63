"""The service as a process of its own: start, drain, and be killed at any moment."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import until
from twotower.bundle import save_bundle
from twotower.service.api.auth import Scope, new_key
from twotower.service.client import Client, ServiceError
from twotower.service.state import Cursor, StateStore

KILLS = int(os.environ.get("TWOTOWER_KILLS", "2"))
"""How often the service is killed under load; 20 with ``TWOTOWER_KILLS=20``."""
WRITERS = 3
PATIENCE_S = 180
"""What a process may take to start, or to be replaced, on a machine that is slow and busy."""


class Process:
    """One `twotower serve`."""

    def __init__(self, folder: Path, state: str | None = None, *options: object) -> None:
        self.key, line = new_key("test", Scope.ADMIN)
        (folder / "keys").write_text(line)
        arguments = ["serve", "--bundle", folder / "bundle", "--keys", folder / "keys", "--port", 0]
        if state is not None:
            arguments += ["--state", state]
        arguments += options
        self._clients: list[Client] = []
        self.log = folder / "log"
        self.began = time.monotonic()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from twotower.cli import main; main()",
                 *map(str, arguments)],
                stderr=log,
            )  # fmt: skip
        self.address = f"http://127.0.0.1:{self._port()}"

    def _port(self) -> int:
        while self.process.poll() is None and time.monotonic() < self.began + PATIENCE_S:
            listening = re.search(r'"listening".*"port": (\d+)', self.log.read_text())
            if listening:
                return int(listening.group(1))
            time.sleep(0.02)
        self.stop()
        raise AssertionError(self.log.read_text())

    def client(self) -> Client:
        client = Client(self.address, self.key, timeout=30)
        self._clients.append(client)
        return client

    def lines(self) -> list[dict[str, Any]]:
        """What it logged; not the line that it is writing."""
        written, end, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in (written + end).splitlines()]

    def client_of_each(self, count: int = 2) -> dict[int, Client]:
        """By pid: a client whose connection stays with that process."""
        found: dict[int, Client] = {}
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < count and time.monotonic() < deadline:
            client = self.client()
            pid = int(client._http.get("/health").headers["x-process"])
            if found.setdefault(pid, client) is not client:
                client.close()
        assert len(found) == count
        return found

    def pids(self) -> list[int]:
        """Of several processes: those that answered and have not been replaced, oldest first."""
        pids: list[int] = []
        for line in self.lines():
            if line["message"] == "a process answers":
                pids.append(line["process"])
            if line["message"] == "a process ended and is replaced":
                pids.remove(line["process"])
        return pids

    def wait_for_replacement(self, pid: int) -> bool:
        """Whether two processes answer, and none of them has that pid."""

        def is_replaced() -> bool:
            pids = self.pids()  # of one moment
            return len(pids) == 2 and pid not in pids

        return until(is_replaced)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> int:
        self.process.send_signal(how)
        code = self.process.wait(60)
        for client in self._clients:
            client.close()
        return code


@pytest.fixture
def folder(open_contents, weights, tmp_path) -> Iterator[Path]:
    save_bundle(tmp_path / "bundle", open_contents, weights)
    return tmp_path


@pytest.mark.parametrize("processes", [1, 2])
def test_it_starts_answers_and_drains_on_sigterm(folder, processes) -> None:
    service = Process(folder, None, "--processes", processes)
    try:
        with service.client() as client:
            assert client.ready()
            assert len(client.recommend("user-03")) == 10
            assert client.add_item("n1", "Game 61")

            # A request that is being answered when the signal comes is answered to its end.
            requests = [{"history": ["item-01", "item-02"] * 50} for _ in range(1000)]
            answers: list[int] = []
            asking = threading.Thread(
                target=lambda: answers.append(len(client.recommend_batch(requests, k=50)))
            )
            asking.start()
            time.sleep(0.15)
            assert service.stop(signal.SIGTERM) in (
                (0, -signal.SIGTERM) if processes == 1 else (0,)
            )
            asking.join()
            assert answers == [1000]
    finally:
        service.process.kill()
    lines = service.lines()
    assert "stopped" in [line["message"] for line in lines]
    assert all(service.key not in str(line) for line in lines)
    named = {line["process"] for line in lines if "process" in line}
    assert len(named) == (0 if processes == 1 else 2)
    again = Process(folder)
    try:
        with again.client() as client:
            assert client.item("n1")["title"] == "Game 61"
    finally:
        again.stop()


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("damage", ["bundle", "keys", "state"])
def test_it_does_not_start_with_what_it_cannot_use(folder, damage, processes) -> None:
    arguments = ["serve", "--bundle", folder / "bundle", "--port", 0, "--processes", processes]
    if damage == "bundle":
        (folder / "bundle" / "index.json").unlink()
    if damage == "keys":
        (folder / "keys").write_text("nonsense")
        arguments += ["--keys", folder / "keys"]
    if damage == "state":
        arguments += ["--state", "mysql://root:hunter2@host/x"]
    done = subprocess.run(
        [sys.executable, "-c", "from twotower.cli import main; main()", *map(str, arguments)],
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("twotower: ")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_reloading_and_adding_items_drops_no_request(
    folder, open_contents, weights, processes
) -> None:
    for number in range(2):
        other = {name: array + number + 1 for name, array in weights.items()}
        save_bundle(folder / f"next-{number}", open_contents, other)
    service = Process(folder, None, "--processes", processes)
    failures: list[BaseException] = []
    done = threading.Event()

    def ask(client: Client) -> None:
        while not done.is_set():
            try:
                assert len(client.recommend("user-03")) == 10
            except (httpx.TransportError, ServiceError, AssertionError) as error:
                failures.append(error)

    try:
        with service.client() as client:
            askers = [threading.Thread(target=ask, args=(client,)) for _ in range(3)]
            for thread in askers:
                thread.start()
            versions = set()
            for number in range(6):
                client.add_item(f"n{number}", f"Game {100 + number}")
                versions.add(client.reload(f"next-{number % 2}")["model_version"])
                assert client.item(f"n{number}")["source"] == "added"
            done.set()
            for thread in askers:
                thread.join()
            assert client.model()["items_added"] == 6
    finally:
        done.set()
        service.stop()
    assert failures == []
    assert len(versions) == 2


def write(service: Process, writer: str, events: list[str], items: list[str]) -> None:
    """Write until the service is gone; note what it acknowledged."""
    with service.client() as client:
        for number in range(1_000_000):
            name = f"{writer}-{number}"
            try:
                if client.record(f"user-{writer}", "item-01", event_id=name):
                    events.append(name)
                if number % 5 == 0 and client.add_item(name, f"Game {name}"):
                    items.append(name)
            except (httpx.TransportError, ServiceError):
                return


def test_killed_under_load_it_loses_and_doubles_nothing(folder, state_url) -> None:
    draw = random.Random(7)
    events: list[str] = []
    items: list[str] = []
    for kill in range(KILLS):
        service = Process(folder, state_url)
        writers = [
            threading.Thread(target=write, args=(service, f"{kill}-{writer}", events, items))
            for writer in range(WRITERS)
        ]
        for thread in writers:
            thread.start()
        busy, deadline = len(events) + 10, time.monotonic() + PATIENCE_S
        while len(events) <= busy and time.monotonic() < deadline:  # a busy machine is slow
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.9))
        service.stop()
        for thread in writers:
            thread.join()
    assert len(events) > 10 * KILLS

    store = StateStore(state_url)
    cursor, kept = Cursor(), []
    kept_items = [one.fields.item_id for one in store.changes(cursor).items]
    while changes := store.changes(cursor):
        kept += [one.event_id for one in changes.events]
        cursor = changes.cursor
    store.close()
    assert set(events) <= set(kept)
    assert len(kept) == len(set(kept))
    assert set(items) <= set(kept_items)
    assert len(kept_items) == len(set(kept_items))
    # At most the call that each writer was waiting for may have been kept without its answer.
    assert len(kept) - len(events) <= KILLS * WRITERS

    again = Process(folder, state_url)
    try:
        with again.client() as client:
            assert client.item(items[-1])["source"] == "added"
            with pytest.raises(ServiceError, match="409: event id"):
                client.record("somebody else", "item-01", event_id=events[0])
    finally:
        again.stop()


@pytest.fixture
def two(folder, monkeypatch) -> Iterator[Process]:
    """Two processes that look into the database for each other's writes when told, not in time."""
    monkeypatch.setenv("TWOTOWER_POLL_S", "3600")
    service = Process(folder, None, "--processes", 2)
    assert len(service.pids()) == 2
    yield service
    if service.process.poll() is None:
        service.stop(signal.SIGTERM)


def gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has asked how."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_one_process_acknowledged_the_others_answer_with(two) -> None:
    clients = dict(enumerate(two.client_of_each().values()))
    before = {number: one.recommend("bob", ["item-05"]) for number, one in clients.items()}
    assert before[0] == before[1]
    for number in range(20):
        one, other = clients[number % 2], clients[1 - number % 2]
        assert one.add_item(f"n{number}", f"Game {100 + number}")
        assert other.item(f"n{number}")["source"] == "added"
        best = other.recommend("bob", ["item-05"])[0]["item_id"]
        assert one.record("bob", best)
        assert best not in [item["item_id"] for item in other.recommend("bob", ["item-05"])]
        one.set_availability("item-07", number % 3 == 0)
        assert other.item("item-07")["available"] == (number % 3 == 0)
    clients[0].delete_item("n0")
    with pytest.raises(ServiceError, match="404"):
        clients[1].item("n0")

    # Whoever comes over a new connection, and all of them at once while others write.
    stale: list[str] = []

    def add(writer: int) -> None:
        for number in range(5):
            name = f"m{writer}-{number}"
            clients[writer].add_item(name, f"Game {name}")
            answers = [httpx.get(f"{two.address}/v1/items/{name}", headers=key) for _ in range(4)]
            stale.extend(name for answer in answers if answer.status_code != 200)

    key = {"Authorization": f"Bearer {two.key}"}
    writers = [threading.Thread(target=add, args=(number,)) for number in clients]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert stale == []

    # Counted by both, told by either.
    told = [counted(client) for client in clients.values()]
    assert told[0]["twotower_events_total", ("recorded", "new")] == 20
    assert told[0]["twotower_requests_total", ("route", "/v1/items"), ("status", "201")] == 30
    for name in ("twotower_events_total", ("recorded", "new")), ("twotower_items",):
        assert told[0][name] == told[1][name]
    assert told[0]["twotower_items",] == 60 + 19 + 10
    version = clients[0].model()["model_version"]
    assert told[1]["twotower_model", ("version", version)] == 2


def counted(client: Client) -> dict[Any, float]:
    families = text_string_to_metric_families(client._http.get("/metrics").text)
    return {
        (one.name, *sorted(one.labels.items())): one.value
        for family in families
        for one in family.samples
    }


def test_the_other_process_follows_a_reload(two, folder, open_contents, weights) -> None:
    other = {name: array + 1 for name, array in weights.items()}
    save_bundle(folder / "next", open_contents, other)
    by_pid = two.client_of_each()
    kept, killed = by_pid
    clients = list(by_pid.values())
    old = clients[0].model()["model_version"]
    new = clients[0].reload("next")["model_version"]
    assert new != old
    assert until(lambda: clients[1].model()["model_version"] == new)
    assert until(lambda: counted(clients[1])["twotower_model", ("version", new)] == 2)
    assert counted(clients[1])["twotower_model", ("version", old)] == 0

    # One that takes the place of another begins with what is served, not with what was configured.
    os.kill(killed, signal.SIGKILL)
    assert two.wait_for_replacement(killed)
    by_pid = two.client_of_each()
    with by_pid[next(pid for pid in by_pid if pid != kept)] as replaced:
        assert replaced.model()["model_version"] == new
        assert replaced.reload()["model_version"] == old
    assert until(lambda: clients[0].model()["model_version"] == old)

    # What is refused is not followed.
    with pytest.raises(ServiceError, match="422"):
        clients[0].reload("nothing")
    clients[0].reload("next")
    both = two.client_of_each().values()
    assert until(lambda: {one.model()["model_version"] for one in both} == {new})


def test_a_killed_process_is_replaced_and_nothing_acknowledged_is_lost(two) -> None:
    events: list[str] = []
    items: list[str] = []
    done = threading.Event()
    broken: list[BaseException] = []

    def write_on(writer: int) -> None:
        """Write, and begin anew where the process is gone."""
        number = 0
        while not done.is_set():
            with two.client() as client:
                try:
                    while not done.is_set():
                        number += 1
                        name = f"{writer}-{number}"
                        client.record(f"user-{writer}", "item-01", event_id=name)
                        events.append(name)
                        client.add_item(name, f"Game {name}")
                        items.append(name)
                except httpx.TransportError:
                    time.sleep(0.1)  # as a client should: the next process needs the processor
                except ServiceError as error:
                    broken.append(error)
                    return

    writers = [threading.Thread(target=write_on, args=(writer,)) for writer in range(4)]
    for thread in writers:
        thread.start()
    try:
        for _ in range(2):
            busy = len(events) + 20
            assert until(lambda busy=busy: len(events) > busy)
            pid = two.pids()[0]
            os.kill(pid, signal.SIGKILL)
            assert two.wait_for_replacement(pid)
            assert two.process.poll() is None
    finally:
        done.set()
        for thread in writers:
            thread.join()
    assert broken == []
    for client in two.client_of_each().values():
        for name in items:
            assert client.item(name)["source"] == "added"
    assert two.stop(signal.SIGTERM) == 0
    store = StateStore(f"sqlite:///{two.log.parent / 'state.sqlite3'}")
    kept = store.changes(Cursor(), 1_000_000).events
    store.close()
    assert set(events) <= {one.event_id for one in kept}


def test_processes_are_replaced_one_by_one_at_sighup(two) -> None:
    before = two.pids()
    with two.client() as client:
        assert client.record("user-1", "item-01", event_id="before", occurred_at=1_700_000_000_000)
    two.process.send_signal(signal.SIGHUP)

    def are_replaced() -> bool:
        try:
            with two.client() as client:  # a connection of its own
                assert client._http.get("/health").status_code == 200
        except httpx.TransportError:  # its process was just ending
            pass
        return len({*two.pids()} - {*before}) == 2

    assert until(are_replaced)
    assert two.process.poll() is None
    assert until(lambda: all(map(gone, before)))
    for pid, client in two.client_of_each().items():
        assert pid not in before
        again = client.record("user-1", "item-01", event_id="before", occurred_at=1_700_000_000_000)
        assert not again
    assert two.stop(signal.SIGTERM) == 0


def test_no_process_outlives_its_supervisor_and_none_joins_others(two, folder) -> None:
    port = two.address.rpartition(":")[2]
    command = ["serve", "--bundle", folder / "bundle", "--port", port, "--processes", 2]
    done = subprocess.run(
        [sys.executable, "-c", "from twotower.cli import main; main()", *map(str, command)],
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    pids = two.pids()
    two.stop(signal.SIGKILL)
    assert until(lambda: all(gone(pid) for pid in pids))
