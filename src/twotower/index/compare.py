"""Index benchmark: recall against exact search, latency, build time and memory."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from twotower.errors import InputError
from twotower.index.base import PADDING_ITEM, ItemIndex, check_search, check_vectors
from twotower.index.build import IndexConfig, build_index
from twotower.index.exact import ExactIndex
from twotower.index.faiss_index import load_faiss
from twotower.types import DoubleArray, FloatArray, OffsetArray

_WARM_UP = 10
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measurements of one index at one ``k``."""

    config: IndexConfig
    """The index's configuration."""
    k: int
    """Items searched for."""
    recall: float
    """Share of the true best ``k`` items that were found, from 0 to 1."""
    latency_us: float
    """Median CPU time of a one-query search in microseconds, of the calling thread only, so other
    processes on a busy machine do not count."""
    p99_us: float
    """99th percentile of the same."""
    build_seconds: float
    """Time to build the structure. Adjacent configurations that differ only in search parameters
    share one structure."""
    nbytes: int
    """Memory of the index, in bytes."""


def compare(
    vectors: FloatArray,
    queries: FloatArray,
    configs: Sequence[IndexConfig],
    ks: Sequence[int] = (10,),
) -> list[Measurement]:
    """Build each index and measure it at each ``k``, one query at a time on one thread.

    Parameters
    ----------
    vectors
        ``(items, dim)`` float32.
    queries
        ``(queries, dim)`` float32, at least one; use real user vectors for meaningful figures.
    configs
        The indexes to compare.
    ks
        Numbers of items to search for.

    Raises
    ------
    InputError
        If vectors, queries or a ``k`` are invalid.
    """
    truth = Truth(vectors, queries, ks)
    measurements = []
    index: ItemIndex | None = None
    build_seconds = 0.0
    for config in configs:
        retuned = None if index is None else config.retuned(index)
        if retuned is None:
            started = time.perf_counter()
            index = build_index(truth.vectors, config)
            build_seconds = time.perf_counter() - started
        else:
            index = retuned
        for k in ks:
            with one_thread():
                found, seconds = search_one_by_one(index, truth.queries, k, clock=time.thread_time)
            median, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e6
            share = truth.recall(found)
            measurements.append(
                Measurement(
                    config, k, share, float(median), float(p99), build_seconds, index.nbytes
                )
            )
    return measurements


class Truth:
    """Ground truth: the best items of each query by exact search; arguments as in `compare`."""

    def __init__(self, vectors: FloatArray, queries: FloatArray, ks: Sequence[int]) -> None:
        self.vectors = check_vectors(vectors)
        for k in ks:
            queries = check_search(queries, k, self.vectors.shape[1])
        if len(queries) == 0:
            raise InputError("a comparison needs at least one query, got 0")
        self.queries = queries
        self._best = ExactIndex(self.vectors).search(queries, min(max(ks), len(vectors)))[0]

    def recall(self, found: OffsetArray) -> float:
        """Recall of ``found``, ``(n, k)`` items found for the first ``n`` queries.

        Items are judged by their true scores: one counts if it scores at least as high as the last
        of the true best, up to rounding, since items with equal scores are interchangeable.
        """
        existing = min(found.shape[1], len(self.vectors))
        lowest = self._best[: len(found), existing - 1]
        good = 0
        for query, items, score in zip(self.queries, found, lowest, strict=False):
            true = self.vectors[items[items != PADDING_ITEM]] @ query
            good += int((true >= score - _ROUNDING * max(1.0, abs(score))).sum())
        return good / float(len(found) * existing)


class Searchable(Protocol):
    """Anything with the `search` of an `ItemIndex`."""

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, OffsetArray]:
        """As `ItemIndex.search`."""
        ...


class Searches(NamedTuple):
    """Results and durations of one-query searches."""

    found: OffsetArray
    """``(queries, k)`` items."""
    seconds: DoubleArray
    """``(queries,)`` duration of each search."""


def search_one_by_one(
    index: Searchable,
    queries: FloatArray,
    k: int,
    *,
    most_seconds: float = np.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> Searches:
    """Search for each query separately after a short warm-up, timing each with ``clock``.

    Stops after the first search that ends later than ``most_seconds``; results cover the queries
    done by then.
    """
    end = time.perf_counter() + most_seconds
    for row in range(min(_WARM_UP, len(queries))):
        index.search(queries[row : row + 1], k)
        if time.perf_counter() > end:
            break
    found = np.empty((len(queries), k), dtype=np.int64)
    seconds = np.empty(len(queries))
    done = 0
    for row in range(len(queries)):
        started = clock()
        _, items = index.search(queries[row : row + 1], k)
        seconds[row] = clock() - started
        found[row] = items[0]
        done += 1
        if time.perf_counter() > end:
            break
    return Searches(found[:done], seconds[:done])


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS and OpenMP (FAISS, torch) to one thread in this context, as in serving.

    A single search is too small to parallelise. A service with many concurrent requests uses one
    thread for each, so timings with more threads would not apply to it.
    """
    load_faiss()  # the limit only affects loaded libraries
    with threadpool_limits(1):
        yield
