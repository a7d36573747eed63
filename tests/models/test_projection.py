import numpy as np
import pytest

from twotower.models.projection import score_projections


@pytest.mark.parametrize("dim", [1, 3, 6])
def test_scores_are_the_best_of_their_rank(dim: int) -> None:
    rng = np.random.default_rng(0)
    users = (rng.normal(size=(40, 6)) * [5, 3, 2, 1, 0.5, 0.1]).astype(np.float32)
    items = (rng.normal(size=(30, 6)) * [0.1, 1, 4, 1, 3, 9]).astype(np.float32)
    maps = score_projections(users, items, dim)
    assert maps.user.shape == maps.item.shape == (6, dim)
    lengths = [np.square(one).mean(axis=0) for one in (users @ maps.user, items @ maps.item)]
    np.testing.assert_allclose(*lengths, rtol=1e-3)
    scores = users @ items.T
    left, values, right = np.linalg.svd(scores)
    best = (left[:, :dim] * values[:dim]) @ right[:dim]
    np.testing.assert_allclose((users @ maps.user) @ (items @ maps.item).T, best, atol=1e-3)


def test_directions_without_users_do_no_harm() -> None:
    users = np.array([[1, 0, 0], [2, 0, 0]], np.float32)
    items = np.eye(3, dtype=np.float32)
    maps = score_projections(users, items, 2)
    found = (users @ maps.user) @ (items @ maps.item).T
    np.testing.assert_allclose(found, users @ items.T, atol=1e-3)
