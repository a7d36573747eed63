"""A service whose PostgreSQL is frozen, or whose connections the network has forgotten.

Each attack is bounded in count and time, and goes to 127.0.0.1 alone. ``--log-cli-level=INFO``
shows what was measured; ``TWOTOWER_USUAL_WAITS=1`` leaves the service's time-outs as they are.
"""

import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from support import until
from twotower.service.api.auth import Scope, new_key

logger = logging.getLogger(__name__)

WAITS = (
    {}
    if os.environ.get("TWOTOWER_USUAL_WAITS")
    else {"TWOTOWER_TIMEOUT_S": "8", "TWOTOWER_STATE_TIMEOUT_S": "1.5", "TWOTOWER_DRAIN_S": "5"}
)
TIMEOUT_S = float(WAITS.get("TWOTOWER_TIMEOUT_S", 10))
PATIENCE_S = 180
"""What the service may take to start, or to see that the database is back, on a busy machine."""
DRAIN_S = float(WAITS.get("TWOTOWER_DRAIN_S", 10))
READ = "/v1/users/user-03/recommendations"


class Running:
    """One `twotower serve` over a database, and what calls it."""

    def __init__(self, folder: Path, state: str, processes: int) -> None:
        key, line = new_key("test", Scope.ADMIN)
        (folder / "keys").write_text(line)
        self._headers = {"Authorization": f"Bearer {key}"}
        arguments = [
            "serve", "--bundle", folder / "bundle", "--keys", folder / "keys", "--port", 0,
            "--state", state, "--processes", processes,
        ]  # fmt: skip
        log = folder / "log"
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from twotower.cli import main; main()",
                 *map(str, arguments)],
                stderr=out, env={**os.environ, **WAITS},
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(r'"listening".*"port": (\d+)', log.read_text())):
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        self.address = f"http://127.0.0.1:{found.group(1)}"
        self._clients: list[httpx.Client] = []

    def client(self, beside: httpx.Client | None = None, same: bool = False) -> httpx.Client:
        """One with a connection of its own: to another process than that, or to the same."""
        while True:
            client = httpx.Client(base_url=self.address, headers=self._headers, timeout=60)
            self._clients.append(client)
            if beside is None or same == (process(client) == process(beside)):
                return client

    def end(self) -> float:
        """Seconds that it takes to end after SIGTERM, 30 at most."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        return time.monotonic() - began

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for client in self._clients:
            client.close()


def process(client: httpx.Client) -> str:
    return client.get("/health").headers["x-process"]


@pytest.fixture
def run(open_folder) -> Iterator[Callable[..., Running]]:
    """Starts services."""
    started: list[Running] = []

    def start(state: str, processes: int = 1) -> Running:
        started.append(Running(open_folder.parent, state, processes))
        return started[-1]

    yield start
    for service in started:
        service.close()


def event(name: str) -> dict[str, Any]:
    return {"events": [{"event_id": name, "user_id": "bob", "item_id": "item-01", "kind": "view",
                        "occurred_at": 1_700_000_000_000}]}  # fmt: skip


def timed(call: Callable[[], httpx.Response]) -> tuple[int, float]:
    began = time.monotonic()
    status = call().status_code
    return status, time.monotonic() - began


@contextlib.contextmanager
def frozen(postgres: Any) -> Iterator[None]:
    """No process of the server runs; its connections stay."""
    postmaster = int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0])

    def server() -> list[int]:
        found = [postmaster]
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                pid, _, rest = status.read_text().partition(" ")
                if int(rest.rpartition(")")[2].split()[1]) == postmaster:
                    found.append(int(pid))
        return found

    stopped = server()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


class Network:
    """Connections to a server that can be forgotten: nothing passes any more, nothing is closed."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._links: list[tuple[socket.socket, socket.socket, threading.Event]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listening.accept()
            except OSError:
                return
            theirs = socket.create_connection(("127.0.0.1", self._to))
            forgotten = threading.Event()
            self._links.append((ours, theirs, forgotten))
            for one, other in ((ours, theirs), (theirs, ours)):
                threading.Thread(
                    target=self._pass_on, args=(one, other, forgotten), daemon=True
                ).start()

    @staticmethod
    def _pass_on(one: socket.socket, other: socket.socket, forgotten: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if not forgotten.is_set():
                    other.sendall(data)
            if not forgotten.is_set():
                other.shutdown(socket.SHUT_WR)

    def forget(self) -> None:
        """Drop what comes over the connections of now; new ones are passed on."""
        for _, _, forgotten in self._links:
            forgotten.set()

    def close(self) -> None:
        self._listening.close()
        for ours, theirs, _ in self._links:
            ours.close()
            theirs.close()


@pytest.fixture
def network(postgres) -> Iterator[Network]:
    made = Network(postgres.port)
    yield made
    made.close()


def test_reads_of_two_processes_go_on_while_the_database_is_frozen(run, postgres) -> None:
    service = run(postgres.new_database(), processes=2)
    writer = service.client()
    watcher = service.client(beside=writer)
    readers = [service.client(beside=watcher, same=True) for _ in range(4)]
    assert writer.post("/v1/events", json=event("before")).status_code == 200
    assert until(lambda: watcher.get("/ready").json()["state"] == "up")

    # The other process sees that something was written, and cannot read it.
    assert writer.post("/v1/events", json=event("last")).status_code == 200
    with ThreadPoolExecutor(4) as pool, frozen(postgres):
        reads = pool.map(
            lambda client: [timed(lambda: client.get(READ)) for _ in range(3)], readers
        )
        found = [one for several in reads for one in several]
        states = {watcher.get("/ready").json()["state"]}
        stale = until(lambda: watcher.get("/ready").json()["state"] != "up", 5)
        states.add(watcher.get("/ready").json()["state"])
        metrics = watcher.get("/metrics").text
    good = [seconds for status, seconds in found if status == 200]
    slowest = max(seconds for _, seconds in found)
    logger.info("frozen, two processes: %d of %d reads answered, slowest %.2f s, /ready %s",
                len(good), len(found), slowest, sorted(states))  # fmt: skip
    assert len(good) == 12
    assert slowest < 1
    assert stale
    assert "twotower_state_up 0.0" in metrics
    assert until(lambda: watcher.get("/ready").json()["state"] == "up")
    assert writer.post("/v1/events", json=event("after")).status_code == 200


def test_reads_beside_writes_go_on_and_it_ends_while_the_database_is_frozen(run, postgres) -> None:
    service = run(postgres.new_database())
    writers = [service.client() for _ in range(8)]
    reader = service.client()
    assert writers[0].post("/v1/events", json=event("before")).status_code == 200
    with ThreadPoolExecutor(8) as pool, frozen(postgres):
        writes = [
            pool.submit(timed, lambda one=one, n=n: one.post("/v1/events", json=event(f"w{n}")))
            for n, one in enumerate(writers)
        ]
        time.sleep(0.2)
        reads = [timed(lambda: reader.get("/v1/search?q=Game")) for _ in range(5)]
        reads += [
            timed(lambda: reader.post("/v1/recommendations", json={"text": "Game 7"}))
            for _ in range(5)
        ]
        written = [one.result() for one in writes]
        logger.info("frozen, one process: reads %s, slowest %.2f s; writes %s, slowest %.2f s",
                    {status for status, _ in reads}, max(seconds for _, seconds in reads),
                    sorted(status for status, _ in written),
                    max(seconds for _, seconds in written))  # fmt: skip
        assert {status for status, _ in reads} == {200}
        assert max(seconds for _, seconds in reads) < 1
        assert {status for status, _ in written} == {503}
        assert max(seconds for _, seconds in written) < TIMEOUT_S

        def hang() -> None:
            with contextlib.suppress(httpx.TransportError):
                writers[0].post("/v1/events", json=event("last"))

        hanging = pool.submit(hang)
        time.sleep(0.2)
        seconds = service.end()
        logger.info("frozen: ended %.1f s after SIGTERM, of drain_s %g", seconds, DRAIN_S)
        hanging.result()
    assert seconds < DRAIN_S + 3


def test_connections_that_the_network_forgot_are_replaced(run, postgres, network) -> None:
    url = postgres.new_database()
    service = run(url.replace(str(postgres.port), str(network.port)))
    client = service.client()
    with ThreadPoolExecutor(4) as pool:  # so that there are several in the pool
        firsts = [service.client() for _ in range(4)]
        answers = pool.map(
            lambda n: firsts[n].post("/v1/events", json=event(f"first-{n}")), range(4)
        )
        assert {answer.status_code for answer in answers} == {200}
    network.forget()
    written = [timed(lambda n=n: client.post("/v1/events", json=event(f"w{n}"))) for n in range(6)]
    state = client.get("/ready").json()["state"]  # a look may be waiting on a forgotten one too
    recovered = until(lambda: client.get("/ready").json()["state"] == "up")
    with psycopg.connect(url) as connection:
        kept = {name for (name,) in connection.execute("SELECT event_id FROM events").fetchall()}
    refused = [n for n, (status, _) in enumerate(written) if status != 200]
    logger.info("forgotten: writes %s, slowest %.2f s, %d refused and kept all the same, /ready %s",
                [status for status, _ in written], max(seconds for _, seconds in written),
                sum(f"w{n}" in kept for n in refused), state)  # fmt: skip
    network.forget()
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(client.post, "/v1/events", json=event("last"))
        time.sleep(0.1)
        seconds = service.end()
        logger.info("forgotten: ended %.1f s after SIGTERM, of drain_s %g", seconds, DRAIN_S)
        with contextlib.suppress(httpx.TransportError):
            hanging.result()
    assert refused == []
    assert max(seconds for _, seconds in written) < 3
    assert recovered
    assert seconds < DRAIN_S + 3
