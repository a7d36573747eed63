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

import httpx
import pytest

from twotower.serving import save_bundle
from twotower.serving.api.auth import Scope, new_key
from twotower.serving.client import Client, ServiceError
from twotower.serving.state import Cursor, StateStore

KILLS = int(os.environ.get("TWOTOWER_KILLS", "2"))
"""How often the service is killed under load; 20 with ``TWOTOWER_KILLS=20``."""
WRITERS = 3


class Process:
    """One `twotower serve`."""

    def __init__(self, folder: Path, state: str | None = None) -> None:
        self.key, line = new_key("test", Scope.ADMIN)
        (folder / "keys").write_text(line)
        arguments = ["serve", "--bundle", folder / "bundle", "--keys", folder / "keys", "--port", 0]
        if state is not None:
            arguments += ["--state", state]
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
        while self.process.poll() is None and time.monotonic() < self.began + 60:
            listening = re.search(r'"listening".*"port": (\d+)', self.log.read_text())
            if listening:
                return int(listening.group(1))
            time.sleep(0.02)
        self.stop()
        raise AssertionError(self.log.read_text())

    def client(self) -> Client:
        return Client(self.address, self.key, timeout=30)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)


@pytest.fixture
def folder(open_contents, weights, tmp_path) -> Iterator[Path]:
    save_bundle(tmp_path / "bundle", open_contents, weights)
    return tmp_path


def test_it_starts_answers_and_drains_on_sigterm(folder) -> None:
    service = Process(folder)
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
            assert service.stop(signal.SIGTERM) in (0, -signal.SIGTERM)
            asking.join()
            assert answers == [1000]
    finally:
        service.process.kill()
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert "stopped" in [line["message"] for line in lines]
    assert all(service.key not in str(line) for line in lines)
    again = Process(folder)
    try:
        with again.client() as client:
            assert client.item("n1")["title"] == "Game 61"
    finally:
        again.stop()


@pytest.mark.parametrize("damage", ["bundle", "keys", "state"])
def test_it_does_not_start_with_what_it_cannot_use(folder, damage) -> None:
    arguments = ["serve", "--bundle", folder / "bundle", "--port", 0]
    if damage == "bundle":
        (folder / "bundle" / "index.json").unlink()
    if damage == "keys":
        (folder / "keys").write_text("nonsense")
        arguments += ["--keys", folder / "keys"]
    if damage == "state":
        arguments += ["--state", "mysql://root:hunter2@host/x"]
    done = subprocess.run(
        [sys.executable, "-c", "from twotower.cli import main; main()", *map(str, arguments)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("twotower: ")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr


def test_reloading_and_adding_items_drops_no_request(folder, open_contents, weights) -> None:
    for number in range(2):
        other = {name: array + number + 1 for name, array in weights.items()}
        save_bundle(folder / f"next-{number}", open_contents, other)
    service = Process(folder)
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
        busy, deadline = len(events) + 10, time.monotonic() + 60
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
