from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.errors import InputError
from twotower.inference.filters import (
    ANY,
    Filters,
    category_groups,
    check_categories,
    passing,
    within_caps,
)

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
    with pytest.raises(InputError, match="min_price must be at most max_price 5, got 10"):
        Filters(min_price=10, max_price=5)


GROUPS = st.lists(st.integers(0, 3), max_size=2, unique=True).map(tuple)


@given(
    st.lists(st.tuples(GROUPS, GROUPS), max_size=40),
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 12),
)  # fmt: skip
def test_no_group_is_there_more_often_than_it_may(places, first, second, k) -> None:
    caps = [([both[0] for both in places], first), ([both[1] for both in places], second)]
    chosen = within_caps(caps, k)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= k
    for groups, most in caps:
        counted = Counter(group for place in chosen for group in groups[place])
        assert max(counted.values(), default=0) <= most
    if len(chosen) < k:  # then nothing that was passed over would have fitted
        for place in set(range(len(places))) - set(chosen):
            before = [one for one in chosen if one < place]
            assert any(
                sum(group in groups[one] for one in before) >= most
                for groups, most in caps
                for group in groups[place]
            )


SEVERAL = ("Drama|Comedy", "Comedy", "Shooter", "Drama")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(categories=("Comedy",)), [1, 1, 0, 0, 0]),
        (Filters(categories=("Drama", "Shooter")), [1, 0, 1, 1, 0]),
        (Filters(categories=("Drama|Comedy",)), [1, 0, 0, 0, 0]),
        (Filters(not_categories=("Comedy",)), [0, 0, 1, 1, 1]),
    ],
)
def test_a_field_may_name_several_categories(filters, expected) -> None:
    codes = np.array([0, 1, 2, 3, -1])
    passes = passing(filters, codes, SEVERAL, np.zeros(5))
    assert passes.tolist() == [bool(one) for one in expected]
    check_categories(filters, SEVERAL)


def test_each_of_several_categories_counts_for_a_cap() -> None:
    assert category_groups(SEVERAL) == ((0, 1), (1,), (2,), (0,))
    assert within_caps([([(0, 1), (1,), (2,), (0,)], 1)], k=4) == [0, 2]


@pytest.mark.parametrize(
    ("category", "said"),
    [
        ("shooter", "near ones are 'Shooter'"),
        ("Comdy", "near ones are 'Comedy'"),
        ("xyzzy", "for example 'Comedy', 'Drama', 'Drama|Comedy'"),
    ],
)
@pytest.mark.parametrize("field", ["categories", "not_categories"])
def test_an_unknown_category_is_refused_with_near_ones(field, category, said) -> None:
    with pytest.raises(InputError) as raised:
        check_categories(Filters(**{field: ("Drama", category)}), SEVERAL)
    assert str(raised.value).startswith(f"unknown category {category!r}; pass one of the 4 known")
    assert str(raised.value).endswith(said)


def test_where_no_item_has_a_category_all_are_unknown() -> None:
    with pytest.raises(InputError, match="leave it out: no item has a category"):
        check_categories(Filters(categories=("Drama",)), ())
    check_categories(ANY, ())
