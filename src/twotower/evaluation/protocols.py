"""How a model is evaluated on a prepared data set, and the rows that come of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from twotower.data import Dataset, Histories, Part, Queries
from twotower.errors import InputError
from twotower.evaluation.bootstrap import bootstrap_interval
from twotower.evaluation.counting import Candidates
from twotower.evaluation.metrics import metric_values, ndcg_at_k
from twotower.evaluation.negatives import sample_negatives
from twotower.evaluation.ranking import BATCH_SIZE, Progress, full_ranks, rank_targets
from twotower.evaluation.results import Row
from twotower.models.base import Scorer
from twotower.types import DoubleArray, IndexArray

FULL: Final = "full"
"""Rank among the whole catalogue without the query's history."""
FULL_UNMASKED: Final = "full-unmasked"
"""Rank among the whole catalogue, what the query has seen included."""
SAMPLED: Final = "sampled-100"
"""Rank among 100 sampled negatives."""
PROTOCOLS: Final = (FULL, FULL_UNMASKED, SAMPLED)

METRICS: Final = ("HR@5", "HR@10", "HR@20", "NDCG@10", "NDCG@20", "MRR")
"""What is reported where a query has one target."""
METRICS_OF_SEVERAL: Final = (*METRICS, "Recall@20")
"""What is reported where a query has several; with one, Recall@20 equals HR@20."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Per-query values of one model, trained with one seed.

    Attributes
    ----------
    metrics
        Names of the columns.
    values
        Protocol → ``(queries, metrics)`` float64.
    """

    metrics: tuple[str, ...]
    values: Mapping[str, DoubleArray]

    def mean(self, protocol: str, metric: str) -> float:
        """Mean over the queries."""
        return float(self.values[protocol][:, self.metrics.index(metric)].mean())


def evaluate(
    scorer: Scorer,
    dataset: Dataset,
    *,
    part: Part = Part.TEST,
    protocols: Sequence[str] = PROTOCOLS,
    metrics: Sequence[str] | None = None,
    negatives: IndexArray | None = None,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate on every user of ``part``, all protocols in one pass over the scores.

    Parameters
    ----------
    negatives
        ``(queries, 100)`` for the protocol ``sampled-100``, for example stored ones; None
        draws them from seed 0, which gives every model the same.
    metrics
        None reports `METRICS`, and Recall@20 too where a query has several targets.

    See `evaluate_queries` for the rest.
    """
    queries, targets = dataset.held_out(part)
    return evaluate_queries(
        scorer,
        queries,
        targets,
        protocols=protocols,
        metrics=metrics,
        negatives=negatives,
        batch_size=batch_size,
        progress=progress,
    )


def evaluate_queries(
    scorer: Scorer,
    queries: Queries,
    targets: Histories,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    metrics: Sequence[str] | None = None,
    negatives: IndexArray | None = None,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate on the given queries: a segment of the users, or histories cut short.

    Raises
    ------
    InputError
        An unknown protocol or metric, or what `rank_targets` refuses.
    ScoreError
        A score is NaN.
    """
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
            candidates[protocol] = sample_negatives(queries, targets, scorer.num_items)
    ranks = rank_targets(
        scorer, queries, targets, candidates, batch_size=batch_size, progress=progress
    )
    if metrics is None:
        metrics = METRICS_OF_SEVERAL if int(targets.lengths.max()) > 1 else METRICS
    return Evaluation(
        tuple(metrics), {name: metric_values(found, metrics) for name, found in ranks.items()}
    )


def result_rows(
    runs: Mapping[int, Evaluation], *, dataset: str, split: str, model: str, resamples: int = 1000
) -> list[Row]:
    """Rows of a results file from the runs of one model, by training seed.

    Values are averaged over the seeds query by query; the interval is the 95% percentile
    bootstrap over queries of that average.

    Raises
    ------
    InputError
        No runs, or runs with different metrics, protocols or numbers of queries.
    """
    if not runs:
        raise InputError(f"no runs of {model!r} to report", "evaluate at least one seed")
    first = next(iter(runs.values()))
    for seed, run in runs.items():
        if _shape(run) != _shape(first):
            raise InputError(
                f"runs of {model!r} must agree in metrics, protocols and queries, "
                f"got {_shape(first)} and, for seed {seed}, {_shape(run)}"
            )
    rows = []
    for protocol in first.values:
        values = np.mean([run.values[protocol] for run in runs.values()], axis=0)
        low, high = bootstrap_interval(values, resamples=resamples)
        means = values.mean(axis=0)
        rows += [
            Row(
                dataset=dataset,
                split=split,
                model=model,
                protocol=protocol,
                metric=metric,
                value=float(means[column]),
                low=float(low[column]),
                high=float(high[column]),
                seeds=sorted(runs),
                users=len(values),
            )
            for column, metric in enumerate(first.metrics)
        ]
    return rows


def validation_ndcg(
    scorer: Scorer,
    dataset: Dataset,
    *,
    k: int = 10,
    max_queries: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> float:
    """Full-ranking NDCG@k on the validation part, for early stopping.

    ``max_queries`` evaluates a random subset of the users instead, the same in every call.
    """
    queries, targets = dataset.held_out(Part.VALIDATION)
    if max_queries is not None and max_queries < 1:
        raise InputError(f"max_queries must be at least 1, got {max_queries}")
    if max_queries is not None and max_queries < len(queries):
        chosen = np.random.default_rng(0).choice(len(queries), max_queries, replace=False)
        rows = np.sort(chosen)
        queries, targets = queries.select(rows), targets.select(rows)
    return float(ndcg_at_k(full_ranks(scorer, queries, targets, batch_size=batch_size), k).mean())


def _shape(run: Evaluation) -> dict[str, tuple[tuple[str, ...], int]]:
    return {protocol: (run.metrics, len(values)) for protocol, values in run.values.items()}
