"""Percentile bootstrap intervals over queries (Efron and Tibshirani, 1993)."""

import numpy as np

from twotower.errors import InputError
from twotower.types import DoubleArray

_CHUNK_DRAWS = 1 << 22
"""Query indices drawn at a time: 32 MiB."""


def bootstrap_interval(
    values: DoubleArray, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[DoubleArray, DoubleArray]:
    """Interval of the mean of each column, all columns under the same resamples of rows.

    For the difference of two models pass the difference of their per-query values: the
    pairing of the queries is then kept, which makes the interval narrower.

    Parameters
    ----------
    values
        ``(queries, metrics)``; several seeds of a model are averaged query by query first,
        so that the interval is over users and not over runs.
    confidence
        Share of resampled means inside the interval.

    Returns
    -------
    low, high
        ``(metrics,)`` each.

    Examples
    --------
    >>> low, high = bootstrap_interval(np.array([[0.0], [1.0]] * 50))
    >>> bool(0.35 < low[0] < 0.45 and 0.55 < high[0] < 0.65)
    True
    """
    if values.ndim != 2 or len(values) == 0:
        raise InputError(f"values must be (queries, metrics) and not empty, got {values.shape}")
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, got {resamples}")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, got {confidence}")
    rng = np.random.default_rng(seed)
    queries = len(values)
    means = np.empty((resamples, values.shape[1]))
    step = max(1, _CHUNK_DRAWS // queries)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, queries, size=(rows, queries), dtype=np.int32)
        # How often each query was drawn: a matrix product with the counts replaces gathering
        # every metric of every drawn query.
        counts = np.stack([np.bincount(draw, minlength=queries) for draw in drawn])
        means[start : start + rows] = counts.astype(np.float64) @ values / queries
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low, high
