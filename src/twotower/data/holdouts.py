"""Cold-start hold-out: users and items without any training interaction."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import polars as pl

from twotower.data import columns
from twotower.data.dataset import Dataset, Part
from twotower.errors import InputError
from twotower.types import Array, BoolArray

BY_USER: Final = 16
"""Added to the part in `Dataset.split` of interactions whose user is held out."""
BY_ITEM: Final = 32
"""Added for interactions whose item is held out; an interaction may have both marks."""
SUMMARY: Final = "hold_out"
"""Key of the hold-out record in a data set's summary."""
_PART: Final = 15
_AGGREGATES: Final = (columns.AVERAGE_RATING, columns.RATING_COUNT)
"""Catalogue columns that aggregate interactions: unknown for a new item."""


def hold_out(
    dataset: Dataset, *, users: float = 0.05, items: float = 0.02, seed: int = 0
) -> Dataset:
    """Hold out a share of users and items, with all their interactions, for cold-start evaluation.

    The interactions stay in the log, marked in ``split`` with a value that is no `Part`: fitting,
    selection and evaluation by part do not see them, but ``twotower.evaluation.tasks`` can
    evaluate on them. Id maps and the catalogue stay whole: a held-out item is a candidate, like a
    newly listed item, without the average rating and the rating count, which aggregate its
    interactions.

    The same arguments hold out the same users and items. The result has its own fingerprint, so a
    model trained on it can only be evaluated with this hold-out.

    Raises
    ------
    InputError
        For a share outside ``[0, 1)``, two shares of 0, a data set with a hold-out, or shares
        that leave nothing to train on.

    Examples
    --------
    >>> from twotower.data.ids import IdMap
    >>> from twotower.data.histories import Histories
    >>> catalogue = pl.DataFrame({"item_id": list("abcd")})
    >>> log = Histories.from_lists([[0, 1, 2], [1, 2, 3]])
    >>> parts = np.array([0, 1, 2, 0, 1, 2], np.uint8)
    >>> toy = Dataset("toy", IdMap("xy"), IdMap("abcd"), catalogue, log, parts)
    >>> hold_out(toy, users=0.5, items=0).split.tolist()
    [0, 1, 2, 16, 17, 18]
    """
    if SUMMARY in dataset.summary:
        raise InputError(
            f"data set {dataset.name!r} has users or items held out already",
            "hold them out of the data set that was prepared",
        )
    for what, share in (("users", users), ("items", items)):
        if not 0 <= share < 1:
            raise InputError(f"{what} must be a share from 0 to below 1, got {share}")
    if users == items == 0:
        raise InputError(
            "users and items are both 0: nothing is held out",
            "pass users=0.05",
            cli_fix="pass --users 0.05",
        )
    log = dataset.interactions
    # Separate random streams, so that the choice of users does not depend on the item share.
    chosen_users = _chosen(np.flatnonzero(log.lengths), users, len(log), (seed, 0))
    listed = np.unique(log.items)
    chosen_items = _chosen(listed, items, len(dataset.items), (seed, 1))
    split = np.asarray(dataset.split, dtype=np.uint8).copy()
    split += BY_USER * chosen_users[log.rows].astype(np.uint8)
    split += BY_ITEM * chosen_items[log.items].astype(np.uint8)
    if not (split == Part.TRAIN).any():
        raise InputError(
            f"nothing of {dataset.name!r} is left to train on", "hold out smaller shares"
        )
    record = {
        "users": users,
        "items": items,
        "seed": seed,
        "held_out_users": int(chosen_users.sum()),
        "held_out_items": int(chosen_items.sum()),
        "held_out_interactions": int((split > _PART).sum()),
        "of": dataset.fingerprint,
    }
    parts = {part.name.lower(): int((split == part).sum()) for part in Part}
    summary: Mapping[str, Any] = {**dataset.summary, "parts": parts, SUMMARY: record}
    catalogue = _without_aggregates(dataset.catalogue, chosen_items)
    return replace(dataset, catalogue=catalogue, split=split, summary=summary)


def parts_before_hold_out(dataset: Dataset) -> Array:
    """``(events,)`` uint8, the `Part` of each interaction as if nothing had been held out."""
    parts: Array = np.asarray(dataset.split) & _PART
    return parts


def of_new_users(dataset: Dataset) -> BoolArray:
    """``(events,)`` mask of interactions whose user is held out."""
    marked: BoolArray = (np.asarray(dataset.split) & BY_USER) > 0
    return marked


def of_new_items(dataset: Dataset) -> BoolArray:
    """``(events,)`` mask of interactions whose item is held out."""
    marked: BoolArray = (np.asarray(dataset.split) & BY_ITEM) > 0
    return marked


def _chosen(among: Array, share: float, size: int, seed: tuple[int, int]) -> BoolArray:
    """``(size,)`` mask of a random share of the indices ``among``; at least one if not 0."""
    count = max(1, round(share * len(among))) if share else 0
    chosen = np.zeros(size, dtype=np.bool_)
    chosen[np.random.default_rng(seed).choice(among, count, replace=False)] = True
    return chosen


def _without_aggregates(catalogue: pl.DataFrame, items: BoolArray) -> pl.DataFrame:
    known = pl.lit(pl.Series(~items))
    return catalogue.with_columns(
        pl.when(known).then(pl.col(name)).otherwise(None).alias(name)
        for name in _AGGREGATES
        if name in catalogue.columns
    )
