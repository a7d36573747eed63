"""The best items under an eligibility mask are those of a full sort, ties by item."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twotower.data import Histories
from twotower.index import top_k, top_k_of

SIZES = st.one_of(st.integers(1, 40), st.integers(100, 900))


def draw_scores(rng, rows, size, levels):
    """Read-only scores, with ties everywhere at few levels."""
    scores = rng.integers(0, levels, (rows, size)).astype(np.float32)
    scores.flags.writeable = False
    return scores


@settings(deadline=None, max_examples=150)
@given(SIZES, st.integers(1, 45), st.sampled_from([1, 2, 30, 10**6]), st.integers(0, 10_000))
def test_a_block_equals_a_full_sort_without_the_excluded(size, k, levels, seed):
    rng = np.random.default_rng(seed)
    scores = draw_scores(rng, 3, size, levels)
    # Repeats, nothing, and all of the items.
    rows = [rng.integers(0, size, 2 * size), [], range(size), rng.integers(0, size, 3)][:3]
    excluded = Histories.from_lists([list(map(int, row)) for row in rows])
    found, items = top_k(scores, k, excluded)
    assert found.shape == items.shape == (3, k)
    assert items.dtype == np.int64
    for row, own in enumerate(scores):
        order = np.argsort(-own, kind="stable")
        true = order[~np.isin(order, excluded.row(row))][:k].tolist()
        assert items[row].tolist() == true + [-1] * (k - len(true))
        assert found[row].tolist() == own[true].tolist() + [-np.inf] * (k - len(true))


@settings(deadline=None, max_examples=150)
@given(SIZES, st.integers(1, 45), st.sampled_from([1, 2, 30, 10**6]), st.floats(0, 1), st.data())
def test_one_query_equals_a_full_sort_of_what_is_eligible(size, k, levels, share, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    (scores,) = draw_scores(rng, 1, size, levels)
    eligible = rng.random(size) < share
    order = np.argsort(-scores, kind="stable")
    assert top_k_of(scores, k).tolist() == order[:k].tolist()
    assert top_k_of(scores, k, eligible).tolist() == order[eligible[order]][:k].tolist()


@pytest.mark.parametrize("k", [1, 10, 100, 5000])
def test_the_order_of_the_catalogue_makes_no_difference(k):
    """All of the best in one chunk: the bound by chunks lets nearly everything through."""
    scores = np.arange(4000, dtype=np.float32)
    assert top_k_of(scores, k).tolist() == list(range(3999, -1, -1))[:k]
    assert top_k_of(-scores, k).tolist() == list(range(4000))[:k]
    assert top_k_of(np.zeros(4000, np.float32), k).tolist() == list(range(4000))[:k]


def test_infinite_scores_are_scores():
    scores = np.array([[-np.inf, np.inf, 0, -np.inf]])
    assert top_k(scores, 5).items.tolist() == [[1, 2, 0, 3, -1]]


def test_the_result_has_the_type_of_the_scores():
    for dtype in (np.float32, np.float64):
        assert top_k(np.ones((2, 3), dtype), 2).scores.dtype == dtype


def test_nothing_is_eligible():
    assert top_k_of(np.ones(3, np.float32), 2, np.zeros(3, np.bool_)).tolist() == []


def test_no_queries():
    none = Histories.from_lists([])
    scores, items = top_k(np.empty((0, 5), np.float32), 3, none)
    assert scores.shape == items.shape == (0, 3)
