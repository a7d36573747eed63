"""Recommendations for all users of a bundle at once: the time, and implicit's beside it.

    python benchmarks/serving_batch.py --bundle runs/video-games/bundle

``twotower`` is `twotower recommend --batch all -k 100`: every user's history through the tower,
exact search, seen items removed, a Parquet file written. ``implicit`` (extra ``bench``) is its
``recommend`` over the same vectors, which are made before its clock starts, with what was seen
removed too; ``twotower-search`` is the same part of ours. They take turns, all with the same
threads. ``agreement`` is the share of items that both find.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from twotower.data import Queries
from twotower.evaluation.provenance import PACKAGES, collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.index import top_k
from twotower.inference.batch import recommend_to_file
from twotower.inference.options import RecommendOptions
from twotower.inference.pipeline import Pipeline
from twotower.inference.user_tower import UserTower
from twotower.types import Array

RESULTS: Final = Path(__file__).parent / "results" / "serving-batch.json"
IMPLICIT_BATCH: Final = 4096
SEARCH_BATCH: Final = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--users", type=int, help="the first so many; by default all")
    parser.add_argument("-k", type=int, default=100, help="items of a user")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    pipeline = Pipeline.load(given.bundle, threads=given.threads)
    contents = pipeline.contents
    users = contents.users.ids[: given.users]
    histories = contents.histories.select(np.arange(len(users)))
    queries = Queries(np.arange(len(users), dtype=np.int32), histories)
    vectors = UserTower(contents, given.threads).encode(queries)
    peer = AlternatingLeastSquares(num_threads=given.threads)
    peer.user_factors, peer.item_factors = vectors, contents.item_vectors
    seen = sp.csr_matrix(
        (np.ones(len(histories.items), np.float32), histories.items, histories.indptr),
        shape=(len(users), len(contents.items)),
    )
    seen.sum_duplicates()

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "recs.parquet"
            recommend_to_file(pipeline, users, out, RecommendOptions(given.k, rerank=False))

    def search() -> Array:
        found = np.empty((len(users), given.k), dtype=np.int64)
        for start in range(0, len(users), SEARCH_BATCH):
            rows = np.arange(start, min(start + SEARCH_BATCH, len(users)))
            scores = vectors[rows] @ contents.item_vectors.T
            found[rows] = top_k(scores, given.k, histories.select(rows)).items
        return found

    def implicit() -> Array:
        found = np.empty((len(users), given.k), dtype=np.int32)
        for start in range(0, len(users), IMPLICIT_BATCH):
            rows = np.arange(start, min(start + IMPLICIT_BATCH, len(users)))
            found[rows], _ = peer.recommend(rows, seen[rows], N=given.k)
        return found

    methods: dict[str, Callable[[], Array | None]] = {
        "twotower": whole,
        "twotower-search": search,
        "implicit": implicit,
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    found: dict[str, Array | None] = {}
    with threadpool_limits(given.threads):
        for repeat in range(given.repeats):
            for name, method in methods.items():
                began = time.perf_counter()
                found[name] = method()
                seconds[name].append(time.perf_counter() - began)
            print(f"repeat {repeat + 1}: { ({n: round(s[-1], 2) for n, s in seconds.items()}) }")

    def row(model: str, metric: str, values: ArrayLike) -> Row:
        return Row.of_repeats(
            values, dataset=contents.info.dataset, split="bundle", model=model,
            protocol="timing", metric=metric, users=len(users),
        )  # fmt: skip

    rows = [row(name, "seconds", times) for name, times in seconds.items()]
    for name in ("twotower", "twotower-search"):
        ratio = np.asarray(seconds["implicit"]) / np.asarray(seconds[name])
        rows.append(row(name, "times-as-fast-as-implicit", ratio))
    agreement = _agreement(found["twotower-search"], found["implicit"])
    rows.append(row("twotower-search", "agreement", [agreement]))
    for each in rows:
        print(f"{each.model:16s} {each.metric:26s} {each.value:9.4g}")
    packages = (*PACKAGES, "onnxruntime", "implicit")
    write_results(given.out, collect_meta(started, threads=given.threads, packages=packages), rows)


def _agreement(ours: Array | None, theirs: Array | None) -> float:
    assert ours is not None
    assert theirs is not None
    shares = [np.isin(a, b).mean() for a, b in zip(ours, theirs, strict=True)]
    return float(np.mean(shares))


if __name__ == "__main__":
    main()
