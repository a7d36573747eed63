import numpy as np
import pytest

from twotower.data import Histories
from twotower.factors.attributes import AttributeRegression
from twotower.features.declared_columns import Encoded


def of_groups(groups: list[int]) -> Encoded:
    codes = np.asarray(groups, dtype=np.int64)[:, None]
    ones = np.ones((len(groups), 1), dtype=np.float32)
    return Encoded(codes, ones, np.zeros((len(groups), 1), dtype=np.float32))


def test_scores_are_the_shares_of_users_of_like_attributes() -> None:
    """Two groups of 400, 300 of whom had item 0 or 1, and 100 the other."""
    groups = [1] * 400 + [2] * 400
    had = [[0]] * 300 + [[1]] * 100 + [[0]] * 100 + [[1]] * 300
    items = np.eye(3, dtype=np.float32)  # scores are the vectors themselves
    train = Histories.from_lists(had)
    found = AttributeRegression.fit(of_groups(groups), 3, train, items)
    scores = found(of_groups([1, 2])) @ items.T
    np.testing.assert_allclose(scores[:, :2], [[0.75, 0.25], [0.25, 0.75]], atol=0.01)
    np.testing.assert_allclose(scores[:, 2], 0, atol=1e-6)
    # Of whom nothing is known: about the popularity.
    np.testing.assert_allclose((found(of_groups([0])) @ items.T)[0, :2], [0.5, 0.5], atol=0.01)


def test_attributes_that_say_nothing_are_shrunk_to_popularity() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(1, 21, 200).tolist()
    had = [[int(item)] for item in rng.random(200) < 0.3]
    items = np.eye(2, dtype=np.float32)
    train = Histories.from_lists(had)
    found = AttributeRegression.fit(of_groups(groups), 21, train, items)
    scores = found(of_groups(list(range(1, 21)))) @ items.T
    popularity = np.bincount(train.items) / 200
    assert np.abs(scores - popularity).max() < 0.05


def test_users_without_a_training_history_are_not_fitted_on() -> None:
    items = np.eye(2, dtype=np.float32)
    known = [[0], [1], [0], [1]] * 5
    few = AttributeRegression.fit(of_groups([1, 2] * 10), 3, Histories.from_lists(known), items)
    more = AttributeRegression.fit(
        of_groups([1, 2] * 10 + [2] * 7), 3, Histories.from_lists(known + [[]] * 7), items
    )
    assert few.table == pytest.approx(more.table)
