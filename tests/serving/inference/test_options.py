from dataclasses import FrozenInstanceError, fields
from typing import get_type_hints

import numpy as np
import pytest

from twotower.errors import InputError
from twotower.inference import RecommendOptions
from twotower.inference.options import OptionFields


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k": 0}, r"^k must be at least 1, got 0$"),
        ({"k": 2.5}, r"^k must be a whole number, got 2\.5; pass k=10$"),
        (
            {"k": 10, "rerank": True, "candidates": 9},
            r"^candidates must be at least k 10, got 9$",
        ),
    ],
)
def test_options_that_cannot_be_met_are_refused(given, message) -> None:
    with pytest.raises(InputError, match=message):
        RecommendOptions(**given)


def test_candidates_count_only_where_they_are_ranked_again() -> None:
    assert RecommendOptions(2000, candidates=1000).candidates == 1000
    assert RecommendOptions(np.int64(3)).k == 3


def test_options_are_a_value() -> None:
    assert RecommendOptions(3) == RecommendOptions(k=3)
    with pytest.raises(FrozenInstanceError):
        RecommendOptions().k = 3  # type: ignore[misc]


def test_keyword_arguments_are_fields_of_the_options() -> None:
    types = {field.name: field.type for field in fields(RecommendOptions)}
    keywords = get_type_hints(OptionFields)
    assert keywords == {name: types[name] for name in keywords}
    assert types.keys() - keywords.keys() == {"k", "strict"}
