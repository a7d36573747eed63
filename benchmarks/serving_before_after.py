"""Two versions of the service under the same load, in alternating rounds of one run.

    git worktree add ../before COMMIT
    python benchmarks/serving_before_after.py --bundle runs/sample/bundle --before ../before/src

``before`` is served from the source folder of another checkout, with ``--before-bundle`` where it
cannot read the bundle. Both versions run all the time, and wrk loads one of them after the other.
Figures are medians of the rounds, ratios those of the pairs of a round: ``reads`` and
``reads-2-processes`` are histories to ten items over ``--connections`` connections.

Under overload, one process: ``probes`` are GETs of ``/health`` while wrk keeps
``--many`` connections busy. ``singles`` are requests over 8 connections, and
``singles-beside-batches`` the same while four clients send batches of ``--batch`` users in a row;
``ratio-to-alone`` is their 99th percentile to that of ``singles``.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from serving_process import Served
from serving_requests import real_histories

from twotower.bundle.storage import load_bundle
from twotower.evaluation.provenance import PACKAGES, collect_meta
from twotower.evaluation.results import Row, write_results

RESULTS: Final = Path(__file__).parent / "results" / "serving-before-after.json"
SCRIPT: Final = Path(__file__).with_name("serving_load.lua")
BATCHES: Final = 4
PROBE_S: Final = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--before", type=Path, required=True, help="src folder of a checkout")
    parser.add_argument("--before-bundle", type=Path)
    parser.add_argument("--seconds", type=int, default=4, help="of a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--many", type=int, default=256)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--history", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    started = datetime.now(UTC)
    contents = load_bundle(given.bundle).contents
    histories = real_histories(contents, given.history, 2000)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        bodies = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "bodies"
        lines = (json.dumps({"history": history, "k": 10}) for history in histories)
        bodies.write_text("\n".join(lines))
        versions = {
            "before": (given.before_bundle or given.bundle, given.before),
            "after": (given.bundle, None),
        }
        services = {
            (version, count): stack.enter_context(Served(bundle, processes=count, source=source))
            for count in (1, 2)
            for version, (bundle, source) in versions.items()
        }
        for served in services.values():
            loaded(served, bodies, 1, given.connections)
        for number in range(given.rounds):
            order = list(services) if number % 2 else list(reversed(services))
            for version, count in order:
                part = "reads" if count == 1 else f"reads-{count}-processes"
                told = loaded(services[version, count], bodies, given.seconds, given.connections)
                for metric, value in told.items():
                    found[f"{part}-{version}", metric].append(value)
            for version in versions:
                served = services[version, 1]
                with Probes(served) as probes:
                    loaded(served, bodies, given.seconds, given.many)
                for metric, value in probes.figures().items():
                    found[f"probes-{version}", metric].append(value)
                alone = loaded(served, bodies, given.seconds, given.connections)
                with Batches(served, histories[: given.batch]) as batches:
                    beside = loaded(served, bodies, given.seconds, given.connections)
                beside["ratio-to-alone"] = beside["p99-ms"] / alone["p99-ms"]
                beside["batch-users/s"] = batches.users / given.seconds
                beside["failed-batches"] = batches.failed
                for metric, value in beside.items():
                    found[f"singles-beside-batches-{version}", metric].append(value)
    for part in ("reads", "reads-2-processes"):
        for metric in ("requests/s", "p99-ms", "service-ms-per-request"):
            pair = (np.array(found[f"{part}-{version}", metric]) for version in versions)
            before, after = pair
            found[f"{part}-after", f"{metric}-ratio"] = (after / before).tolist()
    rows = [
        Row.of_repeats(
            values, dataset=contents.info.dataset, split="bundle", model=model,
            protocol="timing", metric=metric, users=len(histories),
        )
        for (model, metric), values in sorted(found.items())
    ]  # fmt: skip
    for row in rows:
        print(f"{row.model:32s} {row.metric:28s} {row.value:9.4g} [{row.low:.4g}, {row.high:.4g}]")
    packages = (*PACKAGES, "onnxruntime", "fastapi", "uvicorn", "uvloop")
    write_results(given.out, collect_meta(started, packages=packages), rows)


def loaded(served: Served, bodies: Path, seconds: int, connections: int) -> dict[str, float]:
    """What wrk measured."""
    command = [
        "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT),
        served.address,
    ]  # fmt: skip
    environment = {**os.environ, "BODIES": str(bodies), "KEY": served.key}
    cpu = served.cpu_seconds
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    cpu = served.cpu_seconds - cpu
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {
        "requests/s": told["requests"] / told["seconds"],
        "p99-ms": told["p99"],
        "errors": told["errors"],
        "service-ms-per-request": 1e3 * cpu / told["requests"],
    }


class _Meanwhile:
    """Threads that work while the block lasts."""

    threads = 1

    def __init__(self, served: Served) -> None:
        self._served = served
        self._done = threading.Event()
        self._running = [threading.Thread(target=self._run) for _ in range(self.threads)]

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._served.key}"}
        with httpx.Client(base_url=self._served.address, headers=headers, timeout=30) as client:
            while not self._done.is_set():
                self.ask(client)

    def ask(self, client: httpx.Client) -> None:
        """One request."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._running:
            thread.join()


class Probes(_Meanwhile):
    """Probes of the health, fifty a second."""

    def __init__(self, served: Served) -> None:
        super().__init__(served)
        self._seconds: list[float] = []

    def ask(self, client: httpx.Client) -> None:
        """One probe."""
        began = time.perf_counter()
        client.get("/health").raise_for_status()
        self._seconds.append(time.perf_counter() - began)
        time.sleep(PROBE_S)

    def figures(self) -> dict[str, float]:
        """Milliseconds."""
        return {
            f"{name}-ms": 1e3 * float(np.percentile(self._seconds, share))
            for name, share in (("median", 50), ("p99", 99), ("max", 100))
        }


class Batches(_Meanwhile):
    """Clients that send one batch after the other."""

    threads = BATCHES

    def __init__(self, served: Served, histories: list[list[str]]) -> None:
        super().__init__(served)
        self._body = {"requests": [{"history": history} for history in histories], "k": 10}
        self.users = self.failed = 0

    def ask(self, client: httpx.Client) -> None:
        """One batch."""
        if client.post("/v1/recommendations/batch", json=self._body).status_code == 200:
            self.users += len(self._body["requests"])
        else:
            self.failed += 1


if __name__ == "__main__":
    main()
