"""BPR with the hardest negatives: all vectors in one point, unless near ones are left out."""

from functools import cache
from itertools import count
from typing import Any

import numpy as np
import pytest

from twotower.data import Dataset, Part
from twotower.models.base import VectorScorer
from twotower.training.fit import fit


@pytest.fixture(scope="module")
def scorer(blocks: Dataset, block_text: Any, small_variants: Any) -> Any:
    @cache
    def make(name: str, margin: float | None = None, temperature: float | None = None) -> Any:
        variant = small_variants[name]
        if temperature is not None:
            variant = variant.vary(loss=variant.loss.vary(temperature=temperature))
        if margin is not None:
            variant = variant.vary(negatives=variant.negatives.vary(margin=margin))
        training = variant.training.vary(epochs=12, patience=12, validate_steps=1000)
        metrics = count()  # the last weights are kept: what training leads to
        return fit(
            variant.vary(training=training),
            blocks,
            validate=lambda _: next(metrics),
            text=block_text,
        ).module.scorer()

    return make


def spread(scorer: VectorScorer, blocks: Dataset) -> float:
    """Standard deviation of a user's scores over the catalogue, a mean over users."""
    queries, _ = blocks.held_out(Part.TEST)
    return float(scorer.scores(queries).std(axis=1).mean())


def test_without_a_margin_all_items_end_in_one_point(scorer: Any, blocks: Dataset) -> None:
    for temperature in (1.0, 0.1):  # the scale of the cosines is not what does it
        found = scorer("v4-bpr", temperature=temperature)
        assert np.linalg.norm(found.item_vectors().mean(axis=0)) > 0.97
        assert spread(found, blocks) < 0.1


def test_with_a_margin_they_do_not(scorer: Any, blocks: Dataset) -> None:
    for found in (scorer("v4-bpr", margin=0.1), scorer("v4-bpr-fixed")):
        assert np.linalg.norm(found.item_vectors().mean(axis=0)) < 0.9
        assert spread(found, blocks) > 0.2
