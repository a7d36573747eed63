"""The trend against its formula, event by event."""

from dataclasses import replace

import numpy as np
import pytest

from twotower.bundle.trend import Trend, half_lives
from twotower.data import Histories, Queries
from twotower.errors import InputError
from twotower.types import FloatArray

DAY = 86_400
ITEMS = 7


def log(*, users: int = 40, weights: bool = False, seed: int = 0) -> Histories:
    """Twelve events a user over a hundred days; item 6 has none."""
    rng = np.random.default_rng(seed)
    count = users * 12
    times = rng.integers(0, 100 * DAY * 1000, count).reshape(users, 12)
    return Histories(
        np.arange(0, count + 1, 12),
        rng.integers(0, ITEMS - 1, count).astype(np.int32),
        timestamps=np.sort(times, axis=1).ravel(),
        weights=rng.uniform(0.1, 2, count).astype(np.float32) if weights else None,
    )


def by_hand(events: Histories, moment: int, half_life: float) -> FloatArray:
    assert events.timestamps is not None
    sums = np.zeros(ITEMS)
    weights = np.ones(len(events.items)) if events.weights is None else events.weights
    for item, time, weight in zip(events.items, events.timestamps // 1000, weights, strict=True):
        if time < moment:
            sums[item] += weight * 2 ** ((time - moment) / half_life)
    return np.log1p(sums).astype(np.float32)


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("half_life", [0.5 * DAY, 30 * DAY])
def test_events_before_the_moment_fade(half_life: float, weights: bool) -> None:
    events = log(weights=weights)
    trend = Trend.fit(events, half_life)
    for moment in (-DAY, 0, 3 * DAY, 50 * DAY, 99 * DAY):
        found = trend.at(moment, np.arange(ITEMS))
        np.testing.assert_allclose(found, by_hand(events, moment, half_life), rtol=1e-5)
    assert events.timestamps is not None
    end = int(events.timestamps.max()) // 1000 + 1
    np.testing.assert_allclose(
        trend.at_end(ITEMS), by_hand(events, end, half_life), rtol=1e-5, atol=1e-9
    )


def test_what_comes_later_makes_no_difference() -> None:
    events = log()
    assert events.timestamps is not None
    moment = 40 * DAY
    before = events.timestamps // 1000 < moment
    items = np.where(before, events.items, (events.items + 1) % ITEMS).astype(np.int32)
    other = Trend.fit(replace(events, items=items), 10 * DAY)
    candidates = np.array([5, 0, 6, 3, 3])
    np.testing.assert_array_equal(
        other.at(moment, candidates), Trend.fit(events, 10 * DAY).at(moment, candidates)
    )


def test_after_the_log_it_stays_as_it_was_at_the_end() -> None:
    """Of events that came later nothing is known, so that nothing fades."""
    trend = Trend.fit(log(), 10 * DAY)
    np.testing.assert_array_equal(trend.at(10_000 * DAY, np.arange(ITEMS)), trend.at_end(ITEMS))


def test_a_query_is_made_at_its_time_or_after_its_newest_event() -> None:
    trend, histories = Trend.fit(log(), DAY), log(users=2, seed=1)
    assert histories.timestamps is not None
    newest = [int(histories.timestamps[last] // 1000) for last in (11, 23)]
    queries = Queries.anonymous(histories)
    assert list(trend.moments(queries)) == newest
    assert list(trend.moments(replace(queries, times=np.array([5000, 7999])))) == [5, 7]


def test_queries_that_all_come_after_the_log_are_made_at_its_end() -> None:
    trend, histories = Trend.fit(log(), DAY), log(users=2, seed=1)
    after, queries = replace(trend, after_log=True), Queries.anonymous(histories)
    (moment, other) = after.moments(queries)
    assert moment == other
    assert moment is not None
    np.testing.assert_array_equal(after.at(moment, np.arange(ITEMS)), trend.at_end(ITEMS))
    assert list(after.moments(replace(queries, times=np.array([5000, 7999])))) == [5, 7]
    untimed = Queries.anonymous(Histories.from_lists([[1], []]))
    assert list(trend.moments(untimed)) == [None, None]
    assert list(Trend.none().moments(queries)) == [None, None]


def test_a_log_without_times_has_no_trend() -> None:
    untimed = Histories.from_lists([[1, 2], [3]])
    assert half_lives(untimed) == ()
    same = replace(untimed, timestamps=np.full(3, 10**12))
    assert half_lives(same) == ()
    np.testing.assert_array_equal(Trend.fit(untimed, DAY).at_end(3), np.zeros(3))
    np.testing.assert_array_equal(Trend.none().at(5, np.arange(2)), np.zeros(2))


def test_half_lives_are_shares_of_the_time_that_most_of_the_log_is_from() -> None:
    times = np.append(np.linspace(0, 1000 * DAY, 1001), 10**6 * DAY)  # a wrong clock among them
    events = Histories(
        np.array([0, len(times)]),
        np.zeros(len(times), np.int32),
        timestamps=times.astype(np.int64) * 1000,
    )
    np.testing.assert_allclose(
        sorted(half_lives(events)), np.array([900 / 64, 900 / 16, 225]) * DAY, rtol=0.01
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"half_life": 0.0}, r"half_life must be above 0, got 0\.0"),
        ({"items": np.array([1, 0], np.int32)}, "must be ordered by item, and by time"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], text: str) -> None:
    fields = {
        "items": np.array([0, 1], np.int32),
        "times": np.array([3, 3]),
        "sums": np.ones(2, np.float32),
        "half_life": 1.0,
    }
    with pytest.raises(InputError, match=text):
        Trend(**{**fields, **change})  # type: ignore[arg-type]
