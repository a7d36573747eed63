"""The weight between the towers and the least-squares part."""

from typing import Any

import pytest

from twotower.data import Dataset
from twotower.models.build import build_model
from twotower.models.sequence import MOST_FACTOR_WEIGHT, SequenceTower


@pytest.mark.parametrize("best", [0.3, 1.0, 5.6, 40.0])
def test_the_weight_that_validates_best_is_found(
    best: float, blocks: Dataset, small_variants: Any, block_text: Any
) -> None:
    module = build_model(small_variants["v9"].model, blocks, block_text)
    assert isinstance(module, SequenceTower)

    def validate(given: Any) -> float:
        weight = float(given.factor_weight)
        return -abs(weight - best) / max(weight, best)

    found = module.weigh_factors(validate)["factor_weights"]
    assert 0.8 < float(module.factor_weight) / best < 1.25
    assert len(found) <= 16


@pytest.mark.parametrize("end", [1 / MOST_FACTOR_WEIGHT, MOST_FACTOR_WEIGHT])
def test_the_ends_are_tried_whatever_lies_between(
    end: float, blocks: Dataset, small_variants: Any, block_text: Any
) -> None:
    """A part that is worth nothing spoils every mixture: one alone is the better model."""
    module = build_model(small_variants["v9"].model, blocks, block_text)
    assert isinstance(module, SequenceTower)

    def validate(given: Any) -> float:
        weight = float(given.factor_weight)
        return 1.0 if weight == end else 0.5 - abs(weight - 1) / 100

    module.weigh_factors(validate)
    assert float(module.factor_weight) == end
