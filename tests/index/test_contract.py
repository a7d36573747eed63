"""What every index must do; a new one joins by its configuration in conftest.py."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from twotower.errors import InputError
from twotower.index import ExactConfig, ItemIndex, build_index, load_index, save_index


@pytest.fixture(scope="module")
def index(config, vectors) -> ItemIndex:
    return build_index(vectors, config)


def brute_force(vectors, queries, k):
    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    items = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, items, axis=1), items


def rounding(config) -> float:
    """How far the scores of unit vectors may be off where the stored numbers are rounded."""
    return {"float16": 1e-3, "int8": 2e-2}.get(getattr(config, "numbers", "float32"), 1e-5)


def recall(found, true):
    shared = [len(set(f) & set(t)) for f, t in zip(found.tolist(), true.tolist(), strict=True)]
    return sum(shared) / true.size


def test_reports_size_dimension_and_configuration(index, config, vectors):
    assert isinstance(index, ItemIndex)
    assert (index.size, index.dim) == vectors.shape
    assert index.config == config
    assert index.is_exact == (config.kind in {"exact", "flat"})


@pytest.mark.parametrize("k", [1, 10, 50])
def test_finds_what_brute_force_finds(index, vectors, queries, k):
    scores, items = index.search(queries, k)
    true_scores, true_items = brute_force(vectors, queries, k)
    if index.is_exact:
        np.testing.assert_array_equal(items, true_items)
        np.testing.assert_allclose(scores, true_scores, atol=1e-5)
    else:
        assert recall(items, true_items) >= 0.95


def test_scores_are_inner_products_best_first(index, config, vectors, queries):
    scores, items = index.search(queries, 20)
    assert scores.dtype == np.float32
    assert items.dtype == np.int64
    assert scores.shape == items.shape == (len(queries), 20)
    expected = np.einsum("qd,qkd->qk", queries, vectors[items])
    np.testing.assert_allclose(scores, expected, atol=rounding(config))
    assert (np.diff(scores, axis=1) <= 0).all()


def test_never_returns_an_item_twice(index, queries):
    _, items = index.search(queries, 300)
    for row in items:
        found = row[row >= 0]
        assert len(np.unique(found)) == len(found)


def test_does_not_need_unit_vectors(config, vectors, queries):
    lengths = np.random.default_rng(3).uniform(0.5, 1.5, size=(len(vectors), 1))
    longer = (vectors * lengths).astype(np.float32)
    index = build_index(longer, config)
    _, items = index.search(3 * queries, 10)
    _, true_items = brute_force(longer, queries, 10)
    assert recall(items, true_items) >= (1.0 if index.is_exact else 0.9)


def test_pads_behind_the_last_item(config, vectors, queries):
    index = build_index(vectors[:3], config)
    scores, items = index.search(queries, 5)
    assert scores.shape == items.shape == (len(queries), 5)
    assert (np.sort(items[:, :3], axis=1) == [0, 1, 2]).all()
    assert (items[:, 3:] == -1).all()
    assert (scores[:, 3:] == -np.inf).all()


def test_holds_a_single_item(config, vectors):
    _, items = build_index(vectors[:1], config).search(vectors[:1], 1)
    assert items.tolist() == [[0]]


def test_answers_no_queries(index, vectors):
    scores, items = index.search(vectors[:0], 4)
    assert scores.shape == items.shape == (0, 4)


def test_same_answer_alone_and_in_a_batch(index, queries):
    scores, items = index.search(queries, 10)
    for row in (0, 17):
        alone_scores, alone_items = index.search(queries[row : row + 1], 10)
        np.testing.assert_array_equal(alone_items[0], items[row])
        np.testing.assert_allclose(alone_scores[0], scores[row], atol=1e-6)


def test_builds_alike_twice(index, config, vectors, queries):
    again = build_index(vectors, config)
    np.testing.assert_array_equal(again.search(queries, 50)[1], index.search(queries, 50)[1])


def test_leaves_its_input_alone(config, vectors, queries):
    kept = vectors.copy(), queries.copy()
    build_index(vectors, config).search(queries, 10)
    np.testing.assert_array_equal(vectors, kept[0])
    np.testing.assert_array_equal(queries, kept[1])


def test_accepts_other_layouts(index, config, vectors, queries):
    other = build_index(np.asfortranarray(vectors.astype(np.float64)), config)
    _, items = other.search(np.asfortranarray(queries.astype(np.float64)), 10)
    np.testing.assert_array_equal(items, index.search(queries, 10)[1])


def test_saves_and_loads_alike(index, tmp_path, queries):
    save_index(index, tmp_path / "index")
    loaded = load_index(tmp_path / "index")
    assert loaded.config == index.config
    assert (loaded.size, loaded.dim, loaded.is_exact) == (index.size, index.dim, index.is_exact)
    for ours, theirs in zip(loaded.search(queries, 20), index.search(queries, 20), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_extending_leaves_the_old_index_unchanged(config, vectors, queries):
    first, rest = vectors[:-100], vectors[-100:]
    index = build_index(first, config)
    before = index.search(queries, 20)
    extended = index.extended(rest)
    assert (extended.size, extended.config) == (len(vectors), index.config)
    _, items = extended.search(queries, 50)
    _, true_items = brute_force(vectors, queries, 50)
    assert recall(items, true_items) >= (1.0 if index.is_exact else 0.95)
    assert index.size == len(first)
    np.testing.assert_array_equal(index.search(queries, 20)[1], before[1])


@pytest.mark.parametrize("more", [np.zeros((0, 1)), np.zeros((2, 3)), np.full((1, 1), np.nan)])
def test_extending_refuses_vectors_of_another_shape(index, more):
    wide = np.resize(more, (len(more), index.dim if more.shape[1] == 1 else 3))
    with pytest.raises(InputError, match="item vector"):
        index.extended(wide)


def test_reports_its_memory(index, vectors):
    numbers = getattr(index.config, "numbers", "float32")
    least = vectors.nbytes / {"float32": 1, "float16": 2, "int8": 4}[numbers]
    assert least <= index.nbytes < 3 * vectors.nbytes


def test_is_retuned_without_building_again(index, config, vectors, queries):
    assert ExactConfig().retuned(index) is None
    searching = getattr(config, "searching", frozenset())
    if not searching:
        return
    other = config.vary(seed=7)
    assert other.retuned(index) is None
    deeper = config.vary(**dict.fromkeys(searching, 40))
    retuned = deeper.retuned(index)
    assert (retuned.config, index.config) == (deeper, config)
    built = build_index(vectors, deeper)
    np.testing.assert_array_equal(retuned.search(queries, 20)[1], built.search(queries, 20)[1])


def test_searches_from_several_threads(index, queries):
    expected = index.search(queries, 10)[1]
    with ThreadPoolExecutor(4) as pool:
        for _, items in pool.map(lambda _: index.search(queries, 10), range(16)):
            np.testing.assert_array_equal(items, expected)


@pytest.mark.parametrize("k", [0, -3])
def test_refuses_k_below_one(index, queries, k):
    with pytest.raises(InputError, match=f"k must be at least 1, got {k}"):
        index.search(queries, k)


def test_refuses_queries_of_another_shape(index, queries):
    with pytest.raises(InputError, match=r"shape \(queries, 24\), got \(50, 23\)"):
        index.search(queries[:, :23], 5)
    with pytest.raises(InputError, match=r"shape \(queries, 24\), got \(24,\)"):
        index.search(queries[0], 5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_queries_that_are_not_finite(index, queries, value):
    broken = queries.copy()
    broken[4, 2] = value
    with pytest.raises(InputError, match=r"queries must be finite, .* in 1 rows, .* row 4"):
        index.search(broken, 5)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])
def test_refuses_vectors_that_are_not_finite(config, vectors, value):
    broken = vectors.astype(np.float64)
    broken[[7, 9], 0] = value
    with pytest.raises(InputError, match=r"item vectors must be finite, .* in 2 rows, .* row 7"):
        build_index(broken, config)


def test_refuses_no_vectors(config, vectors):
    with pytest.raises(InputError, match="at least one item vector, got 0"):
        build_index(vectors[:0], config)


def test_refuses_vectors_of_another_shape(config, vectors):
    with pytest.raises(InputError, match=r"shape \(items, dim\), got \(24,\)"):
        build_index(vectors[0], config)
    with pytest.raises(InputError, match=r"shape \(items, dim\), got \(2000, 0\)"):
        build_index(vectors[:, :0], config)
