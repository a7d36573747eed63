import logging
import math
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

import twotower.features.user as user_module
from twotower.data import Histories
from twotower.features import USER_FEATURES, UserFeatures
from twotower.features.standard import Standardiser
from twotower.types import Array

MakeCatalogue = Callable[..., pl.DataFrame]
MakeHistories = Callable[..., Histories]

NAMES = [feature.name for feature in USER_FEATURES]


def raw(features: UserFeatures, standardised: Array) -> Array:
    """Undo the standardisation; NaN where the column is constant."""
    weight = features.standardiser.weight
    scale = np.where(weight > 0, 1 / np.where(weight > 0, weight, 1), np.nan)
    return standardised * scale + features.standardiser.mean


@pytest.fixture
def fitted(make_catalogue: MakeCatalogue, make_histories: MakeHistories) -> UserFeatures:
    catalogue = make_catalogue(4, price=[0.0, 9.0, None, 99.0], category=["x", "x", "y", "z"])
    train = make_histories(
        [[0, 1, 2], [1, 1], [0]],
        ratings=[[5, 1, 3], [4, 4], [2]],
        days=[[0, 9, 99], [50, 60], [100]],
    )
    return UserFeatures.fit(train, catalogue)


def test_each_feature_by_hand(fitted: UserFeatures, make_histories: MakeHistories) -> None:
    query = make_histories([[0, 1, 2, 1]], ratings=[[5, 1, 3, 3]], days=[[0, 9, 99, 99]])
    expected = {
        "log_activity": math.log(5),
        "mean_rating": 3.0,
        "rating_spread": math.sqrt(2),
        "recency": math.log(1 + 1),  # training ended on day 100
        "tenure": math.log(1 + 99),
        # Item 2 has no price and does not count.
        "mean_log_price": (math.log(1) + 2 * math.log(10)) / 3,
        # Training events: item 0 twice, item 1 three times, item 2 once.
        "mean_log_popularity": (math.log(3) + 2 * math.log(4) + math.log(2)) / 4,
        "category_entropy": -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)),
    }
    got = raw(fitted, fitted.transform(query))[0]
    np.testing.assert_allclose(got, [expected[name] for name in NAMES], rtol=1e-5)


def test_ratings_that_are_unknown_do_not_count(
    fitted: UserFeatures, make_histories: MakeHistories
) -> None:
    nan = math.nan
    query = make_histories(
        [[0, 1, 2, 1], [0, 1]],
        ratings=[[nan, 5, nan, 1], [nan, nan]],
        days=[[0, 9, 99, 99], [1, 2]],
    )
    got = raw(fitted, fitted.transform(query))
    assert got[0, NAMES.index("mean_rating")] == pytest.approx(3.0, rel=1e-5)
    assert got[0, NAMES.index("rating_spread")] == pytest.approx(2.0, rel=1e-5)
    bare = make_histories([[0, 1]], days=[[1, 2]])  # as where the log has no ratings
    np.testing.assert_allclose(got[1], raw(fitted, fitted.transform(bare))[0], rtol=1e-5)


def test_the_running_features_of_train_have_mean_zero_and_spread_one(
    fitted: UserFeatures, make_histories: MakeHistories
) -> None:
    train = make_histories(
        [[0, 1, 2], [1, 1], [0]],
        ratings=[[5, 1, 3], [4, 4], [2]],
        days=[[0, 9, 99], [50, 60], [100]],
    )
    running = fitted.running(train)
    assert running.shape == (6, 8)
    assert running.dtype == np.float32
    np.testing.assert_allclose(running.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(running.std(axis=0), 1, atol=1e-5)


def test_a_later_event_than_the_end_of_training_counts_as_that_day(
    fitted: UserFeatures, make_histories: MakeHistories
) -> None:
    late = fitted.transform(make_histories([[0], [0]], ratings=[[1], [1]], days=[[100], [500]]))
    np.testing.assert_array_equal(late[0], late[1])


def test_equal_ratings_have_no_spread_at_all(
    fitted: UserFeatures, make_histories: MakeHistories
) -> None:
    query = make_histories([[0] * 9, [0] * 9], ratings=[[0.1, 4.9] * 4 + [0.3], [4.7] * 9])
    spread = raw(fitted, fitted.transform(query))[1, NAMES.index("rating_spread")]
    assert spread == pytest.approx(0, abs=1e-7)


def test_an_empty_history_has_no_activity_and_is_the_mean_otherwise(
    fitted: UserFeatures, make_histories: MakeHistories
) -> None:
    out = fitted.transform(make_histories([[], [0], []], ratings=[[], [3], []], days=[[], [3], []]))
    np.testing.assert_array_equal(out[[0, 2]], [fitted.empty, fitted.empty])
    assert raw(fitted, fitted.empty)[0] == pytest.approx(0, abs=1e-6)
    assert fitted.empty[0] < 0
    np.testing.assert_array_equal(fitted.empty[1:], 0)
    assert fitted.transform(make_histories([])).shape == (0, 8)
    assert fitted.transform(make_histories([[]])).shape == (1, 8)


def test_an_anonymous_request_without_ratings_and_times_gets_the_mean_there(
    fitted: UserFeatures, make_histories: MakeHistories
) -> None:
    out = fitted.transform(make_histories([[0, 1]]))[0]
    np.testing.assert_array_equal(out[1:5], 0)
    full = make_histories([[0, 1]], ratings=[[1, 5]], days=[[3, 4]])
    np.testing.assert_array_equal(np.delete(fitted.transform(full)[0] - out, [1, 2, 3, 4]), 0)


def test_items_of_unknown_price_and_popularity_only_are_the_mean(
    make_catalogue: MakeCatalogue, make_histories: MakeHistories
) -> None:
    catalogue = make_catalogue(4, price=[1.0, 5.0, 7.0, None])
    features = UserFeatures.fit(make_histories([[0, 1], [1, 2], [2, 1]]), catalogue)
    unseen = features.transform(make_histories([[3, 3]]))[0]
    assert unseen[NAMES.index("mean_log_price")] == 0
    assert unseen[NAMES.index("mean_log_popularity")] == 0


def test_a_bare_source_gives_constants_and_says_so(
    make_catalogue: MakeCatalogue,
    make_histories: MakeHistories,
    caplog: pytest.LogCaptureFixture,
) -> None:
    train = make_histories([[0, 1], [0]])
    with caplog.at_level(logging.WARNING):
        features = UserFeatures.fit(train, make_catalogue(2), notices=True)
    assert caplog.messages == [
        "the source has no ratings: constant 0 for mean_rating, rating_spread",
        "the source has no timestamps: constant 0 for recency, tenure",
        "the source has no prices: constant 0 for mean_log_price",
    ]
    # What training never saw means nothing to the model when a request has it.
    query = make_histories([[0, 1]], ratings=[[1, 5]], days=[[1, 1_000]])
    np.testing.assert_array_equal(features.transform(query), features.transform(train)[:1])


def test_no_training_event_at_all(
    make_catalogue: MakeCatalogue, make_histories: MakeHistories
) -> None:
    features = UserFeatures.fit(make_histories([[], []], [[], []], [[], []]), make_catalogue(2))
    np.testing.assert_array_equal(features.transform(make_histories([[], [1, 0]])), 0)


@st.composite
def _histories(draw: st.DrawFn) -> Histories:
    rows = draw(st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=8))
    plain = Histories.from_lists(rows)
    size = len(plain.items)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    times = np.concatenate([np.sort(rng.integers(0, 10**11, len(row))) for row in rows])
    return Histories(
        plain.indptr,
        plain.items,
        rng.choice([1, 2.5, 4.7, 5], size).astype(np.float32) if draw(st.booleans()) else None,
        times.astype(np.int64) if draw(st.booleans()) else None,
    )


