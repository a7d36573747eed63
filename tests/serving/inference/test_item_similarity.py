import numpy as np

from twotower.inference.item_table import mean_cosines, part_scales, scale_parts

VECTORS = np.array([[3, 4, 10, 0], [6, 8, 0, 1], [4, -3, 2, 0], [3, 4, 0, 0]], np.float32)


def test_parts_count_the_same() -> None:
    found = mean_cosines(VECTORS, part_scales(VECTORS, 2), 0, 2)
    # The same; one towers' direction of two; one factors' direction of two; no factors at all.
    np.testing.assert_allclose(found, [1, 0.5, 0.5, 0.5], atol=1e-6)


def test_without_factors_it_is_the_cosine() -> None:
    towers = VECTORS[:, :2]
    assert part_scales(towers, 2).shape == (4, 1)
    found = mean_cosines(towers, part_scales(towers, 2), 2, 2)
    np.testing.assert_allclose(found, [0, 0, 1, 0], atol=1e-6)


def test_products_of_scaled_vectors_are_the_same() -> None:
    scales = part_scales(VECTORS, 2)
    units = VECTORS.copy()
    scale_parts(units, scales, 2)
    expected = [mean_cosines(VECTORS, scales, row, 2) for row in range(len(VECTORS))]
    np.testing.assert_allclose(units @ units.T, expected, atol=1e-6)


def test_zeros_are_like_nothing() -> None:
    nothing = np.zeros((1, 4), np.float32)
    assert not part_scales(nothing, 2).any()
    assert not mean_cosines(nothing, part_scales(nothing, 2), 0, 2).any()
