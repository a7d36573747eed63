import numpy as np

from twotower.data import Histories, Queries
from twotower.factors.content import content_search

TITLES = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 0]], np.float32)


def scores(*histories: list[int]) -> np.ndarray:
    return content_search(TITLES).scores(Queries.anonymous(Histories.from_lists(histories)))


def test_an_item_scores_by_the_cosine_to_the_mean_title() -> None:
    found = scores([0, 1], [2])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], [2**-0.5, 2**-0.5, 1.4 * 2**-0.5, 0], rtol=1e-6)
    np.testing.assert_allclose(found[1], [0.6, 0.8, 1, 0], rtol=1e-6)


def test_nothing_to_go_by_scores_nothing() -> None:
    np.testing.assert_array_equal(scores([], [3]), 0)
