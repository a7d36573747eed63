import numpy as np
import pytest

from twotower.data import Dataset, Histories, Part, Queries
from twotower.evaluation.protocols import FULL, evaluate
from twotower.factors.item_knn import ItemKNN
from twotower.factors.popularity import Popularity
from twotower.factors.random_walk import RandomWalk, WalkConfig
from twotower.workflow.baseline_settings import choose_walk

LOG = Histories.from_lists([[0, 1, 2], [0, 1], [1, 3], [4, 4]])


def test_the_similarity_is_the_formula() -> None:
    config = WalkConfig(user_power=0.7, history_power=0.6, popularity_power=0.3, sharpness=1.5)
    found = RandomWalk.fit(LOG, 6, config).similarity.toarray()
    shared = 3**-0.7 + 2**-0.7  # users 0 and 1 have items 0 and 1
    assert found[0, 1] == pytest.approx(shared**1.5 / (2**0.6 * 3**0.3), rel=1e-5)
    assert found[1, 0] == pytest.approx(shared**1.5 / (3**0.6 * 2**0.3), rel=1e-5)
    assert found[1, 3] == pytest.approx((2**-0.7) ** 1.5 / 3**0.6, rel=1e-5)
    assert not found.diagonal().any()
    assert not found[4:].any()  # alone, and never had


def test_without_user_weights_and_with_equal_halves_it_is_item_knn() -> None:
    config = WalkConfig(user_power=0, history_power=0.5, popularity_power=0.5)
    expected = ItemKNN.fit(LOG, 6).similarity.toarray()
    np.testing.assert_allclose(
        RandomWalk.fit(LOG, 6, config).similarity.toarray(), expected, rtol=1e-5
    )


def test_scores_are_summed_over_the_history() -> None:
    walk = RandomWalk.fit(LOG, 6)
    queries = Queries.anonymous(Histories.from_lists([[0, 3], []]))
    scores = walk.scores(queries)
    similarity = walk.similarity.toarray()
    np.testing.assert_allclose(scores[0], similarity[0] + similarity[3], rtol=1e-6)
    assert not scores[1].any()
    assert walk.num_items == 6


def test_what_is_chosen_is_no_worse_than_the_start_on_validation(blocks: Dataset) -> None:
    tried: dict[WalkConfig, float] = {}
    chosen = choose_walk(blocks, lambda config, metric: tried.__setitem__(config, metric))
    assert chosen.trials == len(tried) > len(WalkConfig.model_fields)
    assert chosen.metric == max(tried.values()) == tried[chosen.config]
    assert tried[WalkConfig()] <= chosen.metric


def test_it_finds_blocks(blocks: Dataset) -> None:
    size = len(blocks.items)
    walk, popular = RandomWalk.fit(blocks.train, size), Popularity.fit(blocks.train, size)
    found, other = (
        evaluate(one, blocks, part=Part.TEST, protocols=(FULL,)).mean(FULL, "HR@10")
        for one in (walk, popular)
    )
    assert found > other
