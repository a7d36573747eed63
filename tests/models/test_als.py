"""Least squares: against the loss it minimises, and what it finds on toy data."""

import numpy as np
import pytest

from twotower.data import Dataset, Histories, Queries
from twotower.errors import InputError
from twotower.evaluation.protocols import validation_ndcg
from twotower.models.als import ALS, ALSConfig, fit_factors
from twotower.models.popularity import Popularity

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
