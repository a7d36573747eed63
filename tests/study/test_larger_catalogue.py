import numpy as np
import pytest

from twotower.errors import InputError
from twotower.study.index_benchmark import larger_catalogue, nearest_distance


@pytest.fixture(scope="module")
def vectors():
    """Unit vectors around 30 centres."""
    rng = np.random.default_rng(1)
    points = rng.normal(size=(30, 24))[rng.integers(30, size=2000)]
    points += 0.5 * rng.normal(size=points.shape)
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def test_real_items_come_first_and_others_lie_around_them(vectors):
    found = larger_catalogue(vectors, 3000)
    np.testing.assert_array_equal(found[:2000], vectors)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    distances = np.linalg.norm(found[2000:, None] - vectors[None], axis=2).min(axis=1)
    usual = nearest_distance(vectors, np.random.default_rng(0))
    assert 0.5 * usual < np.median(distances) < 1.1 * usual


def test_copies_keep_their_lengths(vectors):
    longer = vectors * np.float32(3)
    np.testing.assert_allclose(np.linalg.norm(larger_catalogue(longer, 2100), axis=1), 3, atol=1e-4)


def test_fewer_are_a_repeatable_subset(vectors):
    found = larger_catalogue(vectors, 100, seed=4)
    assert len(np.unique(found, axis=0)) == 100
    np.testing.assert_array_equal(found, larger_catalogue(vectors, 100, seed=4))
    assert (found != larger_catalogue(vectors, 100, seed=5)).any()


def test_the_distance_to_the_nearest():
    line = np.array([[0.0, 0], [1, 0], [3, 0]], dtype=np.float32)
    assert nearest_distance(line, np.random.default_rng(0)) == pytest.approx(1)


@pytest.mark.parametrize(("rows", "size"), [(1, 5), (2000, 0)])
def test_refuses_too_few_vectors_and_sizes_below_one(vectors, rows, size):
    with pytest.raises(InputError, match=f"got {size} and {rows}"):
        larger_catalogue(vectors[:rows], size)
