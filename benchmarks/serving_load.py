"""`twotower serve` under load over HTTP, generator and service on the same machine.

    python benchmarks/serving_load.py --bundle runs/video-games/bundle

wrk (Debian's package ``wrk``) sends real histories of 20 items to ``POST /v1/recommendations``
for ten items over ``--connections`` connections, each of which sends its next request when the
last one is answered. ``reads`` is that alone. In ``reads-and-writes`` the bundle is reloaded ten
times meanwhile, evenly, and 50 new items a second are added. Errors count every answer that is not
200, every connection that broke, and every write that failed. ``service-cores`` and
``generator-cores`` say how much of the machine each took: seconds of processor time a second;
``service-ms-per-request`` is the service's share of one request, writes included. Memory is what
is resident at the end; ``memory-pss-mb`` counts pages once that several processes share.

Both are of the first stage alone. ``reads-both-stages`` is ``reads`` with the second. With
``--beside NAME``, a bundle in the same folder, ``reads-shadow`` and ``reads-interleave`` are
``reads`` while the two bundles are compared in that way.

With ``--processes N`` the first two parts are measured again with so many processes, as
``reads-N-processes`` and ``reads-and-writes-N-processes``; what is of the service is then of all of
them together.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from serving_process import Served
from serving_requests import real_histories

from twotower.bundle.contents import BundleContents
from twotower.bundle.storage import load_bundle
from twotower.evaluation.provenance import PACKAGES, collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.service.client import Client

RESULTS: Final = Path(__file__).parent / "results" / "serving-load.json"
SCRIPT: Final = Path(__file__).with_suffix(".lua")
WRITERS: Final = 4
"""Connections that items are added over."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=180, help="of each of the two parts")
    parser.add_argument("--processes", type=int, default=1, help="2 or more: also with so many")
    parser.add_argument("--beside", help="name of a second bundle, to be compared meanwhile")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--requests", type=int, default=5000, help="different ones")
    parser.add_argument("--history", type=int, default=20, help="items of a history")
    parser.add_argument("--reloads", type=int, default=10)
    parser.add_argument("--items-per-second", type=float, default=50)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    started = datetime.now(UTC)
    contents = load_bundle(given.bundle).contents
    rows = []

    def add(part: str, figures: dict[str, float]) -> None:
        for metric, value in figures.items():
            rows.append(
                Row(
                    dataset=contents.info.dataset, split="bundle", model=part, protocol="timing",
                    metric=metric, value=value, users=given.requests,
                )
            )  # fmt: skip
            print(f"{part:30s} {metric:20s} {value:10.4g}")

    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder) / "bodies"
        with bodies.open("w") as file:
            for history in real_histories(contents, given.history, given.requests):
                file.write(json.dumps({"history": history, "k": 10}) + "\n")
        load = [
            "wrk", "-t1", f"-c{given.connections}", f"-d{given.seconds}s", "--timeout", "10s",
            "-s", str(SCRIPT),
        ]  # fmt: skip
        for processes in sorted({1, given.processes}):
            name = "" if processes == 1 else f"-{processes}-processes"
            with Served(given.bundle, processes=processes) as served:
                add(f"reads{name}", loaded(served, load, bodies))
                changes = Changes(served, contents, given.seconds)
                figures = loaded(
                    served,
                    load,
                    bodies,
                    partial(changes.reload, given.reloads),
                    partial(changes.add_items, given.items_per_second),
                )
                add(f"reads-and-writes{name}", figures | changes.figures())
        with Served(given.bundle, rerank=True) as served:
            add("reads-both-stages", loaded(served, load, bodies))
        for way in ("shadow", "interleave") if given.beside else ():
            with Served(given.bundle) as served, served.client() as client:
                getattr(client, way)(given.beside)
                add(f"reads-{way}", loaded(served, load, bodies))
    packages = (*PACKAGES, "onnxruntime", "fastapi", "uvicorn", "uvloop")
    write_results(given.out, collect_meta(started, packages=packages), rows)


def loaded(
    served: Served, load: list[str], bodies: Path, *meanwhile: Callable[[], None]
) -> dict[str, float]:
    """What wrk measured, with what else is to be done ``meanwhile``."""
    command = [*load, served.address]
    environment = {**os.environ, "BODIES": str(bodies), "KEY": served.key}
    warm = ["-d1s" if word.startswith("-d") else word for word in command]
    subprocess.run(warm, env=environment, check=True, stdout=subprocess.DEVNULL)
    cpu, children = served.cpu_seconds, resource.getrusage(resource.RUSAGE_CHILDREN)
    threads = [threading.Thread(target=work) for work in meanwhile]
    for thread in threads:
        thread.start()
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    for thread in threads:
        thread.join()
    cpu = served.cpu_seconds - cpu
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    generator = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    seconds = told["seconds"]
    return {
        "requests/s": told["requests"] / seconds,
        "median-ms": told["median"],
        "p99-ms": told["p99"],
        "max-ms": told["max"],
        "errors": told["errors"],
        "requests": told["requests"],
        "service-cores": cpu / seconds,
        "generator-cores": generator / seconds,
        "service-ms-per-request": 1e3 * cpu / told["requests"],
        "memory-mb": served.memory_mb(),
        "memory-pss-mb": served.memory_mb("Pss"),
        "peak-memory-mb": served.memory_mb("VmHWM"),
    }


class Changes:
    """Reloads and new items while others read; what failed is counted."""

    def __init__(self, served: Served, contents: BundleContents, seconds: int) -> None:
        self._served, self._seconds = served, seconds
        self._titles = contents.catalogue["title"].to_list()
        self._seconds_of = {"reload": [], "item": []}  # type: dict[str, list[float]]
        self._failed = 0

    def reload(self, times: int) -> None:
        """Reload the bundle so often, evenly over the time."""
        with self._served.client() as client:
            for number in range(times):
                self._at((number + 0.5) / times * self._seconds)
                self._do("reload", client.reload)

    def add_items(self, per_second: float) -> None:
        """Add items with titles of the catalogue at this rate."""
        clients = [self._served.client() for _ in range(WRITERS)]

        def add(number: int) -> None:
            self._at(number / per_second)
            client: Client = clients[number % WRITERS]
            title = self._titles[number % len(self._titles)] or "untitled"
            self._do("item", lambda: client.add_item(f"new-{number}", f"{title} (again)"))

        with ThreadPoolExecutor(WRITERS) as pool:
            for _ in pool.map(add, range(int(per_second * self._seconds))):
                pass
        for client in clients:
            client.close()

    def figures(self) -> dict[str, float]:
        """How many there were, how long they took, and how many failed."""
        found: dict[str, float] = {"failed-writes": self._failed}
        for name, seconds in self._seconds_of.items():
            if seconds:
                found[f"{name}s"] = len(seconds)
                found[f"{name}-median-ms"] = 1e3 * float(np.median(seconds))
                found[f"{name}-p99-ms"] = 1e3 * float(np.percentile(seconds, 99))
        return found

    _began: float | None = None

    def _at(self, seconds: float) -> None:
        if self._began is None:
            self._began = time.perf_counter()
        time.sleep(max(0.0, self._began + seconds - time.perf_counter()))

    def _do(self, what: str, work: Callable[[], object]) -> None:
        began = time.perf_counter()
        try:
            work()
        except Exception as error:
            self._failed += 1
            print(f"{what} failed: {error}", file=sys.stderr)
        else:
            self._seconds_of[what].append(time.perf_counter() - began)


if __name__ == "__main__":
    main()
