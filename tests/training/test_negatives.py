from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.data import Histories
from twotower.training.negatives import (
    Candidates,
    InBatch,
    Mixed,
    PairSet,
    Popularity,
    Uniform,
)


def draw(config: Any, train: Histories, num_items: int, users: Any, seed: int = 0) -> Any:
    positives = np.zeros(len(users), dtype=np.int64)
    sampler = config.fit(train, num_items)
    return sampler.sample(users, positives, np.random.default_rng(seed), 0)


LOGS = st.lists(st.lists(st.integers(0, 7), max_size=5), min_size=1, max_size=6)


@given(LOGS, st.integers(0, 2**32), st.sampled_from([Uniform(count=3), Popularity(count=3)]))
def test_a_negative_is_never_a_training_item(rows: Any, seed: int, config: Any) -> None:
    train = Histories.from_lists(rows)
    bought = {item for row in rows for item in row}
    free = {
        user: (bought if isinstance(config, Popularity) else set(range(8))) - set(row)
        for user, row in enumerate(rows)
    }
    users = np.array([user for user, items in free.items() if items] * 4, dtype=np.int64)
    if not len(users) or not bought:
        return
    drawn = draw(config, train, 8, users, seed).negatives
    assert drawn.shape == (len(users), 3)
    assert drawn.dtype == np.int64
    for user, items in zip(users, drawn.tolist(), strict=True):
        assert set(items) <= free[user]


def test_a_user_who_lacks_one_rare_item_alone_gets_that() -> None:
    train = Histories.from_lists([[0, 1], *[[0, 1]] * 50_000, [2]])
    users = np.zeros(200, dtype=np.int64)
    assert (draw(Popularity(count=3), train, 3, users).negatives == 2).all()
    # Whoever has all of it still gets something.
    whole = Histories.from_lists([[0, 1, 2]])
    assert draw(Uniform(count=3), whole, 3, users).negatives.shape == (200, 3)


def shares(config: Any, train: Histories, num_items: int) -> Any:
    """Shares of the items among 40,000 draws for a user without history (user 0)."""
    users = np.zeros(10_000, dtype=np.int64)
    drawn = draw(config, train, num_items, users, 1).negatives
    return np.bincount(drawn.ravel(), minlength=num_items) / drawn.size


COUNTS = (16, 4, 1, 0)
LOG = Histories.from_lists([[], *([item] for item, n in enumerate(COUNTS) for _ in range(n))])


@pytest.mark.parametrize("power", [0.0, 0.5, 0.75, 1.0])
def test_popularity_draws_in_proportion_to_a_power_of_the_count(power: float) -> None:
    weights = np.array([16**power, 4**power, 1, 0])
    expected = weights / weights.sum()
    found = shares(Popularity(count=4, power=power), LOG, 4)
    # Chi-square over 40,000 draws; 3 items can be drawn, so 13.8 is passed once in a thousand.
    chi_square = 40_000 * ((found[:3] - expected[:3]) ** 2 / expected[:3]).sum()
    assert chi_square < 13.8
    assert found[3] == 0


def test_uniform_draws_every_item_alike_bought_or_not() -> None:
    found = shares(Uniform(count=4), LOG, 4)
    assert 40_000 * ((found - 0.25) ** 2 / 0.25).sum() < 16.3


def test_a_redrawn_negative_keeps_the_proportions() -> None:
    train = Histories.from_lists(
        [[0], *([item] for item, n in enumerate(COUNTS) for _ in range(n))]
    )
    found = shares(Popularity(count=4), train, 4)
    np.testing.assert_allclose(found, [0, 0.8, 0.2, 0], atol=0.01)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("config", [Uniform(count=2), Popularity(count=2)], ids=lambda c: c.kind)
def test_a_user_with_the_whole_catalogue_stalls_nothing(config: Any) -> None:
    train = Histories.from_lists([list(range(500)), list(range(499)), [3]])
    users = np.array([0, 1, 2] * 50)
    drawn = draw(config, train, 500, users).negatives
    assert drawn.shape == (150, 2)
    assert ((drawn >= 0) & (drawn < 500)).all()
    assert (drawn[2::3] != 3).all()


def test_in_batch_draws_nothing() -> None:
    drawn = draw(InBatch(), LOG, 4, np.arange(3))
    assert drawn.in_batch
    assert drawn.negatives.shape == drawn.negative_log_q.shape == (3, 0)
    assert drawn.negatives.dtype == drawn.shared.dtype == np.int64
    assert len(drawn.shared) == len(drawn.shared_log_q) == 0


