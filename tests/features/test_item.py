import logging
import math
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load, save

from twotower.data import Histories
from twotower.features import ITEM_FEATURES, ItemFeatures
from twotower.types import Array

MakeCatalogue = Callable[..., pl.DataFrame]
MakeHistories = Callable[..., Histories]

NAMES = [feature.name for feature in ITEM_FEATURES]


def column(features: ItemFeatures, name: str) -> Array:
    return features.values[:, NAMES.index(name)]


def standardised(*known: float) -> Array:
    values = np.asarray(known)
    return (values - values.mean()) / values.std()


def test_price_and_its_flag(make_catalogue: MakeCatalogue, make_histories: MakeHistories) -> None:
    catalogue = make_catalogue(4, price=[0.0, 9.0, None, 99.0])
    features = ItemFeatures.fit(make_histories([[0, 1]]), catalogue)
    expected = standardised(0.0, np.log(10), np.log(100))
    np.testing.assert_allclose(column(features, "log_price")[[0, 1, 3]], expected, rtol=1e-5)
    assert column(features, "log_price")[2] == 0
    np.testing.assert_array_equal(column(features, "price_missing"), [0, 0, 1, 0])


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_an_impossible_price_is_a_missing_one(
    make_catalogue: MakeCatalogue, make_histories: MakeHistories, price: float
) -> None:
    train = make_histories([[0, 1, 2]])
    impossible = ItemFeatures.fit(train, make_catalogue(3, price=[1.0, 5.0, price]))
    missing = ItemFeatures.fit(train, make_catalogue(3, price=[1.0, 5.0, None]))
    np.testing.assert_array_equal(impossible.values, missing.values)


def test_ratings_are_counted_in_the_log_and_the_catalogue_is_not_looked_at(
    make_catalogue: MakeCatalogue, make_histories: MakeHistories
) -> None:
    train = make_histories([[0, 1], [0, 2]], ratings=[[5, 2], [4, 3]])
    catalogue = make_catalogue(
        4, average_rating=[1.0, 1.0, 1.0, 5.0], rating_count=[900, 7, 7, 800]
    )
    features = ItemFeatures.fit(train, catalogue)
    np.testing.assert_allclose(
        column(features, "average_rating")[:3], standardised(4.5, 2, 3), rtol=1e-5
    )
    np.testing.assert_allclose(
        column(features, "log_rating_count")[:3],
        standardised(np.log(3), np.log(2), np.log(2)),
        rtol=1e-5,
    )
    unknown = make_histories([[0, 1, 3], [0, 2, 1]], ratings=[[5, 2, math.nan], [4, 3, math.nan]])
    np.testing.assert_array_equal(
        column(ItemFeatures.fit(unknown, catalogue), "average_rating"),
        column(features, "average_rating"),
    )
    unrated = features.values[3, NAMES.index("average_rating")]
    assert unrated == column(features, "log_rating_count")[3] == 0
    without = ItemFeatures.fit(train, make_catalogue(4))
    np.testing.assert_array_equal(features.values, without.values)
    new = make_catalogue(1, average_rating=[5.0], rating_count=[1_000])
    np.testing.assert_array_equal(
        features.transform_new(new), features.transform_new(make_catalogue(1))
    )


def test_without_ratings_in_the_log_the_catalogue_is_used_and_that_is_logged(
    make_catalogue: MakeCatalogue,
    make_histories: MakeHistories,
    caplog: pytest.LogCaptureFixture,
) -> None:
    catalogue = make_catalogue(3, average_rating=[2.0, 4.0, None], rating_count=[0, None, 9])
    with caplog.at_level(logging.WARNING):
        features = ItemFeatures.fit(make_histories([[0, 1, 2]]), catalogue, notices=True)
    assert (
        "the training log has no ratings: average_rating and log_rating_count are the "
        "catalogue's, a snapshot that may be later than the training period"
    ) in caplog.messages
    np.testing.assert_allclose(column(features, "average_rating"), [-1, 1, 0], rtol=1e-5)
    np.testing.assert_allclose(column(features, "log_rating_count"), [-1, 0, 1], rtol=1e-5)
    new = features.transform_new(make_catalogue(1, average_rating=[4.0]))
    assert new[0, NAMES.index("average_rating")] == pytest.approx(1)


