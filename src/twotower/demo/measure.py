"""Live measurements of the pipeline: latency, hits by stage, index comparison."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from twotower.errors import InputError
from twotower.index import named_index
from twotower.index.compare import Measurement, compare
from twotower.inference.options import RecommendOptions
from twotower.inference.pipeline import Pipeline
from twotower.inference.requests import Request, RequestReader
from twotower.inference.user_tower import UserTower
from twotower.types import FloatArray

KINDS: Final = ("exact", "flat", "hnsw", "ivf")
COMPARED_BY_SIZE: Final = ("exact", "hnsw")
_WARM: Final = 5
_SHARES: Final = (1 / 8, 1 / 4, 1 / 2)


@dataclass(frozen=True)
class Latency:
    """Latency of requests, one at a time."""

    milliseconds: FloatArray
    """``(requests,)`` of each whole request."""
    stages: dict[str, float]
    """Stage → median milliseconds."""


@dataclass(frozen=True)
class Hits:
    """Share of users whose hidden item is found at each stage."""

    users: int
    shares: dict[str, float]
    """Stage → share of the users, from 0 to 1."""


def sampled_users(pipeline: Pipeline, most: int) -> list[list[str]]:
    """Histories of at most ``most`` users with two items or more, evenly spaced."""
    contents = pipeline.contents
    lengths = contents.histories.lengths
    fit = np.flatnonzero(lengths >= 2)
    rows = (
        fit[np.linspace(0, len(fit) - 1, min(most, len(fit))).astype(np.int64)] if len(fit) else fit
    )
    ids = contents.items.ids
    return [[ids[item] for item in contents.histories.row(row).tolist()] for row in rows.tolist()]


def latency(pipeline: Pipeline, *, rerank: bool, seconds: float = 0.5) -> Latency:
    """Request ten items for one user after another, for about ``seconds``.

    Raises
    ------
    InputError
        Where no user has two items.
    """
    histories = sampled_users(pipeline, 1000)
    if not histories:
        raise InputError("no user has two items, so there is no history to measure with")
    options = RecommendOptions(10, rerank=rerank)
    clocks: list[dict[str, float]] = []
    times: list[float] = []
    end = time.perf_counter() + seconds
    for turn in range(_WARM + 1000):
        began = time.perf_counter()
        if began > end and len(times) >= _WARM:
            break
        stages: dict[str, float] = {}
        request = Request(history=histories[turn % len(histories)])
        pipeline.recommend_batch([request], options, stages)
        if turn >= _WARM:
            times.append(time.perf_counter() - began)
            clocks.append(stages)
    return Latency(
        np.asarray(times, dtype=np.float32) * 1000,
        {stage: 1000 * float(np.median([clock[stage] for clock in clocks])) for stage in clocks[0]},
    )


def hits(pipeline: Pipeline, most: int = 200, candidates: int = 1000) -> Hits:
    """Hide the last item of some users, and find it at each stage."""
    histories = [ids for ids in sampled_users(pipeline, most) if ids[-1] not in ids[:-1]]
    targets = [ids[-1] for ids in histories]
    requests = [Request(history=ids[:-1]) for ids in histories]
    depth = min(candidates, len(pipeline.items))
    rows = pipeline.items.indices(targets)

    def share(options: RecommendOptions, within: int) -> float:
        ranked = pipeline.rank(requests, options)
        found = [row in of.items[:within] for of, row in zip(ranked, rows, strict=True)]
        return sum(found) / max(len(found), 1)

    first = RecommendOptions(depth, rerank=False)
    shares = {
        f"among {depth:,} candidates": share(first, depth),
        "among the first 10": share(first, 10),
    }
    if pipeline.contents.reranker is not None:
        shares["among the first 10, re-ranked"] = share(RecommendOptions(10, rerank=True), 10)
    return Hits(len(histories), shares)


def indexes(pipeline: Pipeline, queries: int = 100) -> list[Measurement]:
    """Kinds of index on the bundle's vectors and users, the bundle's own as configured."""
    served = pipeline.index.config.model_dump()
    named = [named_index(kind) for kind in dict.fromkeys((*KINDS, str(served["kind"])))]
    configs = [
        config.model_validate(served) if config.kind == served["kind"] else config
        for config in named
    ]
    return compare(pipeline.contents.item_vectors, _user_vectors(pipeline, queries), configs)


def latency_by_size(
    pipeline: Pipeline, whole: Sequence[Measurement], queries: int = 50
) -> dict[str, tuple[list[int], list[float]]]:
    """Kind of index → numbers of items, and microseconds a search among so many takes.

    ``whole`` are the measurements of the whole catalogue, see `indexes`.
    """
    vectors, users = pipeline.contents.item_vectors, _user_vectors(pipeline, queries)
    found: dict[str, tuple[list[int], list[float]]] = {kind: ([], []) for kind in COMPARED_BY_SIZE}
    kinds = [named_index(kind) for kind in COMPARED_BY_SIZE]
    sizes = sorted({max(10, int(len(vectors) * share)) for share in _SHARES})
    parts = [(size, compare(vectors[:size], users, kinds)) for size in sizes]
    for size, rows in [*parts, (len(vectors), whole)]:
        for row in rows:
            if row.config.kind in found:
                found[row.config.kind][0].append(min(size, len(vectors)))
                found[row.config.kind][1].append(row.latency_us)
    return found


def _user_vectors(pipeline: Pipeline, most: int) -> FloatArray:
    contents = pipeline.contents
    reader = RequestReader(contents.users, contents.items, contents.histories)
    requests = [Request(history=ids[:-1]) for ids in sampled_users(pipeline, most)]
    if not requests:
        raise InputError("no user has two items, so there is no history to measure with")
    return UserTower(contents, 1).encode(reader.queries(requests))
