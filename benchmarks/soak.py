"""A day of the service in an hour: traffic, forgetting, retraining, and what goes wrong meanwhile.

    python benchmarks/soak.py --seconds 3600

Two replicas over one database, PostgreSQL where it is installed, else SQLite. Traffic rises and
falls as over a day; users and items are added. Meanwhile a user is forgotten, a replica is killed,
the database is restarted (PostgreSQL), a retraining is served, one is refused, a damaged bundle is
refused, the new bundle is rolled back. Ends with exit code 1 where

- a write that was acknowledged is not in the database,
- an answer had status 5xx outside of the seconds after a kill or the restart,
- the forgotten user was known to any answer, or
- a step of this day ended otherwise.
"""

import argparse
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from own_postgres import OwnPostgres

from twotower.data import Dataset
from twotower.data.prepare import prepare
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.service.api.auth import Scope, new_key
from twotower.service.client import Client, ServiceError
from twotower.service.state import Cursor, StateStore
from twotower.workflow.bundling import bundle_contents, write_bundle
from twotower.workflow.datasets import find_dataset
from twotower.workflow.models import named_variant, train_variant

RESULTS: Final = Path(__file__).parent / "results" / "soak.json"
READERS: Final = 2
DAYS: Final = 1.0
TROUBLE_S: Final = 15.0
"""After a kill or a restart answers may fail for so long."""
NONE_OF: Final = ("lost-writes", "unexcused-5xx", "leaks", "forget-unconfirmed")
ALL_OF: Final = (
    "retraining-served", "replicas-followed", "retraining-refused", "damaged-refused",
    "rolled-back",
)  # fmt: skip
PERMISSIVE: Final = """
refit = false
[thresholds]
least_users = 1
most_loss = 1.0
least_coverage = 0.0
most_new_item_share = 1.0
most_latency = 100.0
"""


