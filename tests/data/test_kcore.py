from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.data.kcore import k_core
from twotower.errors import InputError

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60)


def naive(pairs: list[tuple[int, int]], k: int) -> list[bool]:
    """One user or item removed at a time, until none is below k."""
    kept = [True] * len(pairs)
    while True:
        alive = [pair for pair, keep in zip(pairs, kept, strict=True) if keep]
        users, items = Counter(u for u, _ in alive), Counter(i for _, i in alive)
        low_user = next((u for u, n in users.items() if n < k), None)
        low_item = next((i for i, n in items.items() if n < k), None)
        if low_user is not None:
            kept = [keep and u != low_user for keep, (u, _) in zip(kept, pairs, strict=True)]
        elif low_item is not None:
            kept = [keep and i != low_item for keep, (_, i) in zip(kept, pairs, strict=True)]
        else:
            return kept


def run(pairs: list[tuple[int, int]], k: int) -> list[bool]:
    users, items = np.asarray(pairs, dtype=np.int32).reshape(-1, 2).T
    return list(k_core(users, items, k).kept.tolist())


@given(PAIRS, st.integers(0, 5))
def test_is_what_removal_one_by_one_leaves(pairs: list[tuple[int, int]], k: int) -> None:
    assert run(pairs, k) == naive(pairs, k)


@given(PAIRS, st.integers(1, 5))
def test_every_degree_is_at_least_k(pairs: list[tuple[int, int]], k: int) -> None:
    kept = [pair for pair, keep in zip(pairs, run(pairs, k), strict=True) if keep]
    for counts in (Counter(u for u, _ in kept), Counter(i for _, i in kept)):
        assert all(count >= k for count in counts.values())


@given(PAIRS, st.sets(st.integers(0, 6)), st.sets(st.integers(0, 6)), st.integers(1, 4))
def test_holds_every_subset_with_degrees_of_k(
    pairs: list[tuple[int, int]], users: set[int], items: set[int], k: int
) -> None:
    inside = [pair for pair in pairs if pair[0] in users and pair[1] in items]
    degrees = (Counter(u for u, _ in inside), Counter(i for _, i in inside))
    if all(count >= k for counts in degrees for count in counts.values()):
        kept = [pair for pair, keep in zip(pairs, run(pairs, k), strict=True) if keep]
        assert set(inside) <= set(kept)


@given(PAIRS, st.integers(0, 5))
def test_is_a_fixed_point(pairs: list[tuple[int, int]], k: int) -> None:
    kept = [pair for pair, keep in zip(pairs, run(pairs, k), strict=True) if keep]
    assert all(run(kept, k))


def test_a_chain_falls_in_several_rounds() -> None:
    # user 0 leaves, then item 1, then user 1, then item 2, then all
    users, items = np.array([0, 1, 1, 2, 2]), np.array([1, 1, 2, 2, 3])
    core = k_core(users, items, 2)
    assert not core.kept.any()
    assert core.rounds > 1


def test_negative_k_is_refused() -> None:
    with pytest.raises(InputError, match="k must be 0 or more, got -1"):
        k_core(np.array([0]), np.array([0]), -1)
