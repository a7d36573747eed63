import numpy as np
import pytest

from twotower.demo.projection import Projection


def test_projects_on_the_first_two_principal_components() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(200, 2)).astype(np.float32) * [5, 2]
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0][:2]
    vectors = (flat @ turn + 3).astype(np.float32)
    fitted = Projection.of(vectors)
    assert fitted.kept == pytest.approx(1, abs=1e-5)
    places = fitted.points(vectors)
    np.testing.assert_allclose(
        np.linalg.norm(places - places[0], axis=1),
        np.linalg.norm(vectors - vectors[0], axis=1),
        atol=1e-3,
    )
    assert places[:, 0].std() > places[:, 1].std()


def test_equal_vectors_lie_on_one_point() -> None:
    vectors = np.ones((4, 3), dtype=np.float32)
    fitted = Projection.of(vectors)
    assert fitted.kept == 1
    assert np.ptp(fitted.points(vectors), axis=0).max() == 0
