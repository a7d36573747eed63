"""Transitions against a count by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from twotower.data import Histories
from twotower.data.events import EventRules
from twotower.factors.transitions import DECAY, REACH, SHRINKAGE, transition_links
from twotower.types import FloatArray

LOG = Histories.from_lists([[0, 1, 2], [0, 1], [3], [], [2, 0]])


def by_hand(log: Histories, num_items: int, value: FloatArray) -> FloatArray:
    """The formula, pair by pair; ``value`` says what an event counts."""
    counted = np.zeros((num_items, num_items))
    for row in range(len(log)):
        for first in range(log.indptr[row], log.indptr[row + 1]):
            for second in range(first + 1, min(first + REACH, log.indptr[row + 1] - 1) + 1):
                pair = log.items[first], log.items[second]
                say = DECAY ** (second - first - 1) * np.sqrt(value[first] * value[second])
                counted[pair] += say
    scale = np.sqrt(np.bincount(log.items, value, minlength=num_items) + SHRINKAGE)
    return counted / scale[:, None] / scale


def test_pairs_are_counted_in_their_direction() -> None:
    links = transition_links(LOG, 5)
    assert isinstance(links, sparse.csr_array)
    np.testing.assert_allclose(links.toarray(), by_hand(LOG, 5, np.ones(8)), rtol=1e-6)
    assert links[0, 1] > 0
    assert links[1, 0] == 0


def test_events_count_their_weight_and_only_what_is_to_be_predicted_follows() -> None:
    rng = np.random.default_rng(0)
    log = Histories.from_lists([rng.integers(0, 12, size=20).tolist() for _ in range(5)])
    weights = rng.uniform(0.2, 3, size=100).astype(np.float32)
    links = transition_links(replace(log, weights=weights), 12)
    np.testing.assert_allclose(links.toarray(), by_hand(log, 12, weights), rtol=1e-5)

    rules = EventRules(weights={"view": 1.0, "buy": 1.0}, target=("buy",), learn="target")
    kinds = (log.items != 3).astype(np.int8)  # item 3 is only ever viewed
    told = replace(log, weights=np.ones(100, np.float32), kinds=kinds, rules=rules)
    expected = by_hand(log, 12, np.ones(100))
    expected[:, 3] = 0
    np.testing.assert_allclose(transition_links(told, 12).toarray(), expected, rtol=1e-5)


def test_the_strongest_are_kept() -> None:
    links = transition_links(LOG, 5, links=1).toarray()
    assert (np.count_nonzero(links, axis=1) <= 1).all()
    assert links[0].argmax() == 1


@pytest.mark.parametrize("log", [[[0]], [[], []]])
def test_a_log_without_pairs_has_no_links(log: list[list[int]]) -> None:
    assert transition_links(Histories.from_lists(log), 3).nnz == 0
