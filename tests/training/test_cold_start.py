"""Items without events: how often they are recommended, and what known items lose."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import torch

from twotower.data import Dataset, Histories, IdMap, Part, Queries
from twotower.data.splits import leave_last_two
from twotower.evaluation.protocols import FULL, evaluate, validation_ndcg
from twotower.features import HashingText, item_texts
from twotower.index import top_scores
from twotower.inference import Pipeline
from twotower.inference.item_encoder import catalogue_rows
from twotower.inference.item_table import Descriptions
from twotower.models.sequence import SequenceTower
from twotower.training.cold_start import ColdItemModel, _affordable, fit_cold_start
from twotower.training.fit import Trained, fit
from twotower.workflow.bundling import bundle_contents

KINDS, COLOURS, USERS, ITEMS = 6, 8, 300, 240
"""A shop whose titles are a kind and a colour: cold items read as the trained ones do."""


def title(item: int) -> str:
    return f"kind{item % KINDS} colour{item // KINDS % COLOURS}"


@pytest.fixture(scope="module")
def shop_with_unbought_items() -> Dataset:
    """Each user has taste for one kind; a quarter of the catalogue was never bought."""
    rng = np.random.default_rng(1)
    bought = np.flatnonzero(np.arange(ITEMS) % 4 > 0)
    lists = []
    for user in range(USERS):
        own = bought[bought % KINDS == user % KINDS]
        popular = rng.zipf(1.3, 40) % len(own)
        lists.append([int(item) for item in own[list(dict.fromkeys(popular.tolist()))][:9]])
    interactions = Histories.from_lists(lists)
    catalogue = pl.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(ITEMS)],
            "title": [title(item) for item in range(ITEMS)],
        }
    )
    from twotower.data.catalogue import CATALOGUE_SCHEMA

    catalogue = catalogue.with_columns(
        pl.lit(None, dtype=kind).alias(name)
        for name, kind in CATALOGUE_SCHEMA.items()
        if name not in catalogue.columns
    )
    return Dataset(
        "shop",
        IdMap([f"u{user}" for user in range(USERS)], "user"),
        IdMap(catalogue["item_id"].to_list(), "item"),
        catalogue,
        interactions,
        leave_last_two(interactions.indptr),
        {"settings": {"split": {"kind": "leave-last-two"}}},
    )


@pytest.fixture(scope="module")
def shop_text(shop_with_unbought_items: Dataset) -> Any:
    return HashingText().encode(item_texts(shop_with_unbought_items.catalogue))


def cold_share(trained: Trained, dataset: Dataset) -> float:
    """Share of the places of validation users' lists that cold items have, by sorting."""
    scorer = trained.module.scorer()
    queries, _ = dataset.held_out(Part.VALIDATION)
    scores = scorer.scores(queries)
    scores[queries.histories.rows, queries.histories.items] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    cold = np.bincount(dataset.train.items, minlength=len(dataset.items)) == 0
    return float(cold[best].mean())


@pytest.fixture(scope="module", params=["v9", "v4"])
def trained(
    request: Any, shop_with_unbought_items: Dataset, small_variants: Any, shop_text: Any
) -> Trained:
    dataset = shop_with_unbought_items

    def validate(module: Any) -> float:
        return validation_ndcg(module.scorer(), dataset)

    return fit(small_variants[request.param], dataset, validate=validate, text=shop_text)


def test_items_without_events_take_no_more_than_their_share(
    trained: Trained, shop_with_unbought_items: Dataset
) -> None:
    share = cold_share(trained, shop_with_unbought_items)
    assert share <= 0.05
    assert trained.chosen["cold_start"]["share"] == pytest.approx(share, abs=0.005)
    assert trained.chosen["cold_start"]["items"] >= ITEMS // 4


def test_validation_has_cold_items_in_place(
    trained: Trained, shop_with_unbought_items: Dataset
) -> None:
    dataset = shop_with_unbought_items
    if isinstance(trained.module, SequenceTower):
        found = validation_ndcg(trained.module.scorer(), dataset)
        assert trained.metric == found
        with trained.module.without_cold_items():
            alone = validation_ndcg(trained.module.scorer(), dataset)
        assert found >= (1 - trained.module.cost) * alone
    test = evaluate(trained.module.scorer(), dataset, protocols=[FULL]).mean(FULL, "NDCG@10")
    assert test > 0.3 * validation_ndcg(trained.module.scorer(), dataset)


def test_more_than_their_share_is_said_in_words(
    trained: Trained, shop_with_unbought_items: Dataset, caplog: Any
) -> None:
    module: Any = trained.module
    if not isinstance(module, SequenceTower):
        pytest.skip("of a model without factors no scale is fitted that could flood")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.config = module.config.vary(
        cold_items=module.config.cold_items.vary(exposure=0.001, tower_scale=1.0)
    )
    found = fit_cold_start(module, shop_with_unbought_items)
    assert found is not None
    assert found.share <= 0.001
    if found.scale < 1:
        assert "items without a training event would take" in caplog.text
    module.load_state_dict(before)
    module.config = module.config.vary(cold_items=module.config.cold_items.vary(exposure=0.05))


