"""Ranking stages: retrieval, re-ranking and similar items, with timings."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from twotower.bundle.contents import BundleContents
from twotower.bundle.reranker import Reranker, placed
from twotower.data import Queries
from twotower.errors import InputError
from twotower.index import ItemIndex
from twotower.inference.eligibility import EligibilityMask
from twotower.inference.filters import Filters
from twotower.inference.item_table import ItemTable, mean_cosines
from twotower.inference.options import RecommendOptions
from twotower.inference.ranking import RankedItems, filled
from twotower.inference.retrieval import nearest
from twotower.types import FloatArray, OffsetArray

if TYPE_CHECKING:
    from twotower.inference.business_rules import ActiveRules

Timings = dict[str, float]
"""Accumulated seconds by stage: ``encode``, ``search``, ``rerank``, ``present``."""


def add_time(clock: Timings, stage: str, began: float) -> float:
    """Add the time since ``began`` to a stage; returns the time now."""
    now = perf_counter()
    clock[stage] = clock.get(stage, 0.0) + now - began
    return now


class SecondStage(NamedTuple):
    """A re-ranker, and how many candidates it orders."""

    reranker: Reranker
    candidates: int


def second_stage(contents: BundleContents, options: RecommendOptions) -> SecondStage | None:
    """The bundle's second stage; None if not requested, `InputError` if the bundle has none."""
    if not options.reranks(contents):
        return None
    if contents.reranker is None:
        raise InputError(
            f"bundle of {contents.info.model} has no re-ranker",
            "pass rerank=False, or save a bundle with re-ranker vectors",
            cli_fix="pass --no-rerank, or bundle the model again with --reranker",
        )
    wanted = contents.reranker.candidates if options.candidates is None else options.candidates
    return SecondStage(contents.reranker, max(wanted, options.k))


@dataclass(slots=True)
class Stages:
    """The stages of one request; each returns as many of its best items as requested."""

    index: ItemIndex
    table: ItemTable
    vector: FloatArray
    """``(d,)`` the user's vector."""
    parts: Sequence[EligibilityMask]
    """Items eligible for the user, in parts that are searched separately; a single part unless
    business rules weigh items."""
    found: tuple[FloatArray, OffsetArray]
    """Scores and items that the index already found for the request."""
    clock: Timings
    """Timings to add to."""
    stale: OffsetArray
    """Rows in the index that changed since it was built."""

    def retrieve(self, count: int) -> RankedItems:
        """The nearest items, ``count`` of each part."""
        began = perf_counter()
        vectors = self.table.vectors.rows
        found = [
            nearest(self.index, vectors, self.vector, count, part, self.found, self.stale)
            for part in self.parts
        ]
        scores, items = found[0]
        if len(found) > 1:
            scores, items = map(np.concatenate, zip(*found, strict=True))
            order = np.argsort(-scores, kind="stable")
            scores, items = scores[order], items[order]
        add_time(self.clock, "search", began)
        return RankedItems(items, scores, retrieval=scores)

    def rerank(self, second: SecondStage, query: Queries, count: int) -> RankedItems:
        """The nearest items in the second stage's order, at least ``count`` of each part."""
        retrieved = self.retrieve(max(second.candidates, count))
        began = perf_counter()
        items, towers = retrieved.items, retrieved.scores
        if second.reranker.reads_towers:
            width = self.table.contents.tower_dim
            towers = self.table.vectors.rows[items, :width] @ self.vector[:width]
        scores = placed(
            second.reranker.scores(query, items[None], retrieved.scores[None], towers[None])[0]
        )
        order = np.argsort(-scores, kind="stable")
        add_time(self.clock, "rerank", began)
        return RankedItems(retrieved.items, scores, retrieved.scores, scores).take(order)


def similar(
    table: ItemTable, row: int, k: int, filters: Filters, rules: "ActiveRules | None" = None
) -> RankedItems:
    """The ``k`` items most similar to that of ``row``, by exact search: see `mean_cosines`.

    Of the business rules only blocks apply, since others would distort similarity.
    """
    passing = table.passing(filters)
    if rules is not None:
        passing &= rules.open
    passing[row] = False
    scores = mean_cosines(table.vectors.rows, table.scales.rows, row, table.contents.tower_dim)
    order = np.flatnonzero(passing)
    order = order[np.argsort(-scores[order], kind="stable")]

    def best(count: int) -> RankedItems:
        items = order[:count]
        return RankedItems(items, scores[items], retrieval=scores[items])

    return filled(best, k, filters, table)