def _naive(items: Array, ratings: Array | None, times: Array | None, table: Array) -> list[float]:
    """Features of one prefix, from their definitions. Training ended at 5e10 milliseconds."""
    day = 86_400_000
    prices = table[items, 0][table[items, 1] > 0]
    popular = table[items, 2][table[items, 3] > 0]
    shares = table[items, 4:].mean(axis=0)
    return [
        math.log1p(len(items)),
        np.nan if ratings is None else ratings.astype(float).mean(),
        np.nan if ratings is None else ratings.astype(float).std(),
        np.nan if times is None else math.log1p(max(5e10 - times[-1], 0) / day),
        np.nan if times is None else math.log1p((times[-1] - times[0]) / day),
        prices.mean() if len(prices) else np.nan,
        popular.mean() if len(popular) else np.nan,
        -sum(p * math.log(p) for p in shares if p > 0),
    ]


@settings(max_examples=60, deadline=None)
@given(histories=_histories(), block=st.sampled_from([1, 5, 1_000]))
def test_running_is_every_prefix_and_transform_its_last(histories: Histories, block: int) -> None:
    rng = np.random.default_rng(0)
    table = np.zeros((10, 12), dtype=np.float32)
    table[:, 1], table[:, 3] = rng.integers(0, 2, (2, 10))
    table[:, 0], table[:, 2] = rng.random((2, 10)) * table[:, [1, 3]].T
    table[np.arange(10), 4 + rng.integers(0, 8, 10)] = 1
    features = UserFeatures(table, Standardiser(np.zeros(8), np.ones(8)), 50_000_000_000)
    expected = [
        _naive(
            histories.items[start:stop],
            None if histories.ratings is None else histories.ratings[start:stop],
            None if histories.timestamps is None else histories.timestamps[start:stop],
            table,
        )
        for start, end in zip(histories.indptr, histories.indptr[1:], strict=False)
        for stop in range(start + 1, end + 1)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_module, "BLOCK", block)
        running = features.running(histories)
    np.testing.assert_allclose(
        running, np.nan_to_num(np.reshape(expected, (-1, 8))), rtol=1e-4, atol=1e-5
    )
    whole = features.transform(histories)
    for row in range(len(histories)):
        last = running[histories.indptr[row + 1] - 1] if histories.lengths[row] else features.empty
        np.testing.assert_allclose(whole[row], last, rtol=1e-5, atol=1e-6)


def test_a_row_does_not_depend_on_the_rows_around_it(
    fitted: UserFeatures, make_histories: MakeHistories
) -> None:
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 4, size).tolist() for size in rng.integers(0, 30, 200)]
    many = fitted.transform(make_histories(rows))
    alone = np.concatenate([fitted.transform(make_histories([row])) for row in rows])
    np.testing.assert_allclose(many, alone, rtol=1e-5, atol=1e-6)


def test_survives_a_safetensors_file(fitted: UserFeatures, make_histories: MakeHistories) -> None:
    again = UserFeatures.from_arrays(load(save(fitted.to_arrays())))
    query = make_histories([[0, 3], []], ratings=[[2, 3], []], days=[[1, 2], []])
    np.testing.assert_array_equal(again.transform(query), fitted.transform(query))
    assert again.end == fitted.end
