import numpy as np
import pytest

from twotower.factors.cold_items import ColdItems
from twotower.factors.text_smoothing import Nearness

TABLE = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], np.float32)
NEVER = Nearness(np.zeros((4, 2), np.float32), np.zeros((4, 2), np.float32))
"""Nobody knows when an item came out."""
FACTORS = np.array([[1, 0, 0], [3, 0, 0], [0, 5, 0], [0, 7, 0]], np.float32)


def test_an_item_borrows_the_factors_of_the_items_that_read_like_it() -> None:
    cold = ColdItems(neighbours=2, factor_scale=1.5, tower_scale=2)
    text = np.array([[1, 0], [0, 1]], np.float32)
    nearest = cold.nearest(text, TABLE, np.ones(4, np.bool_), NEVER)
    assert [sorted(row) for row in nearest.tolist()] == [[0, 1], [2, 3]]
    vectors = cold.vectors(np.ones((2, 2), np.float32), nearest, FACTORS)
    np.testing.assert_allclose(vectors, [[2, 2, 3, 0, 0], [2, 2, 0, 9, 0]])
    assert vectors.dtype == np.float32


def test_only_trained_items_lend() -> None:
    trained = np.array([False, True, True, False])
    nearest = ColdItems(neighbours=1).nearest(TABLE, TABLE, trained, NEVER)
    assert nearest[:, 0].tolist() == [1, 1, 2, 2]
    assert ColdItems(neighbours=9).nearest(TABLE, TABLE, trained, NEVER).shape == (4, 2)


def test_of_items_that_read_alike_those_of_its_time_lend() -> None:
    text = np.array([[0.8, 0.6]], np.float32)  # nearest to item 0, by little
    times = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], np.float32)
    asking = np.array([[0, 1]], np.float32)
    for weight, expected in ((0.0, 0), (0.2, 1), (2.0, 1)):
        cold = ColdItems(neighbours=1, release_weight=weight)
        nearest = cold.nearest(text, TABLE, np.ones(4, np.bool_), Nearness(asking, times))
        assert nearest.tolist() == [[expected]]


@pytest.mark.parametrize("trained", [np.ones(4, np.bool_), np.zeros(4, np.bool_)])
def test_without_text_or_without_a_lender_there_is_no_factor(trained: np.ndarray) -> None:
    cold = ColdItems(tower_scale=1.5)
    text = np.zeros((1, 2), np.float32) if trained.any() else TABLE[:1]
    nearest = cold.nearest(text, TABLE, trained, NEVER)
    assert (nearest == -1).all()
    vectors = cold.vectors(np.ones((1, 2), np.float32), nearest, FACTORS)
    np.testing.assert_allclose(vectors, [[1.5, 1.5, 0, 0, 0]])


def test_many_items_are_compared_in_blocks() -> None:
    rng = np.random.default_rng(0)
    text = rng.normal(size=(2100, 8)).astype(np.float32)
    never = Nearness(np.zeros((2100, 2), np.float32), np.zeros((2100, 2), np.float32))
    nearest = ColdItems(neighbours=1).nearest(text, text, np.ones(2100, np.bool_), never)
    alike = text @ text.T
    np.testing.assert_array_equal(nearest[:, 0], alike.argmax(axis=1))