@given(LOGS)
def test_pair_set_is_the_set_of_pairs(rows: list[list[int]]) -> None:
    pairs = PairSet.fit(Histories.from_lists(rows), 8)
    users = np.arange(len(rows))[:, None]
    found = pairs.contains(users, np.arange(8)[None, :])
    assert found.tolist() == [[item in row for item in range(8)] for row in rows]


@pytest.mark.parametrize("sampled", [Uniform(count=3), Popularity(count=3, power=0.5)], ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_the_log_q_of_a_mixture_is_the_closed_form(sampled: Any, shared: bool) -> None:
    """Yang et al.: log of ``(B q_batch + B' q_sampled) / (B + B')``, up to ``log (1 + B' / B)``."""
    train = Histories.from_lists([[0, 1, 2], [0, 1], [0], []])
    size, count = 10, 3
    users, positives = np.full(size, 3), np.resize([0, 1, 2], size)
    mixed = Mixed(sampled=sampled.vary(shared=shared))
    drawn = mixed.fit(train, 4).sample(users, positives, np.random.default_rng(0), 0)
    in_batch = np.array([3, 2, 1, 1]) / 6  # an unseen item counts as seen once
    weights = np.ones(4) if sampled.kind == "uniform" else np.sqrt([3, 2, 1, 0])
    mixture = (size * in_batch + count * weights / weights.sum()) / (size + count)
    expected = np.log(mixture) + np.log((size + count) / size)
    assert drawn.in_batch
    np.testing.assert_allclose(drawn.log_q, expected[positives], rtol=1e-5)
    np.testing.assert_allclose(drawn.negative_log_q, expected[drawn.negatives], rtol=1e-5)
    np.testing.assert_allclose(drawn.shared_log_q, expected[drawn.shared], rtol=1e-5)
    assert drawn.negatives.shape == ((size, 0) if shared else (size, count))
    assert drawn.shared.shape == ((count,) if shared else (0,))


def test_without_the_batch_the_log_q_is_that_of_what_is_drawn() -> None:
    train = Histories.from_lists([[0, 0, 1], [2]])
    sampler = Popularity(count=2).fit(train, 4)
    for size in (5, 2, 5):  # the last batch of an epoch is smaller
        positives = np.zeros(size, np.int64)
        drawn = sampler.sample(positives, positives, np.random.default_rng(0), 0)
        assert not drawn.in_batch
        expected = np.log(2 / size * np.array([0.5, 0.25, 0.25]))
        np.testing.assert_allclose(drawn.log_q, np.full(size, expected[0]), rtol=1e-5)
        np.testing.assert_allclose(drawn.negative_log_q, expected[drawn.negatives], rtol=1e-5)


def test_a_sampled_softmax_over_a_mixture_recovers_the_full_one() -> None:
    """Corrected, the sum over many candidates nears the sum over the catalogue."""
    rng = np.random.default_rng(0)
    train = Histories.from_lists([rng.integers(0, 20, 5).tolist() for _ in range(200)] + [[]])
    scores, size = rng.normal(size=20), 4000
    counts = np.maximum(np.bincount(train.items, minlength=20), 1)
    positives = rng.choice(20, size, p=counts / counts.sum())
    mixed = Mixed(sampled=Uniform(count=2000, shared=True)).fit(train, 20)
    drawn = mixed.sample(np.full(size, 200), positives, rng, 0)
    estimate = np.exp(scores[positives] - drawn.log_q).sum()
    estimate += np.exp(scores[drawn.shared] - drawn.shared_log_q).sum()
    assert estimate / size == pytest.approx(np.exp(scores).sum(), rel=0.03)


def test_items_without_events_are_drawn_only_where_that_is_wanted() -> None:
    train = Histories.from_lists([[0, 2], [2, 4]])  # of six items
    rng = np.random.default_rng(0)
    wanted = {0, 1, 2, 3, 4, 5}, {0, 2, 4}
    for sampled, drawn in zip(
        (Uniform(count=200), Popularity(count=200, power=0)), wanted, strict=True
    ):
        config = Candidates(sampled=sampled)
        found = config.fit(train, 6).sample(np.array([0]), np.array([2]), rng, 0)
        assert set(found.shared.tolist()) == drawn
        assert np.isfinite(found.shared_log_q).all()
