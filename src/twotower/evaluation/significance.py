"""Bootstrap intervals, paired randomisation tests and the Holm correction, over queries."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from twotower.errors import InputError
from twotower.types import DoubleArray

RESAMPLES: Final = 20_000
_CHUNK_DRAWS: Final = 1 << 22
"""Query indices drawn at a time: 32 MiB."""
_CHUNK_SIGNS: Final = 1 << 24
"""Signs drawn at a time: 128 MiB as float64."""


def bootstrap_interval(
    values: DoubleArray, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[DoubleArray, DoubleArray]:
    """Percentile bootstrap interval of each column's mean (Efron and Tibshirani, 1993).

    All columns are resampled by the same rows.

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


def sign_flip_test(
    differences: DoubleArray, *, resamples: int = RESAMPLES, seed: int = 0
) -> DoubleArray:
    r"""Two-sided paired randomisation test of each column's mean (Fisher, 1935).

    Where two models are alike, a user's difference is as likely to have either sign. With
    random signs :math:`s_u` for every user,

    .. math:: p = \frac{1 + \#\{|\sum_u s_u d_u| \ge |\sum_u d_u|\}}{1 + \text{resamples}}

    All columns are flipped by the same signs. Smucker, Allan and Carterette (CIKM 2007) compare
    the test with others for retrieval metrics.

    Parameters
    ----------
    differences
        ``(queries, metrics)``, one model's values minus the other's, query by query.
    resamples
        Random sign vectors; no p-value is below ``1 / (resamples + 1)``.

    Returns
    -------
    p
        ``(metrics,)``; 1 where all differences of a column are 0.

    Examples
    --------
    >>> bool(sign_flip_test(np.full((12, 1), 0.5), resamples=999)[0] < 0.01)
    True
    >>> sign_flip_test(np.zeros((12, 1)), resamples=999)
    array([1.])
    """
    if differences.ndim != 2 or len(differences) == 0:
        raise InputError(
            f"differences must be (queries, metrics) and not empty, got {differences.shape}"
        )
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, got {resamples}")
    # Users for whom both models do the same add nothing under any sign.
    moving = differences[(differences != 0).any(axis=1)]
    total = moving.sum(axis=0)
    # Sums that are equal on paper differ by rounding.
    threshold = np.abs(total) - 1e-9 * np.abs(moving).sum(axis=0)
    rng = np.random.default_rng(seed)
    as_extreme = np.zeros(differences.shape[1], dtype=np.int64)
    width = -(-len(moving) // 8)
    step = max(1, _CHUNK_SIGNS // max(len(moving), 1))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        bits = np.frombuffer(rng.bytes(rows * width), dtype=np.uint8).reshape(rows, width)
        flipped = np.unpackbits(bits, axis=1, count=len(moving)).astype(np.float64) @ moving
        # A sign is 2 * bit - 1, and so the sum under the signs is 2 * flipped - total.
        as_extreme += (np.abs(2 * flipped - total) >= threshold).sum(axis=0)
    return np.asarray((1.0 + as_extreme) / (resamples + 1.0), dtype=np.float64)


def holm_bonferroni(p: Sequence[float] | DoubleArray) -> DoubleArray:
    """Adjusted p-values of a family of tests (Holm, Scandinavian Journal of Statistics 1979).

    Calling those below ``alpha`` real makes a false call anywhere in the family with a chance
    of at most ``alpha``, however the tests depend on each other.

    Examples
    --------
    >>> holm_bonferroni([0.01, 0.04, 0.03]).round(3)
    array([0.03, 0.06, 0.06])
    """
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"p-values must be a list of numbers from 0 to 1, got {values.tolist()}")
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted
