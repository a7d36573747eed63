import numpy as np

from twotower.serving.likeness import likeness, part_lengths

VECTORS = np.array([[3, 4, 10, 0], [6, 8, 0, 1], [4, -3, 2, 0], [3, 4, 0, 0]], np.float32)


def test_parts_are_asked_alike() -> None:
    found = likeness(VECTORS, part_lengths(VECTORS, 2), VECTORS[:1], 2)[:, 0]
    # The same; one towers' direction of two; one factors' direction of two; no factors at all.
    np.testing.assert_allclose(found, [1, 0.5, 0.5, 0.5], atol=1e-6)


def test_without_factors_it_is_the_cosine() -> None:
    towers = VECTORS[:, :2]
    found = likeness(towers, part_lengths(towers, 2), towers[[0, 2]], 2)
    np.testing.assert_allclose(found, [[1, 0], [1, 0], [0, 1], [1, 0]], atol=1e-6)
