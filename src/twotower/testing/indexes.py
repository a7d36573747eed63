"""Contract suite of item indexes. Needs pytest."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twotower.errors import InputError
from twotower.index import ExactConfig, ItemIndex, build_index, load_index, save_index
from twotower.index.base import IndexSettings
from twotower.types import Array, FloatArray


def clustered(rows: int, seed: int, dim: int = 24) -> FloatArray:
    """``(rows, dim)`` float32 unit vectors around 30 centres that do not depend on the seed."""
    centres = np.random.default_rng(0).normal(size=(30, dim))
    rng = np.random.default_rng(seed)
    points = centres[rng.integers(30, size=rows)] + 0.5 * rng.normal(size=(rows, dim))
    unit: FloatArray = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    return unit


def brute_force(vectors: FloatArray, queries: FloatArray, k: int) -> tuple[Array, Array]:
    """``(queries, k)`` scores and items of the true best."""
    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    items = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, items, axis=1), items


def _rounding(config: IndexSettings) -> float:
    """How far the scores of unit vectors may be off where the stored numbers are rounded."""
    return {"float16": 1e-3, "int8": 2e-2}.get(getattr(config, "numbers", "float32"), 1e-5)


def recall(found: Array, true: Array) -> float:
    """Share of the true items that were found."""
    shared = [len(set(f) & set(t)) for f, t in zip(found.tolist(), true.tolist(), strict=True)]
    return sum(shared) / true.size


class IndexContract:
    """What every index must do. Subclass it and give the fixture ``config``.

    For useful messages, call ``pytest.register_assert_rewrite("twotower.testing")`` in the
    ``conftest.py`` beside.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def config(cls) -> IndexSettings:
        """The settings under test."""
        raise NotImplementedError("give a fixture 'config'")

    @pytest.fixture(scope="class")
    @classmethod
    def vectors(cls) -> FloatArray:
        """``(2000, 24)`` item vectors."""
        return clustered(2000, seed=1)

    @pytest.fixture(scope="class")
    @classmethod
    def queries(cls) -> FloatArray:
        """``(50, 24)`` query vectors."""
        return clustered(50, seed=2)

    @pytest.fixture(scope="class")
    @classmethod
    def index(cls, config: IndexSettings, vectors: FloatArray) -> ItemIndex:
        """The index of ``vectors``."""
        return build_index(vectors, config)

    def test_says_what_it_is(
        self, index: ItemIndex, config: IndexSettings, vectors: FloatArray
    ) -> None:
        assert isinstance(index, ItemIndex)
        assert (index.size, index.dim) == vectors.shape
        assert index.config == config

    @pytest.mark.parametrize("k", [1, 10, 50])
    def test_finds_what_brute_force_finds(
        self, index: ItemIndex, vectors: FloatArray, queries: FloatArray, k: int
    ) -> None:
        scores, items = index.search(queries, k)
        true_scores, true_items = brute_force(vectors, queries, k)
        if index.is_exact:
            np.testing.assert_array_equal(items, true_items)
            np.testing.assert_allclose(scores, true_scores, atol=1e-5)
        else:
            assert recall(items, true_items) >= 0.95

    def test_scores_are_inner_products_best_first(
        self, index: ItemIndex, config: IndexSettings, vectors: FloatArray, queries: FloatArray
    ) -> None:
        scores, items = index.search(queries, 20)
        assert scores.dtype == np.float32
        assert items.dtype == np.int64
        assert scores.shape == items.shape == (len(queries), 20)
        expected = np.einsum("qd,qkd->qk", queries, vectors[items])
        np.testing.assert_allclose(scores, expected, atol=_rounding(config))
        assert (np.diff(scores, axis=1) <= 0).all()

    def test_never_returns_an_item_twice(self, index: ItemIndex, queries: FloatArray) -> None:
        _, items = index.search(queries, 300)
        for row in items:
            found = row[row >= 0]
            assert len(np.unique(found)) == len(found)

    def test_does_not_need_unit_vectors(
        self, config: IndexSettings, vectors: FloatArray, queries: FloatArray
    ) -> None:
        lengths = np.random.default_rng(3).uniform(0.5, 1.5, size=(len(vectors), 1))
        longer = (vectors * lengths).astype(np.float32)
        index = build_index(longer, config)
        _, items = index.search(3 * queries, 10)
        _, true_items = brute_force(longer, queries, 10)
        assert recall(items, true_items) >= (1.0 if index.is_exact else 0.9)

    def test_pads_behind_the_last_item(
        self, config: IndexSettings, vectors: FloatArray, queries: FloatArray
    ) -> None:
        index = build_index(vectors[:3], config)
        scores, items = index.search(queries, 5)
        assert scores.shape == items.shape == (len(queries), 5)
        assert (np.sort(items[:, :3], axis=1) == [0, 1, 2]).all()
        assert (items[:, 3:] == -1).all()
        assert (scores[:, 3:] == -np.inf).all()

    def test_holds_a_single_item(self, config: IndexSettings, vectors: FloatArray) -> None:
        _, items = build_index(vectors[:1], config).search(vectors[:1], 1)
        assert items.tolist() == [[0]]

    def test_answers_no_queries(self, index: ItemIndex, vectors: FloatArray) -> None:
        scores, items = index.search(vectors[:0], 4)
        assert scores.shape == items.shape == (0, 4)

    def test_same_answer_alone_and_in_a_batch(self, index: ItemIndex, queries: FloatArray) -> None:
        scores, items = index.search(queries, 10)
        for row in (0, 17):
            alone_scores, alone_items = index.search(queries[row : row + 1], 10)
            np.testing.assert_array_equal(alone_items[0], items[row])
            np.testing.assert_allclose(alone_scores[0], scores[row], atol=1e-6)

    def test_builds_alike_twice(
        self, index: ItemIndex, config: IndexSettings, vectors: FloatArray, queries: FloatArray
    ) -> None:
        again = build_index(vectors, config)
        np.testing.assert_array_equal(again.search(queries, 50)[1], index.search(queries, 50)[1])

    def test_leaves_its_input_alone(
        self, config: IndexSettings, vectors: FloatArray, queries: FloatArray
    ) -> None:
        kept = vectors.copy(), queries.copy()
        build_index(vectors, config).search(queries, 10)
        np.testing.assert_array_equal(vectors, kept[0])
        np.testing.assert_array_equal(queries, kept[1])

    def test_accepts_other_layouts(
        self, index: ItemIndex, config: IndexSettings, vectors: FloatArray, queries: FloatArray
    ) -> None:
        other = build_index(np.asfortranarray(vectors.astype(np.float64)), config)
        _, items = other.search(np.asfortranarray(queries.astype(np.float64)), 10)
        np.testing.assert_array_equal(items, index.search(queries, 10)[1])

    def test_saves_and_loads_alike(
        self, index: ItemIndex, tmp_path: Path, queries: FloatArray
    ) -> None:
        save_index(index, tmp_path / "index")
        loaded = load_index(tmp_path / "index")
        assert loaded.config == index.config
        assert (loaded.size, loaded.dim, loaded.is_exact) == (index.size, index.dim, index.is_exact)
        for ours, theirs in zip(loaded.search(queries, 20), index.search(queries, 20), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_takes_in_more_items_and_leaves_the_old_index_alone(
        self, config: IndexSettings, vectors: FloatArray, queries: FloatArray
    ) -> None:
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
    def test_takes_in_nothing_that_is_no_vector_of_its_length(
        self, index: ItemIndex, more: Any
    ) -> None:
        wide = np.resize(more, (len(more), index.dim if more.shape[1] == 1 else 3))
        with pytest.raises(InputError, match="item vector"):
            index.extended(wide)

    def test_says_what_it_takes_in_memory(self, index: ItemIndex, vectors: FloatArray) -> None:
        numbers = getattr(index.config, "numbers", "float32")
        least = vectors.nbytes / {"float32": 1, "float16": 2, "int8": 4}[numbers]
        assert least <= index.nbytes < 3 * vectors.nbytes

    def test_is_retuned_without_building_again(
        self, index: ItemIndex, config: IndexSettings, vectors: FloatArray, queries: FloatArray
    ) -> None:
        assert ExactConfig().retuned(index) is None
        searching: frozenset[str] = getattr(config, "searching", frozenset())
        if not searching:
            return
        other = config.vary(seed=7)
        assert other.retuned(index) is None
        deeper = config.vary(**dict.fromkeys(searching, 40))
        retuned = deeper.retuned(index)
        assert retuned is not None
        assert (retuned.config, index.config) == (deeper, config)
        built = build_index(vectors, deeper)
        np.testing.assert_array_equal(retuned.search(queries, 20)[1], built.search(queries, 20)[1])

    def test_searches_from_several_threads(self, index: ItemIndex, queries: FloatArray) -> None:
        expected = index.search(queries, 10)[1]
        with ThreadPoolExecutor(4) as pool:
            for _, items in pool.map(lambda _: index.search(queries, 10), range(16)):
                np.testing.assert_array_equal(items, expected)

    @pytest.mark.parametrize("k", [0, -3])
    def test_refuses_k_below_one(self, index: ItemIndex, queries: FloatArray, k: int) -> None:
        with pytest.raises(InputError, match=f"k must be at least 1, got {k}"):
            index.search(queries, k)

    def test_refuses_queries_of_another_shape(self, index: ItemIndex, queries: FloatArray) -> None:
        with pytest.raises(InputError, match=r"shape \(queries, 24\), got \(50, 23\)"):
            index.search(queries[:, :23], 5)
        with pytest.raises(InputError, match=r"shape \(queries, 24\), got \(24,\)"):
            index.search(queries[0], 5)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_refuses_queries_that_are_not_finite(
        self, index: ItemIndex, queries: FloatArray, value: float
    ) -> None:
        broken = queries.copy()
        broken[4, 2] = value
        with pytest.raises(InputError, match=r"queries must be finite, .* in 1 rows, .* row 4"):
            index.search(broken, 5)

    @pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])
    def test_refuses_vectors_that_are_not_finite(
        self, config: IndexSettings, vectors: FloatArray, value: float
    ) -> None:
        broken: Any = vectors.astype(np.float64)
        broken[[7, 9], 0] = value
        with pytest.raises(
            InputError, match=r"item vectors must be finite, .* in 2 rows, .* row 7"
        ):
            build_index(broken, config)

    def test_refuses_no_vectors(self, config: IndexSettings, vectors: FloatArray) -> None:
        with pytest.raises(InputError, match="at least one item vector, got 0"):
            build_index(vectors[:0], config)

    def test_refuses_vectors_of_another_shape(
        self, config: IndexSettings, vectors: FloatArray
    ) -> None:
        with pytest.raises(InputError, match=r"shape \(items, dim\), got \(24,\)"):
            build_index(vectors[0], config)
        with pytest.raises(InputError, match=r"shape \(items, dim\), got \(2000, 0\)"):
            build_index(vectors[:, :0], config)
