"""Offline evaluation of a scorer on a prepared data set by named protocols."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from twotower.data import Dataset, Histories, Part, Queries, columns
from twotower.errors import InputError
from twotower.evaluation.beyond_accuracy import LIST_LENGTH, ListFacts, ListFigures
from twotower.evaluation.figures import Evaluation, result_rows
from twotower.evaluation.metrics import metric_values, ndcg_at_k
from twotower.evaluation.negatives import sample_negatives
from twotower.evaluation.ranking import (
    BATCH_SIZE,
    BatchCallback,
    Candidates,
    full_ranks,
    rank_and_list,
)
from twotower.evaluation.registry import FULL, FULL_UNMASKED, PROTOCOLS, SAMPLED
from twotower.evaluation.scoring_plan import Report, ScoringPass, plan
from twotower.evaluation.tasks import TaskData
from twotower.factors.scorer import Scorer
from twotower.types import DoubleArray, IndexArray

METRICS: Final = ("HR@5", "HR@10", "HR@20", "HR@50", "NDCG@10", "NDCG@20", "MRR")
"""Default metrics if every query has one target."""
METRICS_OF_SEVERAL: Final = (*METRICS, "Recall@20")
"""Default metrics if queries have several targets; with one, Recall@20 equals HR@20."""

__all__ = [
    "FULL",
    "FULL_UNMASKED",
    "METRICS",
    "METRICS_OF_SEVERAL",
    "PROTOCOLS",
    "SAMPLED",
    "Evaluation",
    "evaluate",
    "evaluate_passes",
    "evaluate_queries",
    "prices",
    "result_rows",
    "validation_ndcg",
]


def evaluate(
    scorer: Scorer,
    dataset: Dataset,
    *,
    part: Part = Part.TEST,
    protocols: Sequence[str] = PROTOCOLS,
    metrics: Sequence[str] | None = None,
    negatives: IndexArray | None = None,
    facts: ListFacts | None = None,
    batch_size: int = BATCH_SIZE,
    progress: BatchCallback | None = None,
) -> Evaluation:
    """Evaluate on ``part``; protocols of the same task share one pass over the scores.

    Parameters
    ----------
    protocols
        Names of `twotower.evaluation.registry`, of protocols or of groups.
    metrics
        None reports `METRICS`, and Recall@20 too where a query has several targets.
    negatives
        ``(queries, 100)`` for the protocol ``sampled-100``, for example stored ones; None
        draws them from seed 0, which gives every model the same.
    facts
        Item data for ``beyond-accuracy``; None makes them from the catalogue, without titles.

    Raises
    ------
    InputError
        An unknown protocol or metric, a protocol that the data set cannot answer, or what
        `rank_and_list` refuses.
    ScoreError
        A score is NaN.
    """
    passes = plan(
        dataset,
        protocols,
        part=part,
        negatives=sample_negatives if negatives is None else lambda *_: negatives,
    )
    if facts is None and any(scoring.lists for scoring in passes):
        facts = ListFacts.fit(dataset.train, dataset.catalogue, None)
    return evaluate_passes(
        scorer,
        passes,
        metrics=metrics,
        facts=facts,
        worth=prices(dataset),
        batch_size=batch_size,
        progress=progress,
    )


def prices(dataset: Dataset) -> DoubleArray | None:
    """``(num_items,)`` prices, 0 if unknown; None if the catalogue has none."""
    if columns.PRICE not in dataset.catalogue.columns:
        return None
    known = dataset.catalogue[columns.PRICE].cast(pl.Float64).fill_nan(None)
    return None if known.is_null().all() else known.fill_null(0.0).to_numpy()


def evaluate_passes(
    scorer: Scorer,
    passes: Sequence[ScoringPass],
    *,
    metrics: Sequence[str] | None = None,
    facts: ListFacts | None = None,
    worth: DoubleArray | None = None,
    batch_size: int = BATCH_SIZE,
    progress: BatchCallback | None = None,
) -> Evaluation:
    """Evaluate one model on the passes of `plan`, which serve many models.

    ``facts`` are needed for beyond-accuracy metrics, ``worth`` (`prices`) for revenue metrics. See
    `evaluate` for the rest.
    """
    if metrics is None:
        most = max(int(scoring.task.targets.lengths.max(initial=1)) for scoring in passes)
        metrics = METRICS_OF_SEVERAL if most > 1 else METRICS
    values: dict[str, DoubleArray] = {}
    lists: dict[str, ListFigures] = {}
    for scoring in passes:
        task = scoring.task
        ranked = rank_and_list(
            scorer,
            task.queries,
            task.targets,
            scoring.candidates,
            seen=task.seen,
            lists=LIST_LENGTH if scoring.lists else 0,
            worth=worth,
            batch_size=batch_size,
            progress=progress,
        )
        by_query = {among: metric_values(r, metrics) for among, r in ranked.ranks.items()}
        for report in scoring.reports:
            values[report.name] = by_query[report.among][report.rows]
        if ranked.lists is not None:
            if facts is None:
                raise InputError("facts of the items are needed to describe lists", "pass facts")
            figures = facts.describe(ranked.lists, task.queries.histories)
            lists.update((name, figures) for name in scoring.lists)
    # Declared context columns are known before the event; the results record which models read the
    # target's. Columns derived from the time are given only with the time.
    context: tuple[str, ...] = getattr(scorer, "reads_context", ())
    if not any(scoring.task.queries.contexts is not None for scoring in passes):
        context = ()
    if not any(scoring.task.queries.times is not None for scoring in passes):
        of_time = getattr(scorer, "time_context", ())
        context = tuple(name for name in context if name not in of_time)
    return Evaluation(tuple(metrics), values, lists, context)


def evaluate_queries(
    scorer: Scorer,
    queries: Queries,
    targets: Histories,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    metrics: Sequence[str] | None = None,
    negatives: IndexArray | None = None,
    batch_size: int = BATCH_SIZE,
    progress: BatchCallback | None = None,
) -> Evaluation:
    """Evaluate on given queries and targets, under the protocols of `PROTOCOLS`.

    If any target is in its own history, histories are not masked: the target would be the only
    history item left among the candidates.

    Raises
    ------
    InputError
        An unknown protocol or metric, or what `rank_and_list` refuses.
    ScoreError
        A score is NaN.
    """
    seen = queries.histories.seen
    if _asks_again(seen, targets, scorer.num_items):
        seen = seen.keep(np.zeros(len(seen.items), dtype=np.bool_))
    candidates: dict[str, Candidates] = {}
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise InputError(
                f"unknown protocol {protocol!r}", f"pass one of {', '.join(PROTOCOLS)}"
            )
        if protocol != SAMPLED:
            candidates[protocol] = "unseen" if protocol == FULL else "all"
        elif negatives is not None:
            candidates[protocol] = negatives
        else:
            candidates[protocol] = sample_negatives(
                Queries(queries.users, seen), targets, scorer.num_items
            )
    rows = np.arange(len(queries))
    scoring = ScoringPass(
        TaskData(queries, targets, seen),
        candidates,
        tuple(Report(name, name, rows) for name in candidates),
        (),
    )
    return evaluate_passes(
        scorer, [scoring], metrics=metrics, batch_size=batch_size, progress=progress
    )


def _asks_again(seen: Histories, targets: Histories, num_items: int) -> bool:
    """Whether any target is among the items its query's user has seen."""
    had, asked = (histories.rows * num_items + histories.items for histories in (seen, targets))
    return bool(np.isin(asked, had).any())


def validation_ndcg(
    scorer: Scorer,
    dataset: Dataset,
    *,
    k: int = 10,
    max_queries: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> float:
    """Full-ranking NDCG@k on the validation part, for early stopping.

    A model that reads times gets the time of each target, like that of a service request.
    ``max_queries`` evaluates a random subset of the users, the same in every call. Items of the
    history are masked, unless the log has repeats.
    """
    queries, targets = dataset.held_out(Part.VALIDATION, timed=True)
    if max_queries is not None and max_queries < 1:
        raise InputError(f"max_queries must be at least 1, got {max_queries}")
    if max_queries is not None and max_queries < len(queries):
        chosen = np.random.default_rng(0).choice(len(queries), max_queries, replace=False)
        rows = np.sort(chosen)
        queries, targets = queries.select(rows), targets.select(rows)
    ranks = full_ranks(
        scorer, queries, targets, exclude_seen=not dataset.has_repeats, batch_size=batch_size
    )
    return float(ndcg_at_k(ranks, k).mean())
