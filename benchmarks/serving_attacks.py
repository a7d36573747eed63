"""Load that is meant to harm: what one caller can do to the others, bounded in time and number.

Three attacks, each on a `twotower serve` of its own on this machine, while a probe asks for
recommendations on a new connection ten times a second:

- ``batches``: four connections send batches of 1,000 histories of 100 items, k 1,000, again and
  again, for 30 seconds; then the largest batch that is allowed, once on one connection and once on
  four at the same time;
- ``header``: one connection sends a header without an end, at most 50 MB or 20 seconds;
- ``idle``: 1,100 connections are opened and send nothing, for 5 seconds.

    python benchmarks/serving_attacks.py --bundle runs/sample/bundle [--out results.json]

It prints, and writes, what the attacker got, what the probe saw, and the service's threads and
memory. Loopback only.
"""

import argparse
import collections
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import polars as pl

BATCH, HISTORY, K = 1000, 100, 1000
ATTACK_S, HEADER_S, HEADER_BYTES, IDLE, IDLE_S = 30, 20, 50_000_000, 1100, 5


class Server:
    """One `twotower serve` that reads without keys, with 1,024 files, as most shells allow."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from twotower.cli import main; main()", "serve",
                 "--bundle", str(bundle), "--port", "0", "--state", f"sqlite:///{folder}/state"],
                stderr=log, env={**os.environ, "TWOTOWER_LOG_REQUESTS": "false"},
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096)),
            )  # fmt: skip
        self.port = 0
        while not self.port and self.process.poll() is None:
            time.sleep(0.05)
            for line in self.log.read_text().splitlines():
                if '"listening"' in line:
                    self.port = json.loads(line)["port"]
        self.address = f"http://127.0.0.1:{self.port}"

    def usage(self) -> tuple[int, float]:
        """Threads, and resident memory in MB."""
        fields = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        )
        return int(fields["Threads"]), int(fields["VmRSS"].split()[0]) / 1024

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Probe(threading.Thread):
    """Asks for recommendations on new connections; counts answers, notes the slowest."""

    def __init__(self, server: Server, user: str) -> None:
        super().__init__(daemon=True)
        self.server, self.path = server, f"/v1/users/{user}/recommendations"
        self.answers: collections.Counter[str] = collections.Counter()
        self.slowest = self.threads = self.memory = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        """Ask until the end."""
        while not self.ended.wait(0.1):
            began = time.monotonic()
            try:
                answer = httpx.get(self.server.address + self.path, timeout=5)
                self.answers[str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                self.answers[type(error).__name__] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            threads, memory = self.server.usage()
            self.threads, self.memory = max(self.threads, threads), max(self.memory, memory)

    def result(self) -> dict[str, object]:
        """End it; what it saw, and the most threads and memory of the service."""
        self.ended.set()
        self.join()
        return {
            "probe": dict(self.answers), "probe_slowest_s": round(self.slowest, 3),
            "threads": int(self.threads), "memory_mb": round(self.memory),
        }  # fmt: skip


def batches(server: Server, items: list[str]) -> dict[str, object]:
    """Four connections with the largest batches, then those that are allowed."""
    answers: collections.Counter[str] = collections.Counter()
    histories = [
        {"history": [items[(user + at) % len(items)] for at in range(HISTORY)]}
        for user in range(BATCH)
    ]

    def send(count: int, k: int) -> tuple[str, float]:
        began = time.monotonic()
        try:
            body = {"requests": histories[:count], "k": k}
            path = f"{server.address}/v1/recommendations/batch"
            status = str(httpx.post(path, json=body, timeout=60).status_code)
        except httpx.HTTPError as error:
            status = type(error).__name__
        return status, time.monotonic() - began

    def attack(until: float) -> None:
        while time.monotonic() < until:
            answers[send(BATCH, K)[0]] += 1

    in_threads(4, lambda: attack(time.monotonic() + ATTACK_S))
    # With the default `max_work`; a service without it gets the same.
    largest = 10_000_000 // (K * (HISTORY + 50))
    alone = send(largest, K)
    together: list[tuple[str, float]] = []
    in_threads(4, lambda: together.append(send(largest, K)))
    return {
        "answers": dict(answers), "largest_allowed": f"{largest} x k {K} x {HISTORY}",
        "largest_alone": [alone[0], round(alone[1], 2)],
        "largest_by_four": [[status, round(seconds, 2)] for status, seconds in together],
    }  # fmt: skip


def in_threads(count: int, work: Callable[[], object]) -> None:
    """Do something in several threads at once."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def header(server: Server, _: list[str]) -> dict[str, object]:
    """One header without an end."""
    sent, answer = 0, b""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(5)
        try:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: here\r\nX-Long: ")
            while sent < HEADER_BYTES and time.monotonic() < began + HEADER_S:
                connection.sendall(b"a" * 65_536)
                sent += 65_536
        except OSError as error:
            answer = type(error).__name__.encode()
        with contextlib.suppress(OSError):
            answer = connection.recv(20) or answer
    time.sleep(2)  # what the probe sees afterwards
    return {"sent_mb": round(sent / 1e6, 2), "answer": answer.decode(errors="replace")}


def idle(server: Server, _: list[str]) -> dict[str, object]:
    """Connections that send nothing."""
    opened = []
    for _ in range(IDLE):
        with contextlib.suppress(OSError):
            opened.append(socket.create_connection(("127.0.0.1", server.port), timeout=1))
    time.sleep(IDLE_S)
    for connection in opened:
        connection.close()
    return {"opened": len(opened)}


def main() -> None:
    """Run the attacks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--attack", choices=["batches", "header", "idle"], action="append")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    items = pl.read_parquet(given.bundle / "catalogue.parquet")["item_id"].to_list()
    results = {}
    for attack in (batches, header, idle):
        if given.attack and attack.__name__ not in given.attack:
            continue
        with tempfile.TemporaryDirectory() as folder:
            server = Server(given.bundle, Path(folder))
            probe = Probe(server, "U0047")
            probe.start()
            try:
                results[attack.__name__] = {**attack(server, items), **probe.result()}
                lines = [json.loads(line) for line in server.log.read_text().splitlines()]
                warned = collections.Counter(
                    line["message"] for line in lines if line["level"] != "info"
                )
                results[attack.__name__]["log"] = dict(warned.most_common(4))
            finally:
                server.stop()
        print(json.dumps({attack.__name__: results[attack.__name__]}), flush=True)
    if given.out is not None:
        given.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
