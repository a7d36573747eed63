from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twotower.data import Dataset, Part, columns
from twotower.data.holdouts import (
    SUMMARY,
    hold_out,
    of_new_items,
    of_new_users,
    parts_before_hold_out,
)
from twotower.errors import InputError


@settings(deadline=None, max_examples=25)
@given(st.floats(0.02, 0.5), st.floats(0.02, 0.5), st.integers(0, 5))
def test_no_part_has_an_event_of_what_is_held_out(
    blocks: Dataset, users: float, items: float, seed: int
) -> None:
    made = hold_out(blocks, users=users, items=items, seed=seed)
    log, record = made.interactions, made.summary[SUMMARY]
    new_users = np.unique(log.rows[of_new_users(made)])
    new_items = np.unique(log.items[of_new_items(made)])
    assert len(new_users) == record["held_out_users"] == max(1, round(users * 60))
    assert len(new_items) == record["held_out_items"] == max(1, round(items * 40))
    held = np.isin(log.rows, new_users) | np.isin(log.items, new_items)
    assert record["held_out_interactions"] == held.sum()
    np.testing.assert_array_equal(parts_before_hold_out(made), blocks.split)
    np.testing.assert_array_equal(made.split[~held], blocks.split[~held])
    for part in Part:
        kept = made.part(part)
        assert not np.isin(kept.items, new_items).any()
        assert (kept.lengths[new_users] == 0).all()
        assert made.summary["parts"][part.name.lower()] == len(kept.items)
    assert sum(made.summary["parts"].values()) + held.sum() == len(log.items)


def test_the_same_arguments_hold_out_the_same(blocks: Dataset) -> None:
    first, again = hold_out(blocks), hold_out(blocks)
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != blocks.fingerprint == first.summary[SUMMARY]["of"]
    assert hold_out(blocks, seed=1).fingerprint != first.fingerprint
    more = hold_out(blocks, items=0.3)
    np.testing.assert_array_equal(of_new_users(more), of_new_users(first))  # items move no user


def test_it_is_saved_and_loaded_as_any_data_set(blocks: Dataset, tmp_path: Path) -> None:
    made = hold_out(blocks)
    loaded = Dataset.load(made.save(tmp_path / "cold"))
    assert loaded.fingerprint == made.fingerprint
    assert loaded.summary[SUMMARY] == made.summary[SUMMARY]
    np.testing.assert_array_equal(of_new_items(loaded), of_new_items(made))


def test_sums_over_interactions_of_new_items_leave_the_catalogue(blocks: Dataset) -> None:
    rated = blocks.catalogue.with_columns(
        pl.lit(4.5).alias(columns.AVERAGE_RATING), pl.lit(9).alias(columns.RATING_COUNT)
    )
    made = hold_out(replace(blocks, catalogue=rated), items=0.25)
    new = np.zeros(40, dtype=bool)
    new[made.interactions.items[of_new_items(made)]] = True
    for name in (columns.AVERAGE_RATING, columns.RATING_COUNT):
        assert made.catalogue[name].is_null().to_numpy().tolist() == new.tolist()
    other = [name for name in rated.columns if name not in ("average_rating", "rating_count")]
    assert made.catalogue.select(other).equals(rated.select(other))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"users": 1.0}, "users must be a share from 0 to below 1, got 1.0"),
        ({"items": -0.1}, "items must be a share from 0 to below 1, got -0.1"),
        ({"users": 0, "items": 0}, "nothing is held out; pass users=0.05"),
        ({"users": 0.999}, "nothing of 'blocks' is left to train on; hold out smaller shares"),
    ],
)
def test_impossible_shares_are_refused(blocks: Dataset, shares: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hold_out(blocks, **shares)


def test_a_second_hold_out_is_refused(blocks: Dataset) -> None:
    with pytest.raises(InputError, match=r"has users or items held out already; hold them out of"):
        hold_out(hold_out(blocks), seed=1)
