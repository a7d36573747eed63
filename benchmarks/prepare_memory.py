"""Peak memory and time of `prepare` on a large log of raw reviews.

    python benchmarks/prepare_memory.py

writes synthetic files in the schema of Amazon Reviews 2023 to a temporary folder (about
3.5 GB for the default 5 million reviews, line sizes as in the published files), prepares them
in a process of its own, with the 5-core and without, and writes
``benchmarks/results/prepare-memory.json``.

    git worktree add --detach ../before COMMIT
    python benchmarks/prepare_memory.py --before ../before/src --reviews 1000000 --users 300000

compares the speed with that of another version: the two read the same files in turns, and the
medians of processor and wall time go to ``benchmarks/results/prepare-speed.json``.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from twotower.data.prepare import prepare
from twotower.data.settings import PrepareSettings
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results

RESULTS = Path(__file__).parent / "results" / "prepare-memory.json"
SPEED = RESULTS.with_name("prepare-speed.json")
SOURCE = Path(__file__).parents[1] / "src"
LIMIT_MB = 2048
BATCH = 100_000
SEED = 0
ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", dtype=np.uint8)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--reviews", type=int, default=5_000_000)
    options.add_argument("--users", type=int, default=5_000_000, help="of whom half are drawn")
    options.add_argument("--products", type=int, default=137_000)
    options.add_argument("--before", type=Path, help="source folder of a version to compare with")
    options.add_argument("--rounds", type=int, default=3, help="of a comparison")
    options.add_argument("--out", type=Path, help="results file")
    options.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--k-core", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.measure is not None:
        print(json.dumps(measure(chosen.measure, chosen.k_core)))
        return
    started = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="twotower-benchmark-") as name:
        folder = Path(name)
        write_products(folder / "meta.jsonl", chosen.products)
        write_reviews(folder / "reviews.jsonl", chosen.reviews, chosen.users, chosen.products)
        if chosen.before is not None:
            compare(folder, chosen, started)
            return
        runs = {k: run_apart(folder, k) for k in (5, 0)}
    rows = [row for k, found in runs.items() for row in result_rows(chosen.reviews, k, found)]
    peak = max(found["peak_memory_mb"] for found in runs.values())
    meta = collect_meta(started, packages=("twotower", "numpy", "orjson", "polars", "pydantic"))
    write_results(chosen.out or RESULTS, meta.model_copy(update={"peak_memory_mb": peak}), rows)
    for k, found in runs.items():
        print(f"k_core={k}: {found}")
    if peak > LIMIT_MB:
        sys.exit(f"peak memory {peak:.0f} MB is above the limit of {LIMIT_MB} MB")


def compare(folder: Path, chosen: argparse.Namespace, started: datetime) -> None:
    """Prepare the same files by two versions in turns, and write the medians of their times."""
    versions = {"before": chosen.before.resolve(), "now": SOURCE}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in versions}
    for number in range(chosen.rounds):
        for name in versions if number % 2 == 0 else reversed(versions):
            runs[name].append(run_apart(folder, 5, versions[name]))
            print(f"{name}: {runs[name][-1]}", flush=True)
    rows = []
    for name, found in runs.items():
        medians = {
            metric: statistics.median(run[metric] for run in found)
            for metric in ("cpu_seconds", "seconds", "users")
        }
        print(f"{name}: {medians}")
        rows += [
            row.model_copy(update={"model": f"prepare, {name}"})
            for row in result_rows(chosen.reviews, 5, medians)
        ]
    packages = ("twotower", "numpy", "orjson", "polars", "pydantic")
    write_results(chosen.out or SPEED, collect_meta(started, packages=packages), rows)


def run_apart(folder: Path, k_core: int, source: Path = SOURCE) -> dict[str, float]:
    """What `measure` finds in a process that has done nothing else."""
    command = [sys.executable, __file__, "--measure", str(folder), "--k-core", str(k_core)]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(folder: Path, k_core: int) -> dict[str, float]:
    begin, used = time.perf_counter(), time.process_time()
    settings = PrepareSettings(k_core=k_core)
    out = folder / f"prepared-{k_core}"
    summary = prepare(folder, name="raw-reviews", settings=settings, out=out).summary
    seconds = time.perf_counter() - begin
    # KiB on Linux, bytes on macOS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "peak_memory_mb": peak / (2**20 if sys.platform == "darwin" else 2**10),
        "seconds": seconds,
        "cpu_seconds": time.process_time() - used,
        "log_mb": (folder / "reviews.jsonl").stat().st_size / 2**20,
        "users": summary["users"],
        "items": summary["items"],
        "interactions": summary["interactions"],
    }


def result_rows(reviews: int, k_core: int, found: dict[str, float]) -> Iterator[Row]:
    for metric, value in found.items():
        if metric != "users":
            yield Row(
                dataset=f"raw-reviews-{reviews}",
                split="leave-last-two",
                model=f"prepare k_core={k_core}",
                protocol="timing",
                metric=metric,
                value=value,
                seeds=[SEED],
                users=int(found["users"]),
            )


def write_reviews(path: Path, reviews: int, users: int, products: int) -> None:
    """One user in fifty writes a quarter of the reviews; few products are reviewed much."""
    rng = np.random.default_rng(SEED)
    texts = passages(rng, 2000, mean=300)
    with path.open("w", encoding="utf-8") as file:
        for begin in range(0, reviews, BATCH):
            count = min(BATCH, reviews - begin)
            reach = np.where(rng.random(count) < 0.25, users / 50, users)
            who = (reach * rng.random(count)).astype(np.int64)
            what = (products * rng.random(count) ** 3).astype(np.int64)
            when = rng.integers(1_100_000_000_000, 1_690_000_000_000, count)
            stars = rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], count, p=[0.12, 0.05, 0.08, 0.15, 0.6])
            said = rng.integers(0, len(texts), (2, count))
            lines = zip(
                codes("A", 28, who),
                codes("B0", 10, what),
                when.tolist(),
                stars.tolist(),
                said.T.tolist(),
                strict=True,
            )
            file.writelines(
                f'{{"rating": {rating}, "title": "{texts[title][:30]}", "text": "{texts[text]}", '
                f'"images": [], "asin": "{item}", "parent_asin": "{item}", "user_id": "{user}", '
                f'"timestamp": {stamp}, "helpful_vote": 0, "verified_purchase": true}}\n'
                for user, item, stamp, rating, (title, text) in lines
            )


def write_products(path: Path, products: int) -> None:
    rng = np.random.default_rng(SEED + 1)
    texts = passages(rng, 2000, mean=700)
    with path.open("w", encoding="utf-8") as file:
        for number, item in enumerate(codes("B0", 10, np.arange(products))):
            text = texts[number % len(texts)]
            link = f"https://example.org/images/{item}.jpg"
            product: dict[str, Any] = {
                "main_category": "Video Games",
                "title": f"{item} {text[:70]}",
                "average_rating": 4.1,
                "rating_number": number % 977,
                "features": [text[:200], text[200:400]],
                "description": [text],
                "price": None if number % 3 == 0 else 5 + number % 60,
                "images": [{"thumb": link, "large": link, "variant": "MAIN", "hi_res": link}] * 4,
                "videos": [],
                "store": "Store",
                "categories": ["Video Games", f"Platform {number % 20}", "Games"],
                "details": {"Date First Available": "September 11, 2018"},
                "parent_asin": item,
                "bought_together": None,
            }
            file.write(json.dumps(product) + "\n")


def codes(prefix: str, length: int, numbers: np.ndarray[Any, Any]) -> list[str]:
    """Ids of a fixed length, one for each number, in no visible order."""
    width = length - len(prefix)
    # An odd multiplier maps 0 … 2^n - 1 one to one, modulo any power of two.
    scattered = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    digits = np.zeros((len(numbers), width), dtype=np.intp)
    for place in range(min(width, 12)):
        digits[:, place] = (scattered >> np.uint64(5 * place)) & np.uint64(31)
    flat = ALPHABET[digits].tobytes().decode()
    return [prefix + flat[at : at + width] for at in range(0, len(flat), width)]


def passages(rng: np.random.Generator, count: int, mean: int) -> list[str]:
    """Texts of log-normal length, as those of reviews are."""
    words = [
        "".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(2, 9))) for _ in range(999)
    ]
    lengths = np.minimum(rng.lognormal(np.log(mean) - 0.5, 1.0, count), 20 * mean).astype(int) + 1
    return [
        " ".join(words[i] for i in rng.integers(0, len(words), length // 6 + 1))[:length]
        for length in lengths
    ]


if __name__ == "__main__":
    main()
