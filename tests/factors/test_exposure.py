"""Bounds on the places that items without events take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.factors.exposure import LIST_LENGTH, ListBars, bounding_scale, places_taken

RNG = np.random.default_rng(5)


def merged_share(known: np.ndarray, cold: np.ndarray) -> float:
    """Share of cold items among the best of both, by sorting."""
    scores = np.concatenate([known, cold], axis=1)
    best = np.argsort(-scores, axis=1, kind="stable")[:, : known.shape[1]]
    return float((best >= known.shape[1]).mean())


@given(st.integers(0, 1000), st.floats(0, 1), st.integers(1, 10))
def test_the_scale_is_the_largest_that_keeps_the_share(seed: int, share: float, width: int) -> None:
    rng = np.random.default_rng(seed)
    known = -np.sort(-rng.uniform(0.1, 1, (7, 10)).astype(np.float32), axis=1)
    cold = -np.sort(-rng.uniform(-1, 3, (7, width)).astype(np.float32), axis=1)
    assert places_taken(known, cold) == pytest.approx(merged_share(known, cold))
    scale = bounding_scale(known, cold, share)
    assert merged_share(known, np.float32(scale) * cold) <= share + 1e-9
    if scale < 1:  # a little more would be too much
        assert merged_share(known, np.float32(scale * 1.001) * cold) > share - 1 / known.size


def bars_of(users: np.ndarray, items: np.ndarray, share: float = 0.05) -> ListBars:
    scores = np.sort(users @ items.T, axis=1)
    return ListBars(users, scores[:, -LIST_LENGTH], len(items), share)


def test_an_added_item_that_everyone_would_get_is_bounded() -> None:
    users = np.abs(RNG.normal(size=(400, 4))).astype(np.float32)
    items = np.abs(RNG.normal(size=(1000, 4))).astype(np.float32)
    bars = bars_of(users, items)
    flood = np.full((20, 4), 9.0, np.float32)
    scales, lists = bars.scales(flood)
    assert lists.min() == 1
    in_lists = (users @ (flood * scales[:, None]).T > bars.bars[:, None]).mean(axis=0)
    assert in_lists.sum() <= 0.05 * LIST_LENGTH + 1e-9  # of all places, all twenty together
    # After a thousand others each has the part of an average item.
    late = bars.scales(flood[:1], added=1000)[0]
    assert (users @ (late * flood[0]) > bars.bars).mean() <= LIST_LENGTH / len(items)


def test_an_item_that_takes_no_more_than_its_part_is_left_as_it_is() -> None:
    users = RNG.normal(size=(400, 8)).astype(np.float32)
    items = RNG.normal(size=(1000, 8)).astype(np.float32)
    bars = bars_of(users, items)
    scales, _ = bars.scales(0.3 * items[:50])
    np.testing.assert_array_equal(scales, 1)


@pytest.mark.parametrize("bar", [0.0, -1.0])
def test_users_whose_lists_end_at_nothing_bound_too(bar: float) -> None:
    bars = ListBars(np.ones((10, 1), np.float32), np.full(10, bar, np.float32), 1000, 0.05)
    scales, lists = bars.scales(np.ones((1, 1), np.float32))
    assert 0 < scales[0] <= 1e-5
    assert lists[0] == 1