def test_popularity_is_unknown_for_an_item_without_training_events(
    make_catalogue: MakeCatalogue, make_histories: MakeHistories
) -> None:
    features = ItemFeatures.fit(make_histories([[0, 0], [0, 1]]), make_catalogue(3))
    np.testing.assert_allclose(column(features, "log_popularity"), [1, -1, 0], rtol=1e-5)


def test_age_and_recent_share(make_catalogue: MakeCatalogue, make_histories: MakeHistories) -> None:
    # Ten events on days 0 … 90: the newest tenth is the one on day 90.
    train = make_histories(
        [[0, 0, 0, 1, 1, 1, 1, 1, 1, 2]], days=[[0, 10, 20, 30, 40, 50, 60, 70, 80, 90]]
    )
    features = ItemFeatures.fit(train, make_catalogue(4))
    ages = standardised(np.log(91), np.log(61), np.log(1))
    np.testing.assert_allclose(column(features, "age"), [*ages, 0], rtol=1e-5)
    shares = standardised(0, 0, 1)
    np.testing.assert_allclose(column(features, "recent_share"), [*shares, 0], rtol=1e-5)


def test_seven_most_frequent_categories_ties_alphabetical_and_the_rest(
    make_catalogue: MakeCatalogue, make_histories: MakeHistories
) -> None:
    given = ["h", "g", "f", "e", "d", "c", "b", "a", "h", None]
    features = ItemFeatures.fit(make_histories([[0, 1]]), make_catalogue(10, category=given))
    assert features.categories == ("h", "a", "b", "c", "d", "e", "f")
    position = features.values[:, -8:].argmax(axis=1)
    np.testing.assert_array_equal(position, [0, 7, 6, 5, 4, 3, 2, 1, 0, 7])
    np.testing.assert_array_equal(features.values[:, -8:].sum(axis=1), 1)
    new = features.transform_new(make_catalogue(2, category=["a", "never seen"]))
    np.testing.assert_array_equal(new[:, -8:].argmax(axis=1), [1, 7])


def test_a_bare_source_gives_constants_and_says_so(
    make_catalogue: MakeCatalogue,
    make_histories: MakeHistories,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        features = ItemFeatures.fit(make_histories([[0, 1], [0]]), make_catalogue(2), notices=True)
    assert caplog.messages == [
        "the source has no categories: every item is in category_other",
        "the source has no prices: constant 0 for log_price",
        "the source has no ratings: constant 0 for average_rating, log_rating_count",
        "the source has no timestamps: constant 0 for age, recent_share",
    ]
    varying = [name for name in NAMES if np.ptp(column(features, name)) > 0]
    assert varying == ["log_popularity"]


def test_a_new_item_is_like_a_catalogue_item_that_training_never_saw(
    make_catalogue: MakeCatalogue, make_histories: MakeHistories
) -> None:
    train = make_histories([[0, 1], [1]], ratings=[[5, 2], [4]], days=[[0, 9], [30]])
    catalogue = make_catalogue(3, price=[5.0, None, 20.0], category=["x", "y", "x"])
    features = ItemFeatures.fit(train, catalogue)
    np.testing.assert_array_equal(features.transform_new(catalogue[2:]), features.values[2:])
    only_id = features.transform_new(catalogue.select("item_id"))
    assert only_id.shape == (3, 15)
    assert only_id.dtype == np.float32
    assert set(np.flatnonzero(only_id[0])) == {NAMES.index("price_missing"), 14}


def test_survives_a_safetensors_file(
    make_catalogue: MakeCatalogue, make_histories: MakeHistories
) -> None:
    catalogue = make_catalogue(3, price=[5.0, None, 20.0], category=["é", "y", "é"])
    features = ItemFeatures.fit(make_histories([[0, 1, 1]]), catalogue)
    again = ItemFeatures.from_arrays(load(save(features.to_arrays())))
    np.testing.assert_array_equal(again.values, features.values)
    assert again.categories == ("é", "y")
    assert again.ratings_in_log is False
    new = make_catalogue(1, price=[7.0], category=["y"])
    np.testing.assert_array_equal(again.transform_new(new), features.transform_new(new))
