"""Known answers: in two blocks that never meet, a user's own block comes first."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from twotower.data import Dataset, Part, Queries
from twotower.evaluation.protocols import validation_ndcg
from twotower.models.base import RetrievalModule, VectorScorer
from twotower.training.fit import fit


@pytest.fixture(scope="module")
def trained(blocks: Dataset, block_text: Any, small_variants: Any) -> Callable[[str], VectorScorer]:
    """The scorer of a small variant after brief training, made once."""

    def validate(module: RetrievalModule) -> float:
        return validation_ndcg(module.scorer(), blocks)

    @cache
    def make(name: str) -> VectorScorer:
        small = small_variants[name]
        training = small.training.vary(epochs=30, patience=30, validate_steps=30)
        variant = small.vary(training=training)
        return fit(variant, blocks, validate=validate, text=block_text).module.scorer()

    return make


def share_in_order(scorer: VectorScorer, queries: Queries, blocks: np.ndarray) -> float:
    """Share of (unseen item of the block, item of the other block) pairs in the right order."""
    scores = scorer.scores(queries)
    right = []
    for row, block in enumerate(blocks):
        own = np.setdiff1d(np.arange(block, 40, 2), queries.histories.row(row))
        right.append(scores[row, own][:, None] > scores[row, np.arange(1 - block, 40, 2)])
    return float(np.mean([one.mean() for one in right]))


@pytest.mark.parametrize("name", ["mf", "lightgcn", "v1", "v4", "v5"])
def test_known_users_get_their_block(name: str, trained: Any, blocks: Dataset) -> None:
    queries, _ = blocks.held_out(Part.TEST)
    found = share_in_order(trained(name), queries, queries.users % 2)
    assert found > (0.99 if name in ("mf", "lightgcn", "v5") else 0.9)


@pytest.mark.parametrize("name", ["mf", "lightgcn", "v5"])
def test_somebody_new_gets_the_block_of_their_history(
    name: str, trained: Any, blocks: Dataset
) -> None:
    histories = blocks.train.last(3)
    queries = Queries.anonymous(histories)
    assert share_in_order(trained(name), queries, np.arange(len(histories)) % 2) > 0.99
