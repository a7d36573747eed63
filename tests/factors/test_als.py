"""Least squares: against the loss it minimises, and what it finds on toy data."""

import tracemalloc

import numpy as np
import pytest

from twotower.data import Dataset, Histories, Queries
from twotower.errors import InputError
from twotower.evaluation.protocols import validation_ndcg
from twotower.factors import als
from twotower.factors.als import (
    ALS,
    ALSConfig,
    fit_factors,
    fit_next_factors,
    fold_in,
    following_factors,
)
from twotower.factors.popularity import Popularity

SMALL = ALSConfig(embedding_dim=4, iterations=6)
TRAIN = Histories.from_lists([[0, 1], [1, 0, 2], [3, 4], [4, 3], [2, 1]])


def test_factors_reconstruct_who_had_what() -> None:
    model = ALS.fit(TRAIN, 6, SMALL)
    scores = model.scores(Queries.anonymous(Histories.from_lists([[0], [3]])))
    assert scores.shape == (2, 6)
    assert scores[0, 1] > scores[0, 4]
    assert scores[1, 4] > scores[1, 1]


def test_an_item_without_events_has_no_factor() -> None:
    np.testing.assert_array_equal(fit_factors(TRAIN, 6, SMALL)[5], 0)


def test_one_seed_gives_one_table() -> None:
    np.testing.assert_array_equal(fit_factors(TRAIN, 6, SMALL, 1), fit_factors(TRAIN, 6, SMALL, 1))


def test_an_item_that_a_user_has_twice_counts_once() -> None:
    twice = Histories.from_lists([[0, 1, 0], [1, 0, 2], [3, 4, 4, 3], [4, 3], [2, 1, 2]])
    np.testing.assert_array_equal(fit_factors(twice, 6, SMALL), fit_factors(TRAIN, 6, SMALL))


def test_rounds_of_solving_lower_the_loss() -> None:
    def loss(iterations: int) -> float:
        config = SMALL.vary(iterations=iterations, recency=1.0, fold_in_confidence=40.0)
        model = ALS.fit(TRAIN, 6, config)
        queries = Queries.anonymous(TRAIN)
        users, items = model.user_vectors(queries), model.item_vectors()
        had = np.zeros((5, 6))
        had[TRAIN.rows, TRAIN.items] = 1
        error = ((1 + 40 * had) * (had - users @ items.T) ** 2).sum()
        return float(error + (users**2).sum() + (items**2).sum())

    assert loss(1) > loss(3) > loss(10) - 1e-6


def test_nobody_has_no_vector() -> None:
    model = ALS.fit(TRAIN, 6, SMALL)
    vectors = model.user_vectors(Queries.anonymous(Histories.from_lists([[], [0]])))
    np.testing.assert_array_equal(vectors[0], 0)
    assert vectors[1].any()


def test_it_beats_popularity_on_blocks(blocks: Dataset) -> None:
    model = ALS.fit(blocks.train, len(blocks.items), SMALL)
    popularity = Popularity.fit(blocks.train, len(blocks.items))
    assert validation_ndcg(model, blocks) > validation_ndcg(popularity, blocks)


def test_bad_settings_are_refused() -> None:
    with pytest.raises((InputError, ValueError), match="recency"):
        ALSConfig(recency=0)


def test_next_factors_score_what_came_next_and_not_what_came_before() -> None:
    chains = Histories.from_lists([[0, 1, 2, 3], [0, 1, 2], [1, 2, 3]] * 5)
    config = ALSConfig(embedding_dim=4, next_share=0.0, next_regularisation=0.1)
    queries = Queries.anonymous(Histories.from_lists([[1]]))

    both_ways = ALS.fit(chains, 4, config).scores(queries)[0]
    forwards = ALS.fit(chains, 4, config.vary(next_item=True)).scores(queries)[0]
    assert both_ways[[0, 2]].min() > 0.2
    assert forwards[0] < 0.05
    assert forwards[2] > 0.5


def test_next_factors_solve_the_normal_equations() -> None:
    config = ALSConfig(
        embedding_dim=3, next_share=0.25, frequency_power=0.0, popularity_discount=0.0
    )
    factors = fit_factors(TRAIN, 6, config)
    found = fit_next_factors(TRAIN, factors, config)
    fold = fold_in(factors, config)
    prefixes = [[0], [1], [1, 0], [3], [4], [2]]
    following = np.array([1, 0, 2, 4, 3, 1])
    users = fold(Histories.from_lists(prefixes)).astype(np.float64)
    for item in range(6):
        weight = 40.0 * (following == item)
        matrix = users.T @ users + 10 * np.eye(3) + (users.T * weight) @ users
        expected = np.linalg.solve(matrix, users.T @ ((1 + weight) * (following == item)))
        np.testing.assert_allclose(found[item], expected + 0.25 * factors[item], atol=1e-4)


