import numpy as np
import pytest

from twotower.data import Dataset, Histories, Part, Queries
from twotower.evaluation.protocols import FULL, evaluate
from twotower.factors.graph_filter import FilterConfig, GraphFilter
from twotower.factors.popularity import Popularity
from twotower.workflow.baseline_settings import choose_filter

LOG = Histories.from_lists([[0, 1, 2], [0, 1], [1, 3], [4, 4], [2, 3, 0]])
HISTORIES = Histories.from_lists([[0, 3], [1, 1], []])


def by_hand(config: FilterConfig) -> np.ndarray:
    """The formula with dense matrices and an eigendecomposition."""
    interactions = np.zeros((5, 6))
    for user in range(5):
        interactions[user, LOG.row(user)] = 1
    of_user, of_item = interactions.sum(1), np.maximum(interactions.sum(0), 1)
    normalised = interactions / np.sqrt(of_user)[:, None] / np.sqrt(of_item)
    links = normalised.T @ normalised
    vectors = np.linalg.eigh(links)[1][:, -config.factors :]
    history = np.array([[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0], [0] * 6])
    low = history / np.sqrt(of_item) @ vectors @ vectors.T * np.sqrt(of_item)
    state = history @ links + config.low_pass * low
    step = config.sharpening
    first = -state @ links
    second = -(state + step / 2 * first) @ links
    third = -(state + step / 2 * second) @ links
    fourth = -(state + step * third) @ links
    return state + step / 6 * (first + 2 * second + 2 * third + fourth)


@pytest.mark.parametrize("sharpening", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("low_pass", [0.0, 0.3])
def test_scores_are_the_formula(low_pass: float, sharpening: float) -> None:
    config = FilterConfig(factors=2, low_pass=low_pass, sharpening=sharpening)
    found = GraphFilter.fit(LOG, 6, config).scores(Queries.anonymous(HISTORIES))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(config), atol=1e-5)


def test_fewer_vectors_of_a_wide_fit_are_those_of_a_narrow_one() -> None:
    narrow = GraphFilter.fit(LOG, 6, FilterConfig(factors=2))
    wide = GraphFilter.fit(LOG, 6, FilterConfig(factors=4))
    assert wide.vectors.shape == (6, 4)
    np.testing.assert_allclose(np.abs(wide.vectors[:, :2]), np.abs(narrow.vectors), atol=1e-5)


def test_a_log_of_one_user_has_no_vectors() -> None:
    found = GraphFilter.fit(Histories.from_lists([[0, 1]]), 3)
    assert found.vectors.shape == (3, 0)
    scores = found.scores(Queries.anonymous(Histories.from_lists([[0]])))
    assert scores.shape == (1, 3)
    assert scores[0, 1] > scores[0, 2] == 0


def test_what_is_chosen_is_no_worse_than_the_start_on_validation(blocks: Dataset) -> None:
    tried: dict[FilterConfig, float] = {}
    chosen = choose_filter(blocks, lambda config, metric: tried.__setitem__(config, metric))
    assert chosen.trials == len(tried) > len(FilterConfig.model_fields)
    assert chosen.metric == max(tried.values()) == tried[chosen.config]
    assert tried[FilterConfig()] <= chosen.metric


def test_it_finds_blocks(blocks: Dataset) -> None:
    size = len(blocks.items)
    found, other = (
        evaluate(model, blocks, part=Part.TEST, protocols=(FULL,)).mean(FULL, "HR@10")
        for model in (GraphFilter.fit(blocks.train, size), Popularity.fit(blocks.train, size))
    )
    assert found > other
