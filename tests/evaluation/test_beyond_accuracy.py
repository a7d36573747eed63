from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twotower.data import Histories
from twotower.evaluation.beyond_accuracy import (
    ListFacts,
    category_diversity,
    coverage,
    gini,
    mean_log_popularity,
    miscalibration,
    novelty,
    popularity_percentile,
    vector_diversity,
)

ITEMS, K = 12, 4


@st.composite
def lists(draw: st.DrawFn) -> Any:
    rows = draw(st.lists(st.permutations(range(ITEMS)), min_size=1, max_size=6))
    return np.array([row[:K] for row in rows], dtype=np.int32)


@settings(deadline=None)
@given(lists(), st.integers(0, 1000))
def test_diversity_equals_its_formula_pair_by_pair(found: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((ITEMS, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    categories = rng.integers(0, 3, ITEMS).astype(np.int32)
    pairs = [(a, b) for a in range(K) for b in range(a)]
    for row, by_title, by_category in zip(
        found,
        vector_diversity(found, vectors),
        category_diversity(found, categories),
        strict=True,
    ):
        cosines = [vectors[row[a]] @ vectors[row[b]] for a, b in pairs]
        assert by_title == pytest.approx(1 - np.mean(cosines), abs=1e-5)
        different = [categories[row[a]] != categories[row[b]] for a, b in pairs]
        assert by_category == pytest.approx(np.mean(different))


@settings(deadline=None)
@given(lists(), st.integers(0, 1000))
def test_calibration_is_the_divergence_written_out(found: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    categories = rng.integers(0, 4, ITEMS).astype(np.int32)
    had = [rng.integers(0, ITEMS, rng.integers(0, 5)).tolist() for _ in found]
    for row, items, value in zip(
        found, had, miscalibration(found, Histories.from_lists(had), categories), strict=True
    ):
        expected = 0.0
        for category in set(categories[items].tolist()) if items else set():
            p = np.mean(categories[items] == category)
            q = 0.99 * np.mean(categories[row] == category) + 0.01 * p
            expected += p * np.log(p / q)
        assert value == pytest.approx(expected, abs=1e-12)


def test_an_empty_history_has_nothing_to_be_calibrated_to() -> None:
    history = Histories.from_lists([[]])
    assert miscalibration(np.array([[0, 1]]), history, np.array([0, 1])).tolist() == [0]


@given(lists())
def test_gini_is_the_mean_difference(found: Any) -> None:
    counts = np.bincount(found.ravel(), minlength=ITEMS)
    differences = np.abs(counts[:, None] - counts[None, :]).mean()
    assert gini(found, ITEMS) == pytest.approx(differences / (2 * counts.mean()))


def test_percentiles_go_from_the_least_to_the_most_popular() -> None:
    events = np.array([5, 0, 9, 5])
    each = np.arange(4)[:, None]
    assert popularity_percentile(each, events).tolist() == [0.5, 0, 1, 0.5]
    assert popularity_percentile(each, events).mean() == 0.5


def test_best_sellers_are_popular_and_not_novel() -> None:
    events = np.array([1000, 900, 1, 0])
    popular, rare = np.array([[0, 1]]), np.array([[2, 3]])
    assert mean_log_popularity(popular, events) > mean_log_popularity(rare, events)
    assert novelty(popular, events, 1000) < novelty(rare, events, 1000)
    assert novelty(rare, events, 1000)[0] == pytest.approx((np.log2(1001 / 2) + np.log2(1001)) / 2)


def test_an_item_without_a_title_is_similar_to_none() -> None:
    assert vector_diversity(np.array([[0, 1]]), np.zeros((2, 3), np.float32)).tolist() == [1]


def test_facts_come_from_training_and_allow_what_the_catalogue_has() -> None:
    train = Histories.from_lists([[0, 0, 1], [], [1]])
    catalogue = pl.DataFrame({"category": ["b", None, "a", "b"]})
    facts = ListFacts.fit(train, catalogue, None)
    assert facts.events.tolist() == [2, 2, 0, 0]
    assert facts.users == 2
    assert facts.categories is not None
    assert facts.categories.tolist() == [2, 0, 1, 2]
    found = facts.describe(np.array([[0, 3], [1, 3]]), Histories.from_lists([[0], [1]]))
    assert found.metrics == (
        "log-popularity@2",
        "popularity-percentile@2",
        "novelty@2",
        "category-diversity@2",
        "miscalibration@2",
    )
    assert found.values.shape == (2, 5)
    assert found.values[:, 3].tolist() == [0, 1]
    assert found.totals == {
        "coverage@2": coverage(np.array([[0, 1, 3]]), 4),
        "gini@2": pytest.approx(0.375),
    }
    bare = ListFacts.fit(train, catalogue.with_columns(category=None), np.eye(4, dtype=np.float32))
    assert bare.categories is None
    assert "title-diversity@2" in bare.describe(np.array([[0, 1]]), train.select([0])).metrics
