"""Per-query values of an evaluation, and the rows of a results file made from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twotower.errors import InputError
from twotower.evaluation.beyond_accuracy import ListFigures
from twotower.evaluation.results import Row
from twotower.evaluation.significance import bootstrap_interval
from twotower.types import DoubleArray


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Per-query values of one model, trained with one seed."""

    metrics: tuple[str, ...]
    """Names of the columns of ``values``."""
    values: Mapping[str, DoubleArray]
    """Name of a protocol or segment → ``(queries, metrics)`` float64."""
    lists: Mapping[str, ListFigures] = field(default_factory=dict)
    """Protocol of lists → their beyond-accuracy figures."""
    context: tuple[str, ...] = ()
    """Declared context columns that the model read from each target's own event."""

    def mean(self, protocol: str, metric: str) -> float:
        """Mean over the queries."""
        return float(self.values[protocol][:, self.metrics.index(metric)].mean())


def result_rows(
    runs: Mapping[int, Evaluation], *, dataset: str, split: str, model: str, resamples: int = 1000
) -> list[Row]:
    """Rows of a results file from the runs of one model, by training seed.

    Values are averaged over the seeds query by query; the interval is the 95% percentile
    bootstrap over queries of that average. Figures for all lists together, such as coverage,
    are averaged over the seeds and have no interval.

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
    every = list(runs.values())
    named: dict[str, Any] = {
        "dataset": dataset,
        "split": split,
        "model": model,
        "seeds": sorted(runs),
        "context": sorted({name for run in every for name in run.context}),
    }
    rows = []
    for protocol in first.values:
        values = np.mean([run.values[protocol] for run in every], axis=0)
        rows += _with_intervals(values, first.metrics, resamples, named | {"protocol": protocol})
    for protocol, lists in first.lists.items():
        named |= {"protocol": protocol}
        values = np.mean([run.lists[protocol].values for run in every], axis=0)
        rows += _with_intervals(values, lists.metrics, resamples, named)
        for metric in lists.totals:
            value = float(np.mean([run.lists[protocol].totals[metric] for run in every]))
            rows.append(Row(**named, metric=metric, value=value, users=len(values)))
    return rows


def _with_intervals(
    values: DoubleArray, metrics: tuple[str, ...], resamples: int, named: Mapping[str, Any]
) -> list[Row]:
    """One row for each column of ``(queries, metrics)`` values."""
    low, high = bootstrap_interval(values, resamples=resamples)
    means = values.mean(axis=0)
    return [
        Row(
            **named,
            metric=metric,
            value=float(means[column]),
            low=float(low[column]),
            high=float(high[column]),
            users=len(values),
        )
        for column, metric in enumerate(metrics)
    ]


def _shape(run: Evaluation) -> dict[str, tuple[tuple[str, ...], int]]:
    shape = {protocol: (run.metrics, len(values)) for protocol, values in run.values.items()}
    shape |= {
        protocol: (figures.metrics, len(figures.values)) for protocol, figures in run.lists.items()
    }
    return shape
