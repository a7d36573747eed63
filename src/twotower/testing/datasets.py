"""Small data sets with a known answer, for tests."""

import numpy as np
import polars as pl

from twotower.data import Dataset, Histories, IdMap, columns
from twotower.features.text import HashingText
from twotower.types import FloatArray


def block_dataset() -> Dataset:
    """60 users and 40 items in two disjoint blocks: even users have even items only.

    Twelve items per user, the last two held out; ratings, times, titles, categories and years,
    which make every feature informative. A model that learns anything ranks the items of a user's
    block first.
    """
    users, items, length = 60, 40, 12
    rng = np.random.default_rng(3)
    lists = [2 * rng.permutation(items // 2)[:length] + user % 2 for user in range(users)]
    events = users * length
    times = 1_600_000_000_000 + np.sort(rng.integers(0, 10**10, (users, length)), axis=1)
    log = Histories(
        np.arange(users + 1, dtype=np.int64) * length,
        np.concatenate(lists).astype(np.int32),
        rng.integers(1, 6, events).astype(np.float32),
        times.ravel(),
    )
    ids = [f"i{item:02}" for item in range(items)]
    catalogue = pl.DataFrame(
        {
            columns.ITEM_ID: ids,
            columns.TITLE: [f"{('Dragon', 'Racing')[i % 2]} Saga {i // 2}" for i in range(items)],
            columns.DESCRIPTION: [None] * items,
            columns.PRICE: rng.uniform(5, 60, items).astype(np.float32),
            columns.CATEGORY: [("role-playing", "sport")[i % 2] for i in range(items)],
            columns.AVERAGE_RATING: [None] * items,
            columns.RATING_COUNT: [None] * items,
            columns.IMAGE: [None] * items,
            columns.RELEASED: [None, *(1990.0 + 7 * i % 30 for i in range(1, items))],
        }
    )
    return Dataset(
        "blocks",
        IdMap([f"u{user:02}" for user in range(users)], "user"),
        IdMap(ids, "item"),
        catalogue,
        log,
        np.tile([0] * (length - 2) + [1, 2], users).astype(np.uint8),
        {"settings": {"split": {"kind": "leave-last-two"}}},
    )


def hashed_titles(dataset: Dataset) -> FloatArray:
    """``(items, 384)`` vectors of the titles by `HashingText`, which needs no extra."""
    return HashingText().encode(dataset.catalogue[columns.TITLE].to_list())
