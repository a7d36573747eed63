"""Fold-in against the normal equations, written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.data import Histories
from twotower.factors.fold_in import FoldIn, principal_basis, solve_rows
from twotower.types import FloatArray

RNG = np.random.default_rng(3)
TABLE = principal_basis(RNG.normal(size=(300, 8)).astype(np.float32))


def solved(events: list[int], weights: FloatArray, regularisation: float) -> FloatArray:
    """One row as a dense least-squares problem: one equation an event, one an absent item."""
    table = TABLE.astype(np.float64)
    absent = np.setdiff1d(np.arange(len(table)), events)
    roots = np.sqrt(1 + weights.astype(np.float64))[:, None]
    ridge = np.sqrt(regularisation) * np.eye(8)
    rows = np.vstack([roots * table[events], table[absent], ridge])
    wanted = np.vstack([roots, np.zeros((len(absent) + 8, 1))])
    return np.linalg.lstsq(rows, wanted, rcond=None)[0][:, 0].astype(np.float32)


def test_turning_keeps_dot_products_and_orders_the_columns() -> None:
    table = RNG.normal(size=(50, 6)).astype(np.float32)
    turned = principal_basis(table)
    np.testing.assert_allclose(turned @ turned.T, table @ table.T, atol=1e-4)
    gram = turned.T @ turned
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-4)
    assert (np.diff(np.diag(gram)) <= 0).all()


@pytest.mark.parametrize("length", [1, 7, 64, 65, 200])
def test_rows_solve_the_normal_equations(length: int) -> None:
    events = RNG.choice(300, length, replace=False)
    weights = RNG.uniform(0.5, 40, length).astype(np.float32)
    found = solve_rows(
        TABLE, np.array([0, 0, length]), events, weights, np.array([2.0, 2.0], np.float32)
    )
    np.testing.assert_array_equal(found[0], 0)
    np.testing.assert_allclose(found[1], solved(list(events), weights, 2.0), rtol=1e-3, atol=1e-5)
    alone = solve_rows(TABLE, np.array([0, length]), events, weights, np.array([2.0], np.float32))
    np.testing.assert_allclose(alone, found[1:], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("length", [2, 6, 64, 65, 150])
def test_an_item_that_comes_twice_is_minimised_as_the_docstring_says(length: int) -> None:
    events = RNG.choice(max(length // 2, 1), length)
    weights = RNG.uniform(0.5, 40, length).astype(np.float32)
    penalty = np.array([2.0], np.float32)
    alone = solve_rows(TABLE, np.array([0, length]), events, weights, penalty)[0]
    np.testing.assert_allclose(alone, solved(list(events), weights, 2.0), rtol=1e-3, atol=1e-5)
    # Beside a row without repeats that is as long.
    other = RNG.choice(300, length, replace=False)
    both = solve_rows(
        TABLE, np.array([0, length, 2 * length]), np.append(other, events),
        np.append(weights, weights), np.array([2.0, 2.0], np.float32),
    )  # fmt: skip
    np.testing.assert_allclose(both[1], alone, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(both[0], solved(list(other), weights, 2.0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("history", [[4, 9, 4, 17, 4], [7, 7], [250], [4, 9, 17]])
def test_one_history_folds_in_as_the_dense_problem(history: list[int]) -> None:
    fold = FoldIn(TABLE, confidence=10, recency=0.5, regularisation=1)
    weights = (10 * 0.5 ** np.arange(len(history))[::-1]).astype(np.float32)
    found = fold(Histories.from_lists([history]))[0]
    np.testing.assert_allclose(found, solved(history, weights, 1.0), rtol=1e-3, atol=1e-5)


@given(st.lists(st.lists(st.integers(0, 299), max_size=12), max_size=6))
def test_a_history_folds_in_alike_alone_and_among_others(histories: list[list[int]]) -> None:
    fold = FoldIn(TABLE, confidence=10, recency=0.5, regularisation=1)
    together = fold(Histories.from_lists(histories))
    assert together.shape == (len(histories), 8)
    for row, history in enumerate(histories):
        alone = fold(Histories.from_lists([history]))
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_newer_events_weigh_more() -> None:
    fold = FoldIn(TABLE, confidence=10, recency=0.5, regularisation=1)
    found = fold(Histories.from_lists([[4, 9, 17]]))
    weights = np.array([2.5, 5, 10], np.float32)
    np.testing.assert_allclose(found[0], solved([4, 9, 17], weights, 1.0), rtol=1e-3, atol=1e-5)


def test_only_the_newest_events_are_read() -> None:
    fold = FoldIn(TABLE, confidence=10, recency=0.9, regularisation=1, length=2)
    found = fold(Histories.from_lists([[250, 4, 9], [4, 9]]))
    np.testing.assert_array_equal(found[0], found[1])


def test_weights_that_fade_away_divide_nothing_by_zero() -> None:
    fold = FoldIn(TABLE, confidence=10, recency=0.1, regularisation=1)
    found = fold(Histories.from_lists([list(range(150)), list(range(60))]))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("length", [9, 30, 120])
@pytest.mark.parametrize("repeats", [False, True])
def test_old_events_count_as_events_of_no_extra_weight(length: int, repeats: bool) -> None:
    fold = FoldIn(TABLE, confidence=10, recency=0.1, regularisation=1)
    assert fold.reach < 9
    history = RNG.choice(300, length, replace=False).tolist()
    if repeats:
        history[0] = history[3] = history[-1]
    weights = (10 * 0.1 ** np.arange(length)[::-1]).astype(np.float32)
    expected = solved(history, weights, 1.0)
    alone = fold(Histories.from_lists([history]))[0]
    np.testing.assert_allclose(alone, expected, rtol=1e-3, atol=1e-4)
    others = fold(Histories.from_lists([[4], history, [], [5, 6, 7]]))
    np.testing.assert_allclose(others[1], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(others[3], fold(Histories.from_lists([[5, 6, 7]]))[0], atol=1e-5)


def test_without_forgetting_every_event_is_weighed() -> None:
    assert FoldIn(TABLE, confidence=10, recency=1.0, regularisation=1, length=70).reach == 70
