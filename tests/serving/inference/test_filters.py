import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from twotower.inference.filters import ANY, Filters, passing, within_caps

NAMES = ("rpg", "sport")
CATEGORIES = np.array([0, 1, -1, 0, 1])
PRICES = np.array([10.0, 20.0, 30.0, np.nan, 5.0])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (ANY, [1, 1, 1, 1, 1]),
        (Filters(categories=("rpg",)), [1, 0, 0, 1, 0]),
        (Filters(categories=("rpg", "sport")), [1, 1, 0, 1, 1]),
        (Filters(categories=("unheard of",)), [0, 0, 0, 0, 0]),
        (Filters(not_categories=("rpg",)), [0, 1, 1, 0, 1]),
        (Filters(min_price=10), [1, 1, 1, 0, 0]),
        (Filters(max_price=10), [1, 0, 0, 0, 1]),
        (Filters(min_price=10, max_price=20, categories=("sport",)), [0, 1, 0, 0, 0]),
    ],
)
def test_what_passes(filters, expected) -> None:
    assert passing(filters, CATEGORIES, NAMES, PRICES).tolist() == [bool(one) for one in expected]


def test_prices_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="min_price must be at most max_price 5, got 10"):
        Filters(min_price=10, max_price=5)


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), max_size=40),
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 12),
)  # fmt: skip
def test_no_kind_is_there_more_often_than_it_may(kinds, first, second, k) -> None:
    columns = np.array(kinds, dtype=np.int64).reshape(-1, 2).T
    chosen = within_caps([(columns[0], first), (columns[1], second)], k)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= k
    for column, most in ((columns[0], first), (columns[1], second)):
        counted = column[chosen]
        assert np.bincount(counted[counted >= 0], minlength=1).max(initial=0) <= most
    if len(chosen) < k:  # then nothing that was passed over would have fitted
        for place in set(range(len(kinds))) - set(chosen):
            before = [one for one in chosen if one < place]
            assert any(
                column[place] >= 0 and (column[before] == column[place]).sum() >= most
                for column, most in ((columns[0], first), (columns[1], second))
            )
