from dataclasses import replace

import numpy as np
import pytest

from twotower.data import Histories, Queries
from twotower.errors import ArtefactError, InputError
from twotower.inference.user_tower import UserTower


def expected(contents, weights, queries):
    """The linear tower of conftest.py in NumPy, one query at a time."""
    features = contents.user_features.transform(queries.histories)
    vectors = []
    for row, user in enumerate(queries.users):
        newest = queries.histories.row(row)[-contents.info.history_length :]
        history = contents.history_table[newest + 1].sum(axis=0)
        vectors.append(
            contents.user_table[user + 1] @ weights["user"]
            + history @ weights["history"]
            + features[row] @ weights["features"]
        )
    return np.stack(vectors)


def test_looks_up_what_the_model_reads(contents, tower_weights):
    known = Queries(np.arange(12, dtype=np.int32), contents.histories)
    vectors = UserTower(contents).encode(known)
    assert vectors.dtype == np.float32
    assert vectors.shape == (12, 8)
    np.testing.assert_allclose(vectors, expected(contents, tower_weights, known), atol=1e-5)


def test_an_unknown_user_is_row_zero(contents, tower_weights):
    queries = Queries.anonymous(Histories.from_lists([[3], [4, 4, 5], list(range(20)), []]))
    vectors = UserTower(contents).encode(queries)
    np.testing.assert_allclose(vectors, expected(contents, tower_weights, queries), atol=1e-5)


def test_same_vector_alone_and_in_a_large_batch(contents):
    tower = UserTower(contents, threads=2)
    rng = np.random.default_rng(1)
    lists = [rng.integers(60, size=rng.integers(1, 9)).tolist() for _ in range(5000)]
    queries = Queries.anonymous(Histories.from_lists(lists))
    vectors = tower.encode(queries)
    for row in (0, 2047, 2048, 4999):
        alone = tower.encode(queries.select(np.array([row])))
        np.testing.assert_allclose(alone[0], vectors[row], atol=1e-5)


def test_encodes_no_queries(contents):
    assert UserTower(contents).encode(Queries.anonymous(Histories.from_lists([]))).shape == (0, 8)


@pytest.mark.parametrize("inputs", [("user",), ("user", "features"), ("features",)])
def test_feeds_only_what_the_model_declares(contents, tower_weights, linear_tower, inputs):
    bare = replace(
        contents,
        info=contents.info.vary(history_length=0),
        user_tower=linear_tower(tower_weights, inputs),
        history_table=None,
    )
    used = {n: w if n in inputs else np.zeros_like(w) for n, w in tower_weights.items()}
    queries = Queries(np.array([2, -1], np.int32), Histories.from_lists([[1, 2], [3]]))
    tower = UserTower(bare)
    np.testing.assert_allclose(tower.encode(queries), expected(contents, used, queries), atol=1e-5)
    assert tower.reads_features == ("features" in inputs)


def test_refuses_bytes_that_are_no_model(contents):
    with pytest.raises(ArtefactError, match=r"user_tower\.onnx cannot be run .*save the bundle"):
        UserTower(replace(contents, user_tower=b"not a model"))


def test_refuses_a_model_of_other_tables(contents):
    with pytest.raises(ArtefactError, match=r"user_tower\.onnx cannot be run"):
        UserTower(replace(contents, user_table=contents.user_table[:, 1:]))


def test_refuses_a_model_of_another_dim(contents, tower_weights, linear_tower):
    narrow = {name: weight[:, :5] for name, weight in tower_weights.items()}
    with pytest.raises(ArtefactError, match="gives vectors of 5 dimensions, the index holds 8"):
        UserTower(replace(contents, user_tower=linear_tower(narrow, dim=5)))


def test_refuses_no_threads(contents):
    with pytest.raises(InputError, match="threads must be at least 1, got 0"):
        UserTower(contents, threads=0)
