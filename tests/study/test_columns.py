from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower.data import Dataset
from twotower.errors import InputError
from twotower.evaluation.registry import FULL_TIMED
from twotower.study.columns import ALL, ATTRIBUTES, NEW_USERS, NONE, POPULARITY, ablate_columns


@pytest.fixture(scope="module")
def described() -> Dataset:
    rng = np.random.default_rng(0)
    users = [f"u{user}" for user in range(30)]
    rows = [
        (user, f"i{item}", at) for user in users for at, item in enumerate(rng.permutation(20)[:8])
    ]
    return Dataset.from_frames(
        pl.DataFrame(rows, schema=["user", "item", "time"], orient="row"),
        items={"item": [f"i{item}" for item in range(20)], "brand": ["a", "b"] * 10},
        users={"user": users, "age": [20 + row for row in range(30)]},
        schema={"items": {"brand": "category"}, "users": {"age": "number"}},
        settings={"k_core": 0},
    )


def test_each_column_is_left_out_in_turn(
    described: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    variant = small_variants["v9"].vary(text_encoder="hashing")
    quick = variant.vary(training=variant.training.vary(epochs=1, least_steps=0))
    calls: list[int] = []
    found = ablate_columns(
        described, tmp_path, quick, measured=lambda study: calls.append(len(study.rows))
    )
    measured = {(row.protocol, row.model) for row in found.rows}
    assert measured == {
        (FULL_TIMED, ALL), (FULL_TIMED, NONE), (FULL_TIMED, "without events.time"),
        (FULL_TIMED, "without items.brand"), (FULL_TIMED, "without users.age"),
        (NEW_USERS, POPULARITY), (NEW_USERS, ATTRIBUTES),
    }  # fmt: skip
    assert calls == [2, 4, 6, 8, 10, 12, 14]
    parents = {(one.model, one.parent) for one in found.differences}
    assert parents == {
        (NONE, ALL), ("without events.time", ALL), ("without items.brand", ALL),
        ("without users.age", ALL),
        (ATTRIBUTES, POPULARITY),
    }  # fmt: skip
    rows = {(row.model, row.metric): row.value for row in found.rows if row.protocol == FULL_TIMED}
    for one in found.differences:
        if one.parent == ALL:
            difference = rows[one.model, one.metric] - rows[ALL, one.metric]
            assert one.value == pytest.approx(difference, abs=1e-5)


def test_all_columns_are_compared_with_none_alone(
    described: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    variant = small_variants["v9"].vary(text_encoder="hashing")
    quick = variant.vary(training=variant.training.vary(epochs=1, least_steps=0))
    found = ablate_columns(described, tmp_path, quick, seeds=2, each=False)
    assert {(row.model, tuple(row.seeds)) for row in found.rows} == {(ALL, (0, 1)), (NONE, (0, 1))}
    assert {(one.model, one.parent) for one in found.differences} == {(NONE, ALL)}


def test_a_data_set_without_declared_columns_is_refused(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="has no declared columns that the model reads"):
        ablate_columns(blocks, tmp_path, small_variants["v9"])
