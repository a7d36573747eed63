"""Known answers of the encoder of each kind of column."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower.data.schema import DTYPES, Column
from twotower.features import HashingText
from twotower.features import declared_columns as module
from twotower.features.declared_columns import ColumnEncoders, Encoded, FitContext

DAY = 86_400_000


def vectors(name: str, texts: Any) -> Any:
    assert name == "hashing"
    return HashingText().encode(texts)


def encoded(
    kind: str, fitted: list[Any], values: list[Any], moment: float | None = None, **options: Any
) -> Encoded:
    """``values`` by an encoder that was fitted on others, and not on these."""
    column = Column(kind=kind, **options)  # type: ignore[arg-type]
    table = pl.DataFrame({"x": pl.Series([*fitted, *values], dtype=DTYPES[kind])})
    known = np.arange(table.height) < len(fitted)
    context = FitContext(moment, vectors)
    encoders = ColumnEncoders.fit(table, {"x": column}, known, context)
    again = ColumnEncoders.from_json(encoders.to_json())
    found = again.encode(table, vectors).take(np.flatnonzero(~known))
    assert found.codes.max(initial=0) < again.rows
    return found


def test_a_number_is_standardised_and_marked_where_it_is_missing() -> None:
    found = encoded("number", [8.0, 10.0, 12.0], [10.0, 12.0, None, 1e9])
    spread = np.std([8, 10, 12])
    expected = [[0, 0, 0], [0, 2 / spread, 0], [0, 0, 1], [0, 5, 0]]  # the first is a constant
    np.testing.assert_allclose(found.dense, expected, atol=1e-6)
    assert not found.codes.any()


def test_a_number_with_a_long_tail_is_read_as_its_logarithm() -> None:
    fitted = [0.0, 0.0, 0.0, 0.0, 1000.0]
    logs = np.log1p(fitted)
    found = encoded("number", fitted, [1000.0])
    expected = (logs[-1] - logs.mean()) / logs.std()
    np.testing.assert_allclose(found.dense[0, 1], expected, rtol=1e-6)


def test_a_flag_is_a_number() -> None:
    found = encoded("flag", [True, False, True, False], [True, False, None])
    np.testing.assert_allclose(found.dense[:, 1:], [[1, 0], [-1, 0], [0, 1]], atol=1e-6)


def test_a_date_is_an_age_at_the_end_of_training() -> None:
    moment = 100 * DAY
    ages = np.log1p([0.0, 10.0, 90.0])
    fitted = [100 * DAY, 90 * DAY, 10 * DAY]
    found = encoded("date", fitted, [90 * DAY, 500 * DAY, None], moment=moment)
    expected = (np.asarray([ages[1], 0.0]) - ages.mean()) / ages.std()
    np.testing.assert_allclose(found.dense[:2, 1], expected, rtol=1e-5)
    np.testing.assert_allclose(found.dense[2, 1:], [0, 1])


def test_a_category_has_rows_for_unknown_and_missing_values() -> None:
    fitted = ["b", "b", "b", "a", "a", "once"]
    found = encoded("category", fitted, ["b", "a", "once", "never", None])
    # Row 0 of the table is none: 1 unknown, 2 missing, then the most frequent first.
    assert found.codes.tolist() == [[3], [4], [1], [1], [2]]
    assert found.weights.tolist() == [[1]] * 5


def test_rare_values_share_buckets_above_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VALUES", 2)
    fitted = ["a"] * 4 + ["b"] * 3 + ["c"] * 2
    found = encoded("category", fitted, ["a", "c", "never"])
    assert found.codes[0] == 3
    assert (found.codes[1:] >= 5).all()


def test_a_list_is_the_mean_of_its_values() -> None:
    found = encoded("list", [["a", "b"], ["a", "b"]], [["a", "b"], ["b"], [], None, ["x"]])
    assert found.codes.tolist() == [[3, 4], [4, 0], [2, 0], [2, 0], [1, 0]]
    assert found.weights.tolist() == [[0.5, 0.5], [1, 0], [1, 0], [1, 0], [1, 0]]


def test_an_embedding_is_a_unit_vector() -> None:
    found = encoded("embedding", [[1.0, 0.0]], [[3.0, 4.0], None])
    np.testing.assert_allclose(found.dense[:, 1:], [[0.6, 0.8, 0], [0, 0, 1]])


def test_a_text_is_its_components() -> None:
    fitted = ["red wool", "red steel", "blue wool", "blue steel"] * 3
    found = encoded("text", fitted, ["red wool", "red wool", "blue steel", None], encoder="hashing")
    assert found.dense.shape == (4, 1 + module.TEXT_COMPONENTS + 1)
    np.testing.assert_array_equal(found.dense[0], found.dense[1])
    assert found.dense[0] @ found.dense[0] > found.dense[0] @ found.dense[2]
    np.testing.assert_array_equal(found.dense[3], [0] * (1 + module.TEXT_COMPONENTS) + [1])


def test_columns_stand_side_by_side() -> None:
    table = pl.DataFrame(
        {"a": ["x", "x", "y", "y"], "b": ["u", "u", "v", "v"], "n": [1.0, 2, 3, 4]}
    )
    columns = {
        name: Column(kind=kind)
        for name, kind in (("a", "category"), ("b", "category"), ("n", "number"))
    }  # type: ignore[arg-type]
    encoders = ColumnEncoders.fit(table, columns, np.ones(4, bool), FitContext(None, vectors))
    found = encoders.encode(table, vectors)
    assert found.codes.tolist() == [[3, 7], [3, 7], [4, 8], [4, 8]]
    assert encoders.rows == 9
    assert found.dense.shape == (4, 3)
