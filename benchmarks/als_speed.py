"""Rounds of implicit ALS against implicit's: same log, factors, loss and threads, in turns.

    python benchmarks/als_speed.py

writes ``benchmarks/results/als-speed.json``: processor seconds of a round, the loss after the last
one and, with ``--threads 1 2``, seconds and what a second thread gains, for a machine that does
nothing else. The log is synthetic (`twotower.data.synthetic`). implicit improves each
row by three steps of conjugate gradients (its default), which is compared with here; its exact
solver takes several times as long.
"""

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from twotower.data import Histories
from twotower.data.prepare import prepare
from twotower.data.settings import PrepareSettings
from twotower.data.synthetic import LogSize, generate_log
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.factors import als
from twotower.factors.als import ALSConfig
from twotower.factors.fold_in import gram_matrix
from twotower.factors.item_knn import binary_matrix

RESULTS = Path(__file__).parent / "results" / "als-speed.json"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--interactions", type=int, default=1_000_000)
    options.add_argument("--items", type=int, default=50_000)
    options.add_argument("--users", type=int, default=100_000)
    options.add_argument("--dims", type=int, nargs="+", default=[64, 192])
    options.add_argument("--threads", type=int, nargs="+", default=[1])
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--out", type=Path, default=RESULTS)
    chosen = options.parse_args()
    started = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="twotower-benchmark-") as folder:
        size = LogSize(interactions=chosen.interactions, items=chosen.items, users=chosen.users)
        generate_log(Path(folder) / "log", size)
        dataset = prepare(Path(folder) / "log", settings=PrepareSettings(k_core=0))
    train, items = dataset.interactions, len(dataset.items)
    rows: list[Row] = []
    for dim in chosen.dims:
        seconds: dict[tuple[str, int], float] = {}
        for threads in chosen.threads:
            for model, fit in (("als", ours), ("implicit-als", theirs)):
                each, loss = fit(train, items, dim, chosen.rounds, threads)
                seconds[model, threads] = each
                found = {"seconds/round": each, "loss": loss}
                if model == "implicit-als":
                    found["ratio-to-als"] = each / seconds["als", threads]
                if threads != chosen.threads[0]:
                    found["speed-up"] = seconds[model, chosen.threads[0]] / each
                print(model, dim, "dimensions", threads, "threads", found, flush=True)
                rows += [
                    Row(
                        dataset=f"growth-{chosen.interactions}", split="all",
                        model=f"{model}, {threads} threads", protocol=f"dim-{dim}",
                        metric=metric, value=value, seeds=[0], users=len(train),
                    )
                    for metric, value in found.items()
                ]  # fmt: skip
    write_results(chosen.out, collect_meta(started, threads=max(chosen.threads)), rows)


def ours(
    train: Histories, num_items: int, dim: int, rounds: int, threads: int
) -> tuple[float, float]:
    """Seconds of a round, the fastest, and the loss after the last."""
    config = ALSConfig(embedding_dim=dim, confidence=40.0, regularisation=1.0, frequency_power=0.0)
    by_user = binary_matrix(train, num_items)
    by_item = by_user.T.tocsr()
    start = np.random.default_rng(0).random((num_items, dim), dtype=np.float32)
    items = (start - 0.5) / dim  # as implicit begins
    users = np.zeros((len(train), dim), dtype=np.float32)
    seconds = []
    with threadpool_limits(threads, user_api="blas"):
        for _ in range(rounds):
            begin = clock(threads)
            als._improve(users, items, by_user, 1.0, config)
            als._improve(items, users, by_item, 1.0, config)
            seconds.append(clock(threads) - begin)
    return min(seconds), loss(train, users, items)


def theirs(
    train: Histories, num_items: int, dim: int, rounds: int, threads: int
) -> tuple[float, float]:
    """As `ours`; the weight of an interaction is ``alpha`` there, and 1 + ``confidence`` here."""
    matrix = csr_matrix(binary_matrix(train, num_items), dtype=np.float32)
    model = AlternatingLeastSquares(
        factors=dim, regularization=1.0, alpha=41.0, iterations=rounds, use_gpu=False,
        num_threads=threads, random_state=0,
    )  # fmt: skip
    seconds: list[float] = []
    begin = clock(threads)

    def timed(*_: Any) -> None:
        nonlocal begin
        seconds.append(clock(threads) - begin)
        begin = clock(threads)

    with threadpool_limits(1, user_api="blas"):
        model.fit(matrix, show_progress=False, callback=timed)
    return min(seconds), loss(train, model.user_factors, model.item_factors)


def clock(threads: int) -> float:
    """Processor seconds of one thread, which other work on the machine leaves alone; else time."""
    return time.process_time() if threads == 1 else time.perf_counter()


def loss(train: Histories, users: Any, items: Any) -> float:
    """The sum of weighted squared errors and penalties, a mean over users."""
    total = float((gram_matrix(users) * gram_matrix(items)).sum())  # all pairs as if absent
    for start in range(0, len(train.items), 100_000):
        part = slice(start, start + 100_000)
        scores = np.einsum("nd,nd->n", users[train.rows[part]], items[train.items[part]])
        total += float((41.0 * (1 - scores) ** 2 - scores**2).sum())
    total += float((users**2).sum() + (items**2).sum())
    return total / len(users)


if __name__ == "__main__":
    main()
