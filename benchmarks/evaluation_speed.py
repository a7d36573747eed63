"""Full-ranking evaluation by counting, against scoring and sorting in NumPy batches.

Random vectors and histories of the shape of Amazon Video Games 2023, so that it needs no data:
98,906 users, 26,354 items, 64 dimensions. Every method gets the same users and must find the
same hit rate. The repeats alternate, and the medians and extremes of all are written.

    python benchmarks/evaluation_speed.py --json benchmarks/results/evaluation-speed.json
"""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from twotower.data import Histories, Queries
from twotower.evaluation.metrics import hit_rate_at_k
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.ranking import full_ranks
from twotower.evaluation.results import Row, write_results
from twotower.types import FloatArray

USERS, ITEMS, DIM, SEEN, K = 98_906, 26_354, 64, 7, 20
BATCH = 1024


class Vectors:
    """Random user and item vectors."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.users = rng.standard_normal((USERS, DIM), dtype=np.float32)
        self.items = rng.standard_normal((ITEMS, DIM), dtype=np.float32)
        self.num_items = ITEMS

    def user_vectors(self, queries: Queries) -> FloatArray:
        """``(queries, 64)``"""
        return self.users[queries.users]

    def item_vectors(self) -> FloatArray:
        """``(items, 64)``"""
        return self.items

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, items)``"""
        return self.users[queries.users] @ self.items.T


def by_counting(scorer: Vectors, queries: Queries, targets: Histories) -> float:
    return float(hit_rate_at_k(full_ranks(scorer, queries, targets), K).mean())


def by_argsort(scorer: Vectors, queries: Queries, targets: Histories) -> float:
    return _in_batches(scorer, queries, targets, lambda low: np.argsort(low, axis=1)[:, :K])


def by_argpartition(scorer: Vectors, queries: Queries, targets: Histories) -> float:
    def best(low: FloatArray) -> np.ndarray:
        first = np.argpartition(low, K, axis=1)[:, :K]
        order = np.argsort(np.take_along_axis(low, first, axis=1), axis=1)
        return np.take_along_axis(first, order, axis=1)

    return _in_batches(scorer, queries, targets, best)


def _in_batches(
    scorer: Vectors,
    queries: Queries,
    targets: Histories,
    best: Callable[[FloatArray], np.ndarray],
) -> float:
    """Hit rate from the ``best`` items ``(rows, K)`` of negated scores, seen ones masked."""
    hits = 0
    for start in range(0, len(queries), BATCH):
        rows = np.arange(start, min(start + BATCH, len(queries)))
        batch = queries.select(rows)
        low = -scorer.scores(batch)
        low[batch.histories.rows, batch.histories.items] = np.inf
        hits += int((best(low) == targets.items[rows, None]).sum())
    return hits / len(queries)


METHODS = {
    "counting": by_counting,
    "numpy-argsort": by_argsort,
    "numpy-argpartition": by_argpartition,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=4096, help="users that all methods rank")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="results file to write")
    given = parser.parse_args()
    started = datetime.now(UTC)

    rng = np.random.default_rng(0)
    scorer = Vectors(rng)
    drawn = rng.integers(0, ITEMS, (USERS, SEEN + 1), dtype=np.int32)
    drawn[:, SEEN] = (drawn[:, :SEEN].max(axis=1) + 1) % ITEMS  # a target that was not seen
    indptr = np.arange(USERS + 1, dtype=np.int64)
    everyone = Queries(
        np.arange(USERS, dtype=np.int32), Histories(indptr * SEEN, drawn[:, :SEEN].ravel())
    )
    targets = Histories(indptr, drawn[:, SEEN].copy())
    some = np.sort(rng.choice(USERS, given.users, replace=False))
    subset = everyone.select(some), targets.select(some)

    for method in METHODS.values():  # untimed: first use of BLAS and of fresh memory
        method(scorer, everyone.select(some[:BATCH]), targets.select(some[:BATCH]))
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    whole = []
    for repeat in range(given.repeats):
        found = set()
        for name, method in METHODS.items():
            begun = time.perf_counter()
            found.add(method(scorer, *subset))
            seconds[name].append(time.perf_counter() - begun)
        assert len(found) == 1, f"the methods disagree: {found}"
        begun = time.perf_counter()
        by_counting(scorer, everyone, targets)
        whole.append(time.perf_counter() - begun)
        print(f"repeat {repeat + 1}: { ({n: round(s[-1], 2) for n, s in seconds.items()}) }")

    rows = []
    for name, times in seconds.items():
        rate = given.users / np.array(times)
        ratio = np.array(times) / np.array(seconds["counting"])  # to counting, within a repeat
        rows.append(_row(name, "users/s", rate, given.users))
        rows.append(_row(name, "time-ratio", ratio, given.users))
    rows.append(_row("counting", "all-users-seconds", np.array(whole), USERS))
    for row in rows:
        print(f"{row.model:20s} {row.metric:28s} {row.value:10.2f} [{row.low:.2f}, {row.high:.2f}]")
    if given.json:
        write_results(given.json, collect_meta(started), rows)


def _row(model: str, metric: str, values: np.ndarray, users: int) -> Row:
    return Row.of_repeats(
        values, dataset=f"random-{USERS}x{ITEMS}x{DIM}", split="random", model=model,
        protocol="timing", metric=metric, users=users,
    )  # fmt: skip


if __name__ == "__main__":
    main()