def test_the_scoring_factors_of_popular_items_are_shortened() -> None:
    factors = fit_factors(TRAIN, 6, SMALL)
    plain = fit_next_factors(TRAIN, factors, SMALL.vary(popularity_discount=0.0))
    discounted = fit_next_factors(TRAIN, factors, SMALL.vary(popularity_discount=0.5))
    counts = np.array([2, 3, 2, 2, 2, 1])  # nobody had the last one
    scale = (counts / counts[:5].mean()) ** -0.5
    np.testing.assert_allclose(discounted, plain * scale[:, None], rtol=1e-5)


def test_only_the_newest_items_of_a_prefix_are_read() -> None:
    long = Histories.from_lists([[0, 1, 2, 3, 4, 5]])
    plain = SMALL.vary(popularity_discount=0.0)
    factors = fit_factors(TRAIN, 6, plain)
    short = fit_next_factors(long, factors, plain.vary(history_length=1))
    pairs = Histories.from_lists([[item, item + 1] for item in range(5)])
    np.testing.assert_allclose(short, fit_next_factors(pairs, factors, plain), atol=1e-5)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_items_that_nobody_had_change_nothing(blocks: Dataset, power: float) -> None:
    items = len(blocks.items)
    config = SMALL.vary(frequency_power=power, next_item=True)
    factors = fit_factors(blocks.train, items, config)
    among_more = fit_factors(blocks.train, 10 * items, config)
    np.testing.assert_allclose(among_more[:items], factors, atol=1e-3)
    following = fit_next_factors(blocks.train, factors, config)
    padded = np.pad(factors, ((0, 9 * items), (0, 0)))
    among_more = fit_next_factors(blocks.train, padded, config)
    np.testing.assert_allclose(among_more[:items], following, atol=1e-3)


def test_how_items_are_numbered_makes_no_difference(blocks: Dataset) -> None:
    config = ALSConfig(embedding_dim=8, next_item=True, regularisation=10.0)
    renamed = np.random.default_rng(1).permutation(40).astype(np.int32)
    train = blocks.train
    other = Histories(train.indptr, renamed[train.items])
    queries = Queries.anonymous(train)
    first = ALS.fit(train, 40, config).scores(queries)
    second = ALS.fit(other, 40, config).scores(Queries.anonymous(other))
    np.testing.assert_allclose(second[:, renamed], first, atol=1e-3)


def test_prefixes_in_blocks_give_what_all_at_once_do(
    blocks: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ALSConfig(embedding_dim=4, next_item=True)
    factors = fit_factors(blocks.train, 40, config)
    whole = fit_next_factors(blocks.train, factors, config)
    monkeypatch.setattr(als, "_HELD", 2 * 4 * 30)  # thirty prefixes, more than any item has
    monkeypatch.setattr(als, "_FOLDED", 7)
    np.testing.assert_allclose(fit_next_factors(blocks.train, factors, config), whole, atol=1e-4)
    monkeypatch.setattr(als, "_HELD", 2 * 4 * 3)  # fewer than some items have
    np.testing.assert_allclose(fit_next_factors(blocks.train, factors, config), whole, atol=1e-4)


def test_a_sample_of_prefixes_stands_for_all(blocks: Dataset) -> None:
    config = ALSConfig(embedding_dim=4)
    factors = fit_factors(blocks.train, 40, config)
    whole = following_factors(blocks.train, factors, config)
    sample = following_factors(blocks.train, factors, config, most_prefixes=450)
    assert np.corrcoef(whole.ravel(), sample.ravel())[0, 1] > 0.95


def test_a_strong_penalty_that_rises_leaves_factors_that_it_would_not_let_grow(
    blocks: Dataset,
) -> None:
    strong = ALSConfig(embedding_dim=8, regularisation=300.0, iterations=6, recency=1.0)
    at_once = fit_factors(blocks.train, 40, strong)
    rising = fit_factors(blocks.train, 40, strong.vary(ramp=100.0))
    assert np.linalg.norm(rising) > np.linalg.norm(at_once)
    one_round = strong.vary(iterations=1)
    np.testing.assert_array_equal(
        fit_factors(blocks.train, 40, one_round.vary(ramp=9.0)),
        fit_factors(blocks.train, 40, one_round),
    )


def test_memory_does_not_grow_with_the_number_of_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    config = ALSConfig(embedding_dim=16, next_item=True)
    factors = rng.normal(0, 0.1, (500, 16)).astype(np.float32)
    monkeypatch.setattr(als, "_HELD", 1 << 15)  # 1,024 prefixes of 16 dimensions
    monkeypatch.setattr(als, "_FOLDED", 256)
    peaks = []
    for users in (100, 400):
        train = Histories.from_lists(rng.integers(0, 500, (users, 30)).tolist())
        fit_next_factors(train, factors, config)  # what is imported at first use
        tracemalloc.start()
        fit_next_factors(train, factors, config)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    events = 300 * 30
    assert peaks[1] - peaks[0] < 60 * events  # a few numbers an event, not its 16 dimensions twice
