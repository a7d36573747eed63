"""Nothing that is held out can reach what is fitted, and no test item the choice of weights."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from twotower.data import Dataset, Part, columns
from twotower.data.holdouts import hold_out, of_new_items, of_new_users
from twotower.evaluation.protocols import validation_ndcg
from twotower.factors.ease import EASE
from twotower.factors.item_knn import ItemKNN
from twotower.factors.popularity import Popularity
from twotower.features import ITEM_FEATURES, ItemFeatures, UserFeatures
from twotower.models.graph import BipartiteGraph
from twotower.models.two_tower import HistoryContext
from twotower.training.examples import Examples
from twotower.training.fit import Trained, fit
from twotower.training.negatives import Popularity as PopularNegatives
from twotower.training.negatives import Uniform
from twotower.workflow.models import train_variant


def with_others(data: Dataset, *parts: Part) -> Dataset:
    """The same data set with every event of the parts replaced: item, rating and time."""
    held = np.isin(data.split, parts)
    log = data.interactions
    assert log.ratings is not None
    assert log.timestamps is not None
    items, ratings, times = log.items.copy(), log.ratings.copy(), log.timestamps.copy()
    items[held] = (items[held] + 7) % len(data.items)  # the other block, and other popularity
    ratings[held] = 5 - ratings[held]
    times[held] += 10**11
    changed = replace(log, items=items, ratings=ratings, timestamps=times)
    return replace(data, interactions=changed)


@pytest.fixture
def other(blocks: Dataset) -> Dataset:
    other = with_others(blocks, Part.VALIDATION, Part.TEST)
    assert other.fingerprint != blocks.fingerprint
    return other


def assert_same(one: Any, two: Any) -> None:
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_features_do_not_change(blocks: Dataset, other: Dataset) -> None:
    for kind in (ItemFeatures, UserFeatures):
        one, two = (kind.fit(data.train, data.catalogue).to_arrays() for data in (blocks, other))
        assert one.keys() == two.keys()
        assert_same(one.values(), two.values())


def test_graph_and_baselines_do_not_change(blocks: Dataset, other: Dataset) -> None:
    graphs = [BipartiteGraph.fit(data.train, 40) for data in (blocks, other)]
    assert_same(*([graph.indptr, graph.indices, graph.weights] for graph in graphs))
    assert_same(*([Popularity.fit(data.train, 40).counts] for data in (blocks, other)))
    assert_same(*(ItemKNN.fit(data.train, 40).similarity.toarray() for data in (blocks, other)))
    assert_same(*(EASE.fit(data.train, 40).weights for data in (blocks, other)))


@pytest.mark.parametrize(
    "config", [Uniform(count=3), PopularNegatives(count=3, power=0.75)], ids=str
)
def test_negatives_do_not_change(config: Any, blocks: Dataset, other: Dataset) -> None:
    users = np.arange(60)
    draws = [
        config.fit(data.train, 40).sample(users, users % 40, np.random.default_rng(0), 0)[:-1]
        for data in (blocks, other)
    ]
    assert_same(*draws)


def test_examples_do_not_change(blocks: Dataset, other: Dataset) -> None:
    batches = []
    for data in (blocks, other):
        features = UserFeatures.fit(data.train, data.catalogue)
        context = HistoryContext(data.train, 4, features.running(data.train), features.empty)
        source = Examples(data.train, Uniform().fit(data.train, 40), 64, 0, context=context)
        batches.append([part for step in range(source.steps) for part in source.batch(0, step)])
    assert_same(*batches)


@pytest.mark.parametrize("name", ["mf", "lightgcn", "v1", "v4", "v4-bpr", "v5", "v6", "v10"])
def test_weights_do_not_change(
    name: str, blocks: Dataset, other: Dataset, block_text: Any, small_variants: Any
) -> None:
    one, two = (
        fit(small_variants[name], data, validate=lambda _: 1.0, text=block_text).module.state_dict()
        for data in (blocks, other)
    )
    for key, value in one.items():
        assert torch.equal(value, two[key]), key


@pytest.mark.parametrize("name", ["mf", "v5", "v10"])
def test_test_items_do_not_reach_early_stopping(
    name: str, blocks: Dataset, small_variants: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    training = small_variants[name].training.vary(epochs=6, patience=2)
    variant = small_variants[name].vary(training=training)
    one, two = (train_variant(variant, data) for data in (blocks, with_others(blocks, Part.TEST)))
    assert [epoch.metric for epoch in one.state.epochs] == [
        epoch.metric for epoch in two.state.epochs
    ]
    assert one.state.best_epoch == two.state.best_epoch
    for key, value in one.module.state_dict().items():
        assert torch.equal(value, two.module.state_dict()[key]), key


def test_validation_items_do_reach_early_stopping(blocks: Dataset, small_variants: Any) -> None:
    """The test above could not fail otherwise."""
    one, two = (
        train_variant(small_variants["mf"], data).state
        for data in (blocks, with_others(blocks, Part.VALIDATION))
    )
    assert one.best_metric != two.best_metric


def with_other_new_events(cold: Dataset) -> Dataset:
    """The same data set with every held-out interaction's rating and time replaced, and the
    items of the new users."""
    held = cold.split > Part.TEST
    log = cold.interactions
    assert log.ratings is not None
    assert log.timestamps is not None
    items, ratings, times = log.items.copy(), log.ratings.copy(), log.timestamps.copy()
    items[of_new_users(cold)] = (items[of_new_users(cold)] + 7) % len(cold.items)
    ratings[held] = 5 - ratings[held]
    times[held] += 10**11
    return replace(cold, interactions=replace(log, items=items, ratings=ratings, timestamps=times))


@pytest.fixture
def cold(blocks: Dataset) -> Dataset:
    rated = blocks.catalogue.with_columns(
        pl.Series(columns.AVERAGE_RATING, np.linspace(1, 5, 40), pl.Float32),
        pl.Series(columns.RATING_COUNT, np.arange(40)),
    )
    return hold_out(replace(blocks, catalogue=rated), users=0.2, items=0.2)


@pytest.mark.parametrize("name", ["mf", "lightgcn", "v5"])
def test_new_users_and_items_do_not_reach_the_weights(
    name: str, cold: Dataset, block_text: Any, small_variants: Any
) -> None:
    def trained(data: Dataset) -> Trained:
        return fit(
            small_variants[name],
            data,
            validate=lambda module: validation_ndcg(module.scorer(), data),
            text=block_text,
        )

    one, two = trained(cold), trained(with_other_new_events(cold))
    assert one.state.epochs[-1].metric == two.state.epochs[-1].metric
    for key, value in one.module.state_dict().items():
        assert torch.equal(value, two.module.state_dict()[key]), key


@pytest.mark.parametrize("with_ratings", [True, False])
def test_a_new_item_has_the_features_of_an_item_without_interactions(
    with_ratings: bool, cold: Dataset
) -> None:
    train = cold.train if with_ratings else replace(cold.train, ratings=None)
    fitted = ItemFeatures.fit(train, cold.catalogue)
    new = np.unique(cold.interactions.items[of_new_items(cold)])
    rows = cold.catalogue[new]
    np.testing.assert_array_equal(fitted.values[new], fitted.transform_new(rows))
    counted = [
        index
        for index, feature in enumerate(ITEM_FEATURES)
        if feature.needs in ("training interactions", "ratings", "timestamps")
    ]
    np.testing.assert_array_equal(fitted.values[np.ix_(new, counted)], 0)  # as the unknown is
    assert (Popularity.fit(train, 40).counts[new] == 0).all()
    assert ItemKNN.fit(train, 40).similarity[:, new].nnz == 0
