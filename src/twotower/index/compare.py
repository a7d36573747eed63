"""Measure indexes against exact search on the vectors and queries that matter."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twotower.errors import InputError
from twotower.index.base import PADDING_ITEM, ItemIndex, check_search, check_vectors
from twotower.index.build import IndexConfig, build_index
from twotower.index.exact import ExactIndex
from twotower.types import FloatArray, OffsetArray

_WARM_UP = 10
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Measurement:
    """One index at one ``k``.

    Attributes
    ----------
    config
        The index's configuration.
    k
        Items asked for.
    recall
        Share of the true best ``k`` items that were found, from 0 to 1.
    latency_us
        Median time of a search for one query, in microseconds, on the calling thread.
    build_seconds
        Time to build the index.
    """

    config: IndexConfig
    k: int
    recall: float
    latency_us: float
    build_seconds: float


def compare(
    vectors: FloatArray,
    queries: FloatArray,
    configs: Sequence[IndexConfig],
    ks: Sequence[int] = (10,),
) -> list[Measurement]:
    """Build each index and measure it at each ``k``, one query at a time.

    Parameters
    ----------
    vectors
        ``(items, dim)`` float32.
    queries
        ``(queries, dim)`` float32, at least one; real user vectors, if the figures are to
        mean anything.
    configs
        The indexes to compare.
    ks
        Numbers of items to ask for.

    Raises
    ------
    InputError
        Where vectors, queries or a ``k`` cannot be used.
    """
    vectors = check_vectors(vectors)
    for k in ks:
        queries = check_search(queries, k, vectors.shape[1])
    if len(queries) == 0:
        raise InputError("a comparison needs at least one query, got 0")
    best = ExactIndex(vectors).search(queries, min(max(ks), len(vectors)))[0]
    measurements = []
    for config in configs:
        started = time.perf_counter()
        index = build_index(vectors, config)
        build_seconds = time.perf_counter() - started
        for k in ks:
            found, latency_us = _search_one_by_one(index, queries, k)
            share = _recall(vectors, queries, found, best[:, min(k, len(vectors)) - 1])
            measurements.append(Measurement(config, k, share, latency_us, build_seconds))
    return measurements


def _search_one_by_one(index: ItemIndex, queries: FloatArray, k: int) -> tuple[OffsetArray, float]:
    for row in range(min(_WARM_UP, len(queries))):
        index.search(queries[row : row + 1], k)
    found = np.empty((len(queries), k), dtype=np.int64)
    seconds = np.empty(len(queries))
    for row in range(len(queries)):
        started = time.perf_counter()
        _, items = index.search(queries[row : row + 1], k)
        seconds[row] = time.perf_counter() - started
        found[row] = items[0]
    return found, float(np.median(seconds) * 1e6)


def _recall(
    vectors: FloatArray, queries: FloatArray, found: OffsetArray, lowest: FloatArray
) -> float:
    """Share of each query's true best items that were ``found`` (queries, k).

    An item counts by its true score: any with at least ``lowest`` (queries,), the score of
    the last of the true best, up to rounding, since of several equal ones any will do.
    """
    good = 0
    for query, items, score in zip(queries, found, lowest, strict=True):
        true = vectors[items[items != PADDING_ITEM]] @ query
        good += int((true >= score - _ROUNDING * max(1.0, abs(score))).sum())
    existing = min(found.shape[1], len(vectors))
    return good / float(len(found) * existing)
