import numpy as np
import polars as pl
import pytest

from twotower.features import RELEASE_WAVES, ReleaseOrder, releases
from twotower.features.release import NEWEST

NAN = float("nan")


def test_only_what_training_knows_makes_the_order() -> None:
    released = np.array([5.0, 1.0, 9.0, NAN, 7.0])
    order = ReleaseOrder.fit(released, np.array([True, True, False, True, True]))
    assert order.known.tolist() == [1, 5, 7]


def test_a_place_is_the_share_of_what_came_before() -> None:
    order = ReleaseOrder(np.array([1.0, 2.0, 2.0, 2.0]))
    places = order.places(np.array([0.0, 1.0, 1.5, 2.0, NEWEST, NAN]))
    np.testing.assert_allclose(places, [0, 1 / 8, 1 / 4, 5 / 8, 1, NAN])


def test_waves_are_unit_vectors_that_are_nearer_the_nearer_the_places() -> None:
    order = ReleaseOrder(np.arange(100.0))
    waves = order.waves(np.arange(0, 50.0))
    assert waves.shape == (50, RELEASE_WAVES)
    assert waves.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(waves, axis=1), 1, rtol=1e-6)
    nearness = waves @ waves[0]
    assert (np.diff(nearness[:15]) < 0).all()
    assert nearness[5] < 0.8 < nearness[2]
    np.testing.assert_array_equal(order.waves(np.array([1e9])), order.waves(np.array([NEWEST])))


@pytest.mark.parametrize("order", [ReleaseOrder(np.zeros(0)), ReleaseOrder(np.arange(3.0))])
def test_unknown_is_zero(order: ReleaseOrder) -> None:
    assert not order.waves(np.array([NAN])).any()


def test_a_catalogue_without_releases_says_nothing() -> None:
    assert not ReleaseOrder(np.zeros(0)).waves(np.array([1.0, NEWEST])).any()
    assert np.isnan(releases(pl.DataFrame({"item_id": ["a"]}))).all()


def test_releases_of_a_catalogue() -> None:
    rows = pl.DataFrame({"released": [3.0, None]})
    np.testing.assert_array_equal(releases(rows), [3, NAN])
    np.testing.assert_array_equal(releases(rows, unknown=NEWEST), [3, np.inf])