def test_what_others_lose_is_bounded_by_the_setting(
    trained: Trained, shop_with_unbought_items: Dataset
) -> None:
    module: Any = trained.module
    if not isinstance(module, SequenceTower):
        pytest.skip("of a model without factors places alone are bounded")
    dataset = shop_with_unbought_items
    before = {name: value.clone() for name, value in module.state_dict().items()}
    config = module.config
    shares = []
    for cost in (0.0, 0.02, 1.0):
        module.config = config.vary(cold_items=config.cold_items.vary(cost=cost, exposure=1.0))
        found = fit_cold_start(module, dataset)
        assert found is not None
        shares.append(found.share)
        with module.without_cold_items():
            alone = validation_ndcg(module.scorer(), dataset)
        assert validation_ndcg(module.scorer(), dataset) >= (1 - cost) * alone - 1e-9
    assert shares == sorted(shares)
    module.load_state_dict(before)
    module.config = config


def test_the_largest_factor_that_others_can_afford() -> None:
    known, cold = np.array([[3.0, 2.0], [9.0, 1.0]]), np.array([[10.0], [0.5]])
    target = np.array([2.5, 8.0])
    # The first target's place is lost where 10 times the factor is above 2.5.
    assert _affordable(known, cold, target, 0.02) == pytest.approx(0.24)
    assert _affordable(known, cold, target, 1.0) == 1
    assert _affordable(known, np.array([[1.0], [1.0]]), target, 0.0) == 1


def test_added_items_take_no_more_than_their_share(
    trained: Trained, shop_with_unbought_items: Dataset
) -> None:
    dataset = shop_with_unbought_items
    pipeline = Pipeline(bundle_contents("model", trained, dataset))
    encoder = pipeline.item_encoder
    for number in range(10):  # as the service adds them, one after another
        rows = catalogue_rows([{"item_id": f"new{number}", "title": title(number)}])
        encoded = encoder.encode(rows, encoder.texts(rows), added=number)
        described = Descriptions([f"new{number}"], [title(number)], [None], [np.nan])
        pipeline = pipeline.with_items(pipeline.items.with_items(described, encoded))
    places = [
        one.item_id
        for user in range(0, USERS, 3)
        for one in pipeline.recommend(dataset.users.ids[user], k=10)
    ]
    new = sum(item.startswith("new") for item in places) / len(places)
    assert new <= max(0.05, 10 / (ITEMS - ITEMS // 4)) + 0.02


def test_the_best_come_first() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    np.testing.assert_array_equal(top_scores(scores.copy(), 7), -np.sort(-scores, axis=1)[:, :7])
    assert top_scores(scores[:, :3].copy(), 7).shape == (5, 3)


def test_without_validation_queries_scales_stay_and_cold_items_are_bounded(
    trained: Trained, shop_with_unbought_items: Dataset
) -> None:
    dataset = shop_with_unbought_items
    empty = replace(dataset, split=np.where(dataset.split == Part.VALIDATION, 2, dataset.split))
    module = cast(ColdItemModel, trained.module)
    before = module.cold_scales.clone() if module.has_factors else None
    found = fit_cold_start(module, empty)
    assert found is not None
    assert found.share <= module.exposure
    if before is not None:
        assert torch.equal(module.cold_scales, before)


def test_a_log_of_one_item_histories_trains_the_least_squares_part(
    small_variants: Any, caplog: Any
) -> None:
    rng = np.random.default_rng(0)
    lists = [rng.choice(12, 3, replace=False).tolist() for _ in range(40)]
    from twotower.data.catalogue import CATALOGUE_SCHEMA

    ids = [f"i{item}" for item in range(12)]
    catalogue = pl.DataFrame(
        {name: ids if name == "item_id" else [None] * 12 for name in CATALOGUE_SCHEMA},
        schema=CATALOGUE_SCHEMA,
    )
    interactions = Histories.from_lists(lists)
    dataset = Dataset(
        "short", IdMap([f"u{user}" for user in range(40)], "user"), IdMap(ids, "item"), catalogue,
        interactions, leave_last_two(interactions.indptr),
        {"settings": {"split": {"kind": "leave-last-two"}}},
    )  # fmt: skip
    text = HashingText().encode(item_texts(catalogue))
    trained = fit(
        small_variants["v9"],
        dataset,
        validate=lambda module: validation_ndcg(module.scorer(), dataset),
        text=text,
    )
    assert trained.state.epochs == []
    assert "no user has two training interactions" in caplog.text
    assert trained.metric is not None
    scorer = trained.module.scorer()
    vectors = scorer.user_vectors(Queries.anonymous(interactions))
    assert not vectors[:, :6].any()
    assert vectors[:, 6:].any(axis=1).all()
    pipeline = Pipeline(bundle_contents("v9", trained, dataset))
    assert len(pipeline.recommend("u3", k=5)) == 5
