import numpy as np
import pytest

from twotower.bundle import RerankVectors
from twotower.data import Histories, Queries
from twotower.errors import InputError

NOTHING = np.zeros((1, 2), np.float32)
VECTORS = RerankVectors(
    user_vectors=np.array([[1, 0], [0, 1]], dtype=np.float32),
    item_vectors=np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32),
)


def test_known_users_by_their_vector_new_ones_by_the_mean_of_their_items():
    queries = Queries(
        np.array([0, 1, -1, -1], np.int32), Histories.from_lists([[2], [], [0, 1], [0, 1, 1]])
    )
    items = np.array([[0, 1], [2, 0], [0, 2], [0, 2]])
    scores = VECTORS.scores(queries, items, *[np.zeros(items.shape, np.float32)] * 2)
    new = np.array([2, 3]), np.array([7 / 3, 10 / 3])
    expected = [
        [1, 3],
        [6, 2],
        [new[0] @ [1, 2], new[0] @ [5, 6]],
        [new[1] @ [1, 2], new[1] @ [5, 6]],
    ]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_padding_ranks_last():
    queries = Queries(np.array([0], np.int32), Histories.from_lists([[]]))
    scores = VECTORS.scores(queries, np.array([[1, -1]]), NOTHING, NOTHING)
    assert scores.tolist() == [[3, -np.inf]]


def test_nothing_known_at_all_scores_zero():
    queries = Queries.anonymous(Histories.from_lists([[]]))
    assert VECTORS.scores(queries, np.array([[0, 1]]), NOTHING, NOTHING).tolist() == [[0, 0]]


def test_refuses_vectors_of_two_dims():
    with pytest.raises(InputError, match="must have the same dim, got 2 and 3"):
        RerankVectors(np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32))
