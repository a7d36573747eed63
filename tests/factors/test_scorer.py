import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twotower.data import Histories
from twotower.factors.scorer import distinct, history_sums

ROWS = st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=5)


@given(ROWS)
def test_history_sums_add_the_rows_of_each_history(rows: list[list[int]]) -> None:
    table = np.arange(12, dtype=np.float32).reshape(6, 2)
    expected = np.array([table[row].sum(axis=0) for row in rows]).reshape(len(rows), 2)
    np.testing.assert_array_equal(history_sums(Histories.from_lists(rows), table), expected)


@given(ROWS)
def test_distinct_keeps_the_first_event_of_each_item(rows: list[list[int]]) -> None:
    found = distinct(Histories.from_lists(rows))
    assert [found.row(row).tolist() for row in range(len(rows))] == [
        list(dict.fromkeys(row)) for row in rows
    ]
