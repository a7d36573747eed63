"""A catalogue of a million items, served by one process: how long requests take, and what it needs.

    python benchmarks/serving_large.py --bundle runs/video-games/bundle

A bundle's catalogue is grown to ``--items``: its own items, then copies of random ones whose
vectors are moved by the distance of an item to its nearest (`larger_catalogue`). All vectors are
indexed anew, by ``--kind``; there is no second stage, whose cost does not depend on the catalogue.
Cold-start users send real histories of 20 items and ask for ten. ``in-process`` is the pipeline on
one thread; ``http`` one process of ``twotower serve``, asked over one connection. ``overlap@10`` is
the share of the ten items of an exact search that are answered.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from serving_process import Served
from serving_requests import real_histories
from threadpoolctl import threadpool_limits

from twotower.bundle.contents import BundleContents
from twotower.bundle.storage import load_bundle, save_bundle
from twotower.data import columns
from twotower.evaluation.provenance import PACKAGES, collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.index import ExactConfig
from twotower.index.build import build_index, named_index
from twotower.inference.pipeline import Pipeline
from twotower.service.client import Client
from twotower.study.index_benchmark import larger_catalogue

RESULTS: Final = Path(__file__).parent / "results" / "serving-large.json"
CHECKED: Final = 200
"""Requests whose items are compared with an exact search."""


def main() -> None:
    """Grow, serve and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--kind", default="pq", help="of the index")
    parser.add_argument("--requests", type=int, default=2000, help="different ones")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--history", type=int, default=20, help="items of a history")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    small = load_bundle(given.bundle).contents
    histories = real_histories(small, given.history, given.requests)
    began = time.perf_counter()
    contents = grown(small, given.items, given.kind)
    rows: list[Row] = []

    def add(model: str, metric: str, values: Sequence[float]) -> None:
        rows.append(
            Row.of_repeats(
                values, dataset=f"{contents.info.dataset}-{given.items}", split="bundle",
                model=model, protocol="timing", metric=metric, users=len(histories),
            )
        )  # fmt: skip
        print(f"{model:12s} {metric:16s} {rows[-1].value:.4g}", flush=True)
        write_results(given.out, collect_meta(started, threads=1, packages=PACKAGES), rows)

    def time_requests(model: str, answer: Callable[[list[str]], object]) -> None:
        for history in histories[:100]:  # untimed: first use of memory and of lazy parts
            answer(history)
        found = np.empty((given.repeats, len(histories)))
        for times in found:
            for place, history in enumerate(histories):
                start = time.perf_counter()
                answer(history)
                times[place] = 1e3 * (time.perf_counter() - start)
        add(model, "median-ms", np.median(found, axis=1).tolist())
        add(model, "p99-ms", np.percentile(found, 99, axis=1).tolist())
        add(model, "max-ms", found.max(axis=1).tolist())

    def in_process() -> None:
        pipeline = Pipeline(contents)
        with threadpool_limits(1):
            time_requests(
                "in-process",
                lambda history: pipeline.recommend(history=history, rerank=False),
            )
        add("in-process", "overlap@10", [overlap(pipeline, histories[:CHECKED])])

    add("index", "build-seconds", [time.perf_counter() - began])
    in_process()  # its pipeline is gone when the service has one
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        save_bundle(bundle, contents, {})
        add("index", "bundle-mb", [sum(one.stat().st_size for one in bundle.iterdir()) / 2**20])
        with Served(bundle) as served, served.client() as client:
            add("http", "seconds-to-ready", [served.seconds_to_ready])
            time_requests("http", asking(client))
            add("http", "memory-mb", [served.memory_mb()])
            add("http", "peak-memory-mb", [served.memory_mb("VmHWM")])


def grown(contents: BundleContents, items: int, kind: str) -> BundleContents:
    """The contents with so many items. Added ones have no factor of their own to be read by: copies
    in the Gram matrix of the fold-in would change the vectors of all users.
    """
    own = len(contents.items)
    source = np.concatenate(
        [np.arange(own), np.random.default_rng(1).integers(own, size=items - own)]
    )
    vectors = larger_catalogue(contents.item_vectors, items)
    catalogue = contents.catalogue[source].with_columns(
        pl.concat(
            [
                contents.catalogue[columns.ITEM_ID],
                pl.Series([f"added-{number}" for number in range(items - own)], dtype=pl.String),
            ]
        ).alias(columns.ITEM_ID)
    )
    features = contents.user_features
    return replace(
        contents,
        item_vectors=vectors,
        history_table=None
        if contents.history_table is None
        else contents.history_table[np.append(0, source + 1)],
        factors=None
        if contents.factors is None
        else np.pad(contents.factors, ((0, items - own), (0, 0))),
        user_features=replace(features, item_table=features.item_table[source]),
        catalogue=catalogue,
        index=build_index(vectors, named_index(kind)),
        reranker=None,
        new_items=None,
        declared=None,
    )


def overlap(pipeline: Pipeline, histories: list[list[str]]) -> float:
    """Share of the ten items that are answered which exact search would have led to, too."""
    contents = pipeline.contents
    exact = Pipeline(replace(contents, index=build_index(contents.item_vectors, ExactConfig())))
    found = []
    for history in histories:
        answers = [
            {item.item_id for item in asked.recommend(history=history, rerank=False)}
            for asked in (exact, pipeline)
        ]
        found.append(len(answers[0] & answers[1]) / len(answers[0]))
    return float(np.mean(found))


def asking(client: Client) -> Callable[[list[str]], object]:
    """Asks the service for ten items, with the client's overhead."""
    return lambda history: client.recommend(history=history, k=10)


if __name__ == "__main__":
    main()
