"""A user whose id is known and who has no training event is a user without an id."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from twotower.data import Dataset, Part, Queries
from twotower.training.fit import fit

LATE = np.array([3, 8], np.int32)
"""Users whose every event is held out."""


@pytest.fixture(scope="module")
def late_users(blocks: Dataset) -> Dataset:
    split = np.array(blocks.split)
    rows = blocks.interactions.rows
    late = np.isin(rows, LATE)
    first = np.append(True, rows[1:] != rows[:-1])
    split[late & ~first] = Part.TEST
    split[late & first] = Part.VALIDATION
    return replace(blocks, split=split)


@pytest.mark.parametrize("name", ["mf", "lightgcn", "v1", "v5", "v5c", "v8", "v9"])
def test_a_user_without_a_training_event_is_ranked_as_without_an_id(
    name: str, late_users: Dataset, small_variants: Any, block_text: Any, block_teachers: Any
) -> None:
    assert not late_users.train.lengths[LATE].any()
    variant = small_variants[name]
    module = fit(
        variant, late_users, validate=lambda _: 0.0, text=block_text,
        teachers=block_teachers,
    ).module  # fmt: skip
    scorer = module.scorer()
    histories = late_users.interactions.select(LATE)
    known = scorer.user_vectors(Queries(LATE, histories))
    np.testing.assert_allclose(known, scorer.user_vectors(Queries.anonymous(histories)), atol=1e-6)
    if variant.model.has_towers and name != "v9":
        table = module.export(len(late_users.users)).user_table
        np.testing.assert_array_equal(table[LATE + 1], table[[0, 0]])
        others = np.setdiff1d(np.arange(len(late_users.users)), LATE)
        assert (table[others + 1] != table[0]).any(axis=1).all()
