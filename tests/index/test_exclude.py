import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.data import Histories
from twotower.errors import InputError
from twotower.index import (
    ExactIndex,
    FlatConfig,
    HnswConfig,
    IvfConfig,
    build_index,
    search_excluding,
)
from twotower.index.exact import top_k


def expected(vectors, queries, k, excluded):
    """Scores of the best allowed items, from a mask over all of them."""
    scores = queries @ vectors.T
    for row in range(len(excluded)):
        scores[row, excluded.row(row)] = -np.inf
    return top_k(scores, k)


def best_items(vectors, queries, counts):
    """For each query its true best items, so that excluding them is as hard as it gets."""
    order = np.argsort(-(queries @ vectors.T), axis=1)
    return Histories.from_lists([order[row, :count].tolist() for row, count in enumerate(counts)])


def test_excludes_and_still_fills(config, vectors, queries):
    excluded = best_items(vectors, queries, list(range(len(queries))))
    index = build_index(vectors, config)
    scores, items = search_excluding(index, queries, 10, excluded)
    assert (items >= 0).all()
    for row in range(len(queries)):
        assert not np.isin(items[row], excluded.row(row)).any()
    true_scores, true_items = expected(vectors, queries, 10, excluded)
    if index.is_exact:
        np.testing.assert_array_equal(items, true_items)
        np.testing.assert_allclose(scores, true_scores, atol=1e-5)
    else:
        found = [np.isin(a, b).mean() for a, b in zip(items, true_items, strict=True)]
        assert np.mean(found) > 0.9


def test_gives_all_that_remain(config, vectors, queries):
    few = vectors[:40]
    excluded = Histories.from_lists([list(range(37)), [], list(range(40)), [5] * 60])
    scores, items = search_excluding(build_index(few, config), queries[:4], 50, excluded)
    assert (items >= 0).sum(axis=1).tolist() == [3, 40, 0, 39]
    assert ((items == -1) == (scores == -np.inf)).all()
    assert sorted(items[0, :3].tolist()) == [37, 38, 39]


@pytest.mark.parametrize(
    "config",
    [
        HnswConfig(links=2, ef_construction=2, ef_search=1),
        IvfConfig(cells=40, probes=1, reach=0),
    ],
)
def test_poor_index_falls_back_to_exact(config, vectors, queries):
    excluded = best_items(vectors, queries, [100] * len(queries))
    _, items = search_excluding(build_index(vectors, config), queries, 400, excluded)
    assert (items >= 0).all()


def test_one_long_history_leaves_the_others_shallow(vectors, queries):
    depths = []

    class Spy(ExactIndex):
        def search(self, queries, k):
            depths.append((len(queries), k))
            return super().search(queries, k)

    excluded = best_items(vectors, queries, [1000] + [2] * (len(queries) - 1))
    _, items = search_excluding(Spy(vectors), queries, 10, excluded)
    assert (items >= 0).all()
    assert depths[0] == (len(queries), 12)
    assert all(rows == 1 for rows, _ in depths[1:])


def test_single_query_needs_one_search(vectors, queries):
    class Once(ExactIndex):
        searches = 0

        def search(self, queries, k):
            self.searches += 1
            return super().search(queries, k)

    index = Once(vectors)
    search_excluding(index, queries[:1], 10, best_items(vectors, queries[:1], [900]))
    assert index.searches == 1


@given(st.data())
def test_equals_masked_scores(data):
    size = data.draw(st.integers(1, 30))
    rows = data.draw(st.integers(1, 4))
    k = data.draw(st.integers(1, 35))
    one_row = st.lists(st.integers(0, size - 1), max_size=40)
    excluded = Histories.from_lists(data.draw(st.lists(one_row, min_size=rows, max_size=rows)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    vectors = rng.normal(size=(size, 4)).astype(np.float32)
    queries = rng.normal(size=(rows, 4)).astype(np.float32)
    for index in (ExactIndex(vectors), build_index(vectors, FlatConfig())):
        scores, items = search_excluding(index, queries, k, excluded)
        true_scores, true_items = expected(vectors, queries, min(k, size), excluded)
        true_items[true_scores == -np.inf] = -1
        np.testing.assert_array_equal(items[:, : true_items.shape[1]], true_items)
        np.testing.assert_allclose(scores[:, : true_items.shape[1]], true_scores, atol=1e-5)
        assert (items[:, true_items.shape[1] :] == -1).all()


def test_no_queries(vectors, queries):
    none = Histories.from_lists([])
    scores, items = search_excluding(ExactIndex(vectors), queries[:0], 3, none)
    assert scores.shape == items.shape == (0, 3)


def test_refuses_rows_that_do_not_fit(vectors, queries):
    with pytest.raises(InputError, match="one row per query 50, got 2 rows"):
        search_excluding(ExactIndex(vectors), queries, 3, Histories.from_lists([[], []]))


@pytest.mark.parametrize("item", [-1, 2000])
def test_refuses_items_that_do_not_exist(vectors, queries, item):
    excluded = Histories.from_lists([[item]])
    with pytest.raises(InputError, match=f"from 0 to 1999, got {item} to {item}"):
        search_excluding(ExactIndex(vectors), queries[:1], 3, excluded)
