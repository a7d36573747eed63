"""A model that loses to a baseline says so."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from support import Recorder
from twotower.bundle.blend import SIGNALS
from twotower.data import Dataset
from twotower.evaluation.figures import Evaluation
from twotower.training.fit import Trained
from twotower.workflow.baseline_check import (
    _words,
    compare_on_test,
    warn_below_baselines,
    warn_for_visitors,
)
from twotower.workflow.models import train_variant
from twotower.workflow.reranking import fitted_blend


@pytest.fixture(scope="module")
def v9(blocks: Dataset, small_variants: Any) -> Trained:
    return train_variant(small_variants["v9"], blocks)


def test_a_model_below_a_baseline_is_told_in_words_with_what_to_do(
    v9: Trained, blocks: Dataset
) -> None:
    weights = {name: value.clone() for name, value in v9.module.state_dict().items()}
    heard = Recorder()
    with torch.no_grad():
        v9.module.next_factors.zero_()  # what is left of the model ranks by chance
        v9.module.item_map.zero_()
    found = warn_below_baselines("v9", v9, blocks, heard)
    v9.module.load_state_dict(weights)
    assert set(found) == {"v9", "popularity", "item-knn", "ease", "content"}
    best = max(found, key=lambda name: found[name])
    assert best != "v9"
    (text,) = heard.failures
    assert text.startswith(f"{best} is better than v9 on this data set: validation NDCG@10")
    assert "the second stage" in text


@pytest.mark.parametrize(
    ("again", "served", "advice"),
    [
        (
            0.3,
            True,
            "second stage, which the bundle serves, has 0.3000: there is nothing to do",
        ),
        (
            0.3,
            False,
            "ask for the second stage (rerank=true, recommend --rerank), which has 0.3000",
        ),
        (0.15, True, "the second stage comes nearest with 0.1500; search better settings"),
        (0.15, False, "the second stage (rerank=true, recommend --rerank) comes nearest"),
        (0.1, False, "search better settings with 'twotower tune'"),
    ],
)
def test_the_advice_names_what_there_is_to_do(again: float, served: bool, advice: str) -> None:
    found = {"v10": 0.1, "item-knn": 0.2}
    words = " ".join(_words("v10", "item-knn", found, again, served=served))
    assert words.startswith("item-knn is better than two-tower on this data set")
    assert advice in words


def test_a_baseline_that_the_second_stage_beats_is_no_failure(
    v9: Trained, blocks: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "twotower.workflow.baseline_check"
    blend = fitted_blend(v9, blocks)
    assert blend is not None
    blend = replace(blend, helps=True)
    metrics = iter([0.1, 0.2, 0.15, 0.12, 0.1, 0.3])  # the model, four baselines, both stages
    monkeypatch.setattr(f"{module}.validation_ndcg", lambda *_, **__: next(metrics))
    heard = Recorder()
    warn_below_baselines("v9", v9, blocks, heard, lambda _: blend)
    assert not heard.failures
    assert heard.notes[0].endswith("which the bundle serves, has 0.3000: there is nothing to do")


def test_a_model_above_all_baselines_is_told_nothing(v9: Trained, blocks: Dataset) -> None:
    heard = Recorder()
    found = warn_below_baselines("v9", v9, blocks, heard)
    assert (found["v9"] >= max(found.values())) == (not heard.failures)


def test_the_graph_filter_is_a_baseline_where_order_says_nothing(
    v9: Trained, blocks: Dataset
) -> None:
    parts = blocks.split.copy()
    parts[:] = np.roll(parts, 6)  # six of a user's ten training items come after the held-out ones
    shuffled = replace(blocks, split=parts)
    assert not shuffled.in_order
    assert "graph-filter" in warn_below_baselines("v9", v9, shuffled, Recorder())


def test_models_without_towers_are_not_compared(blocks: Dataset, small_variants: Any) -> None:
    trained = train_variant(small_variants["mf"], blocks)
    assert warn_below_baselines("mf", replace(trained), blocks, Recorder()) == {}


def test_a_second_stage_that_ranks_badly_for_visitors_is_told(v9: Trained, blocks: Dataset) -> None:
    heard = Recorder()
    blend = fitted_blend(v9, blocks)
    assert blend is not None
    turned = np.zeros_like(blend.weights)
    turned[SIGNALS.index("retrieval")] = -1  # the likeliest last
    bands = np.tile(turned, (len(blend.short_lengths), 1))
    blend = replace(blend, weights=turned, short_weights=bands, network=None, helps=True)
    found = warn_for_visitors(v9, blocks, heard, lambda _: blend)
    assert found["served"] < found["popularity"]
    assert found["served"] < found["retrieval"]
    (text,) = heard.failures
    assert text.startswith("visitors without an account: after the first 3 items of a user")
    assert "recommend --no-rerank" in text


def test_a_model_that_suits_visitors_is_not_told_of(v9: Trained, blocks: Dataset) -> None:
    heard = Recorder()
    found = warn_for_visitors(v9, blocks, heard, lambda _: None)
    assert found["served"] == found["retrieval"] > found["popularity"]
    assert heard.failures == []


def evaluation(values: list[float]) -> Evaluation:
    return Evaluation(("HR@10", "NDCG@10"), {"full": np.array([[1.0, one] for one in values])})


def test_what_is_served_is_compared_with_the_best_baseline_on_test() -> None:
    poor, good = evaluation([0.1, 0.2] * 20), evaluation([0.3, 0.5] * 20)
    mixed = evaluation([0.5, 0.3] * 20)

    def said(served: Evaluation, **baselines: Evaluation) -> Recorder:
        heard = Recorder()
        compare_on_test("v10", served, True, baselines, heard)
        return heard

    better = said(good, popularity=poor)
    assert not better.failures
    assert better.notes == [
        "the bundle serves two-tower with both stages: test NDCG@10 0.4000, the best baseline's "
        "(popularity) 0.1500"
    ]
    level = said(good, popularity=poor, ease=mixed)
    assert not level.failures
    assert level.notes[0].endswith("(ease) 0.4000; 40 users are too few to tell them apart")
    random = np.random.default_rng(0).random((3, 400))
    lucky, *models = [evaluation([*values]) for values in random]
    none = said(models[0], popularity=lucky, als=models[1])
    assert none.notes[0].endswith("400 users are too few to tell them apart")
    (text,) = none.failures
    assert text.startswith(
        "no model is better than popularity beyond chance: test NDCG@10 of 400 users popularity "
        f"{random[0].mean():.4f}, als {random[2].mean():.4f}, two-tower {random[1].mean():.4f}; "
    )
    assert not said(good, popularity=poor, als=good).failures
    assert not said(mixed, als=good).failures
    worse = said(poor, als=good)
    assert not worse.notes
    assert "(als) 0.4000, which is better beyond chance; search better" in worse.failures[0]
    assert said(good).notes == ["the bundle serves two-tower with both stages"]