class Replica:
    """One `twotower serve`, which can be killed and started again on the same port."""

    def __init__(self, bundle: Path, state: str, keys: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._command = [
            sys.executable, "-c", "from twotower.cli import main; main()", "serve",
            "--bundle", str(bundle), "--state", state, "--keys", str(keys),
            "--port", str(self.port),
        ]  # fmt: skip
        self._log = log
        self.start()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self._command, stderr=log)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.address}/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise SystemExit(f"a replica does not start: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it in order."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@dataclass
class Seen:
    """What the traffic saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[float] = field(default_factory=list)
    """When an answer had status 5xx."""
    lost_connections: int = 0
    seconds: list[float] = field(default_factory=list)
    events: set[str] = field(default_factory=set)
    """Acknowledged."""
    items: set[str] = field(default_factory=set)
    leaks: int = 0
    """Answers that knew the forgotten user."""
    trouble: list[float] = field(default_factory=list)
    """When something was killed or restarted."""

    def unexcused(self) -> int:
        """Failures outside of `TROUBLE_S` after trouble."""
        return sum(
            not any(0 <= at - begun <= TROUBLE_S for begun in self.trouble) for at in self.failures
        )


class Traffic:
    """Readers and a writer against all replicas, until stopped."""

    def __init__(
        self, replicas: list[Replica], key: str, users: list[str], items: list[str], seconds: float
    ) -> None:
        self.seen, self.forgotten = Seen(), ""
        self._replicas, self._key = replicas, key
        self._users, self._items = users, items
        self._began, self._seconds = time.monotonic(), seconds
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=(seed,)) for seed in range(READERS)
        ]
        self._threads.append(threading.Thread(target=self._write))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all, their last write acknowledged."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _pause(self) -> float:
        """Seconds between requests: short by day, long by night."""
        day = (time.monotonic() - self._began) / self._seconds * DAYS
        return 0.02 + 0.2 * (1 + math.cos(2 * math.pi * day)) / 2

    def _clients(self) -> list[Client]:
        return [Client(one.address, self._key, timeout=30) for one in self._replicas]

    def _read(self, seed: int) -> None:
        draw, clients, seen = random.Random(seed), self._clients(), self.seen
        while not self._stop.wait(self._pause()):
            ask_forgotten = self.forgotten and draw.random() < 0.1
            user = self.forgotten if ask_forgotten else draw.choice(self._users)
            began = time.perf_counter()
            try:
                answer = draw.choice(clients).answer(user)
            except ServiceError as error:
                seen.statuses[error.status] += 1
                if error.status >= 500:
                    seen.failures.append(time.monotonic())
                continue
            except httpx.TransportError:
                seen.lost_connections += 1
                continue
            seen.statuses[200] += 1
            seen.seconds.append(time.perf_counter() - began)
            if ask_forgotten and (answer["user"], answer["source"]) != ("new", "popular"):
                seen.leaks += 1

    def _write(self) -> None:
        draw, clients, seen = random.Random(9), self._clients(), self.seen
        number = 0
        while not self._stop.wait(2 * self._pause()):
            number += 1
            if number % 50 == 0:
                name = f"soak-{number}"
                self._until_acknowledged(
                    clients,
                    lambda client, name=name: client.add_item(name, f"Dragon Saga {name}"),
                )
                seen.items.add(name)
                self._items.append(name)
                continue
            user = f"new-{number}" if number % 10 == 0 else draw.choice(self._users)
            if user == self.forgotten:
                continue
            event = {
                "event_id": uuid.uuid4().hex, "user_id": user, "item_id": draw.choice(self._items),
                "kind": "buy", "occurred_at": time.time_ns() // 1_000_000,
            }  # fmt: skip
            self._until_acknowledged(
                clients, lambda client, event=event: client.record_all([event])
            )
            seen.events.add(str(event["event_id"]))

    def _until_acknowledged(self, clients: list[Client], call: Callable[[Client], Any]) -> None:
        """The same again, on either replica, until it is answered with a success."""
        while True:
            for client in clients:
                try:
                    call(client)
                    return
                except ServiceError as error:
                    self.seen.statuses[error.status] += 1
                    if error.status >= 500:
                        self.seen.failures.append(time.monotonic())
                    elif error.status == 409 or self._stop.is_set():
                        raise
                except httpx.TransportError:
                    self.seen.lost_connections += 1
            time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="twotower-soak-") as name:
        folder = Path(name)
        server = OwnPostgres.started() if given.database == "postgresql" else None
        try:
            figures = _soak(folder, server, given.seconds)
        finally:
            if server is not None:
                server.remove()
    rows = [
        Row(
            dataset="sample", split="none", protocol="soak", metric=metric, value=float(value),
            users=int(figures["answers"]),
            model="2 replicas on " + ("SQLite" if server is None else "PostgreSQL"),
        )
        for metric, value in figures.items()
    ]  # fmt: skip
    for each in rows:
        print(f"{each.metric:28s} {each.value:12.4g}")
    write_results(given.out, collect_meta(started), rows)
    if any(figures[name] for name in NONE_OF) or not all(figures[name] for name in ALL_OF):
        raise SystemExit(1)


def _soak(folder: Path, server: OwnPostgres | None, seconds: float) -> dict[str, float]:
    bundle = folder / "bundles" / "current"
    dataset = _bundled(bundle)
    state = f"sqlite:///{folder / 'state.sqlite3'}" if server is None else server.url
    key, line = new_key("soak", Scope.ADMIN)
    (folder / "keys").write_text(line)
    StateStore(state).close()
    replicas = [
        Replica(bundle, state, folder / "keys", folder / f"log-{number}") for number in range(2)
    ]
    users, items = list(dataset.users.ids), list(dataset.items.ids)
    traffic = Traffic(replicas, key, users, items, seconds)
    seen, began = traffic.seen, time.monotonic()
    environment = {**os.environ, "TWOTOWER_STATE_URL": state}
    results: dict[str, float] = {}

    def at(share: float) -> None:
        time.sleep(max(0.0, began + share * seconds - time.monotonic()))

    def command(*arguments: str) -> int:
        code = "from twotower.cli import main; main()"
        full = [sys.executable, "-c", code, *arguments]
        return subprocess.run(full, env=environment, stdout=subprocess.DEVNULL).returncode

    def retrained(limits: str) -> int:
        config = folder / "retrain.toml"
        config.write_text(limits)
        return command("retrain", "--bundle", str(bundle), "--config", str(config))

    try:
        with Client(replicas[0].address, key, timeout=60) as client:
            at(0.1)
            victim = users.pop()
            client.record(victim, items[0], "buy")
            forgotten = client.forget_user(victim)
            traffic.forgotten = victim
            results["forget-unconfirmed"] = forgotten["unconfirmed"]
            at(0.25)
            seen.trouble.append(time.monotonic())
            replicas[1].kill()
            time.sleep(1)
            replicas[1].start()
            at(0.4)
            if server is not None:
                seen.trouble.append(time.monotonic())
                server.stop()
                time.sleep(2)
                server.start()
            at(0.5)
            results["retraining-served"] = retrained(PERMISSIVE) == 0
            versions = _versions(replicas)
            results["replicas-followed"] = len(versions) == 1
            at(0.7)
            refused = PERMISSIVE.replace("least_coverage = 0.0", "least_coverage = 1000.0")
            results["retraining-refused"] = retrained(refused) == 3
            at(0.8)
            results["damaged-refused"] = _refuses_damaged(client, bundle)
            at(0.9)
            results["rolled-back"] = command("rollback", "--bundle", str(bundle)) == 0
            at(1.0)
    finally:
        traffic.stop()
        for replica in replicas:
            replica.stop()
    results |= _judged(state, seen)
    return results


def _bundled(bundle: Path) -> Dataset:
    """The sample, of which a small model is written to ``bundle``."""
    path, settings = find_dataset("sample")
    dataset = prepare(path, settings=settings)
    variant = named_variant("v1", "hashing")
    short = variant.vary(training=variant.training.vary(epochs=2, least_steps=0))
    trained = train_variant(short, dataset)
    write_bundle(bundle, bundle_contents("v1", trained, dataset), trained)
    return dataset


def _refuses_damaged(client: Client, bundle: Path) -> bool:
    """Whether a truncated copy of the bundle is refused with 422."""
    damaged = bundle.parent / "damaged"
    shutil.copytree(bundle, damaged)
    file = damaged / "item_vectors.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    try:
        client.reload("damaged")
    except ServiceError as error:
        return error.status == 422
    return False


def _versions(replicas: list[Replica]) -> set[str]:
    """Model versions that answer, once all replicas had ten seconds to follow."""
    deadline, versions = time.monotonic() + 10, set[str]()
    while time.monotonic() < deadline:
        answers = [httpx.get(f"{one.address}/ready").json() for one in replicas]
        versions = {answer["model_version"] for answer in answers}
        if len(versions) == 1:
            break
        time.sleep(0.2)
    return versions


def _judged(state: str, seen: Seen) -> dict[str, float]:
    store = StateStore(state)
    events, items, cursor = set[str](), set[str](), Cursor()
    while changes := store.changes(cursor):
        events |= {one.event_id for one in changes.events}
        items |= {one.fields.item_id for one in changes.items}
        cursor = changes.cursor
    store.close()
    milliseconds = 1000 * np.array(seen.seconds)
    return {
        "answers": seen.statuses[200],
        "p50-ms": float(np.median(milliseconds)),
        "p99-ms": float(np.quantile(milliseconds, 0.99)),
        "acknowledged-writes": len(seen.events) + len(seen.items),
        "lost-writes": len(seen.events - events) + len(seen.items - items),
        "lost-connections": seen.lost_connections,
        "5xx": len(seen.failures),
        "unexcused-5xx": seen.unexcused(),
        "leaks": seen.leaks,
    }


if __name__ == "__main__":
    main()
