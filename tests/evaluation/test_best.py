import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twotower.data import Histories
from twotower.errors import InputError
from twotower.evaluation.best import best_items


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 400),
    st.integers(1, 12),
    st.integers(1, 30),
    st.integers(0, 10_000),
    st.floats(0, 1),
)
def test_they_are_those_of_a_full_sort(
    num_items: int, k: int, levels: int, seed: int, share_seen: float
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (3, num_items)).astype(np.float32)  # ties everywhere
    scores.flags.writeable = False
    most = int(share_seen * max(0, num_items - k))
    seen = [rng.permutation(num_items)[: rng.integers(0, most + 1)].tolist() for _ in range(3)]
    if num_items < k:
        with pytest.raises(InputError, match=f"lists of {k} items cannot be made: a query has"):
            best_items(scores, Histories.from_lists(seen), k)
        return
    found = best_items(scores, Histories.from_lists(seen), k)
    for row, own, taken in zip(found, scores, seen, strict=True):
        order = np.argsort(-own, kind="stable")
        assert row.tolist() == order[~np.isin(order, taken)][:k].tolist()


def test_infinite_scores_are_scores() -> None:
    scores = np.array([[-np.inf, np.inf, 0, -np.inf]])
    assert best_items(scores, Histories.from_lists([[]]), 4).tolist() == [[1, 2, 0, 3]]


def test_bad_input_is_refused() -> None:
    scores, seen = np.zeros((1, 4)), Histories.from_lists([[0, 1]])
    with pytest.raises(InputError, match=r"^k must be at least 1, got 0$"):
        best_items(scores, seen, 0)
    with pytest.raises(InputError, match=r"a query has 2 of 4 items left beside its history; ask"):
        best_items(scores, seen, 3)
