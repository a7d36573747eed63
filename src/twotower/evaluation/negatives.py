"""Sampled negatives, drawn from a seed and stored, the same for every model."""

from pathlib import Path

import numpy as np
import polars as pl

from twotower.data import Histories, Queries
from twotower.data.atomic import atomic_file
from twotower.errors import ArtefactError, InputError
from twotower.types import IndexArray, OffsetArray


def sample_negatives(
    queries: Queries, targets: Histories, num_items: int, *, count: int = 100, seed: int = 0
) -> IndexArray:
    """Draw items outside each query's history and targets.

    Uniform and without replacement within a query. The same arguments give the same
    negatives, whatever the model.

    Returns
    -------
    negatives
        ``(queries, count)`` int32, ascending within a row.

    Raises
    ------
    InputError
        Where ``count`` is below 1, or a query has fewer than ``count`` items left.
    """
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}")
    excluded = _excluded(queries, targets, num_items)
    rows = excluded // num_items
    lengths = np.bincount(rows, minlength=len(queries))
    left = num_items - lengths
    if len(left) and left.min() < count:
        query = int(left.argmin())
        raise InputError(
            f"{count} negatives cannot be drawn for query {query}: "
            f"{left[query]} of {num_items} items are left beside its history and targets",
            f"pass count={left[query]} or less",
        )
    ordinals = np.sort(_distinct_ordinals(left, count, np.random.default_rng(seed)), axis=1)
    # The r-th free item is r plus the number of excluded items before it. The j-th excluded
    # item e_j has e_j - j free items before it, so that number is how many e_j - j are <= r.
    first = np.cumsum(lengths) - lengths
    free_before = excluded % num_items - (np.arange(len(excluded)) - first[rows])
    offsets = np.arange(len(queries), dtype=np.int64)[:, None] * (num_items + 1)
    skipped = np.searchsorted(rows * (num_items + 1) + free_before, offsets + ordinals, "right")
    return (ordinals + skipped - first[:, None]).astype(np.int32)


def save_negatives(path: Path, queries: Queries, negatives: IndexArray) -> None:
    """Write negatives to a Parquet file: one row per query, ``user_index`` and ``negatives``."""
    table = pl.DataFrame({"user_index": queries.users, "negatives": negatives})
    with atomic_file(path) as temporary:
        table.write_parquet(temporary)


def load_negatives(path: Path, queries: Queries, targets: Histories, num_items: int) -> IndexArray:
    """Read what `save_negatives` wrote, for the same queries.

    Raises
    ------
    ArtefactError
        Where the file is missing or broken, or is of other users, histories or targets.
    """
    try:
        table = pl.read_parquet(path)
        users = table["user_index"].to_numpy()
        negatives: IndexArray = table["negatives"].to_numpy()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtefactError(
            f"{path} is not a readable file of negatives ({error}); delete it to draw them again"
        ) from error
    excluded = _excluded(queries, targets, num_items)
    keys = np.arange(len(negatives))[:, None] * num_items + negatives
    if not np.array_equal(users, queries.users) or np.isin(keys, excluded).any():
        raise ArtefactError(
            f"{path} holds the negatives of another data set or split; delete it to draw them again"
        )
    return negatives


def _excluded(queries: Queries, targets: Histories, num_items: int) -> OffsetArray:
    """Distinct items of histories and targets, as ascending keys row * num_items + item."""
    keys = [rows.rows * num_items + rows.items for rows in (queries.histories, targets)]
    return np.unique(np.concatenate(keys))


def _distinct_ordinals(left: OffsetArray, count: int, rng: np.random.Generator) -> IndexArray:
    """``(queries, count)`` distinct numbers below ``left`` of each row.

    Floyd's sampling (Bentley and Floyd, 1987), one step for all rows at a time: it never
    rejects, so that a row with hardly more than ``count`` items left costs no more.
    """
    chosen = np.empty((len(left), count), dtype=np.int32)
    for step in range(count):
        last = left - count + step
        drawn = rng.integers(0, last + 1)
        taken = (chosen[:, :step] == drawn[:, None]).any(axis=1)
        chosen[:, step] = np.where(taken, last, drawn)
    return chosen
