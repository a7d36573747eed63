import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

from support import histories
from twotower.data import Dataset
from twotower.data.frames import as_frame, id_list, id_text
from twotower.data.prepare import prepare
from twotower.data.settings import PrepareSettings
from twotower.errors import InputError

LOG = {"user": ["u", "u", "v"], "item": ["b", "a", "a"], "time": [2, 1, 1]}
ITEMS = {"id": ["a", "b", "c"], "name": ["A", "B", "C"]}
ALL = {"k_core": 0}


TABLES: dict[str, Any] = {
    "polars": pl.DataFrame,
    "lazy": lambda table: pl.DataFrame(table).lazy(),
    "pandas": pd.DataFrame,
    "arrow": pa.table,
    "dict": dict,
    "arrays": lambda table: {name: np.array(values) for name, values in table.items()},
    "series": lambda table: {name: pd.Series(values) for name, values in table.items()},
    "dicts": lambda table: [
        dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)
    ],
}  # fmt: skip


@pytest.mark.parametrize("index", [["user"], ["user", "item"], []])
def test_a_named_index_of_pandas_is_a_column(index: list[str]) -> None:
    table = pd.DataFrame(LOG)
    frame = as_frame(table.set_index(index) if index else table[::-1], "log")
    assert set(frame.columns) == {"user", "item", "time"}
    assert sorted(frame.select("user", "item").rows()) == [("u", "a"), ("u", "b"), ("v", "a")]


def test_an_index_without_a_name_is_a_column_unless_it_numbers_the_rows() -> None:
    catalogue = pd.DataFrame({"title": ["A", "B"]}, index=["a", "b"])
    assert as_frame(catalogue, "items").rows() == [("a", "A"), ("b", "B")]
    dataset = Dataset.from_frames(LOG, catalogue, columns={"catalogue_item": "index"}, settings=ALL)
    assert dataset.catalogue["title"].to_list() == ["A", "B"]
    counts = pd.DataFrame(LOG).groupby(["user", "item"])[["time"]].agg(["max", "min"])
    assert as_frame(counts, "log").columns == ["user", "item", "time_max", "time_min"]
    assert as_frame(counts.rename_axis([None, None]), "log").columns[:2] == ["level_0", "level_1"]


def test_numbered_columns_take_names_and_named_ones_none() -> None:
    numbered = pd.DataFrame([["u", "b", 2], ["u", "a", 1], ["v", "a", 1]])
    for columns in (["user", "item", "time"], {"user": 0, "item": 1, "time": 2}):
        dataset = Dataset.from_frames(numbered, columns=columns, settings=ALL)
        assert histories(dataset) == {"u": ["a", "b"], "v": ["a"]}
    for table in (pd.DataFrame(LOG), pl.DataFrame(LOG), LOG, pl.DataFrame(LOG).to_dicts()):
        assert len(Dataset.from_frames(table, columns=list(LOG), settings=ALL).users) == 2
        with pytest.raises(
            InputError,
            match=r"^columns is a list, .* those of interactions have names: 'user', 'item', "
            r"'time'; say which is which, such as columns={'user': 'user'}$",
        ):
            Dataset.from_frames(table, columns=["item", "user", "time"])


def test_batches_of_arrow_are_a_table() -> None:
    table = pa.table(LOG)
    for given in (table.to_batches()[0], table.to_reader(), _Capsule(table)):
        assert as_frame(given, "log").equals(pl.DataFrame(LOG))


class _Capsule:
    """A table of a library that only has the Arrow interface."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


def test_zeros_that_a_matrix_stores_are_no_interactions() -> None:
    matrix = sparse.coo_matrix(([1, 0, 2], ([0, 0, 1], [5, 6, 6])))
    assert as_frame(matrix, "log").rows() == [(0, 5, 1), (1, 6, 2)]


def test_values_that_a_library_has_no_column_for_become_text() -> None:
    ids = [b"a", "a", 7, Decimal("7.0"), Decimal("7.5"), np.timedelta64(3, "s")]
    column = as_frame({"item": pd.Series(ids, dtype=object)}, "log")["item"]
    assert column.to_list() == ["a", "a", "7", "7", "7.5", "3 seconds"]
    wide = pl.DataFrame({"user": pl.Series([2**100], dtype=pl.Int128)})
    assert as_frame(wide, "log")["user"].to_list() == [str(2**100)]


def test_several_files_of_a_log_and_a_table_may_stand_together(tmp_path: Path) -> None:
    for name, row in (("one", "u,a,1"), ("two", "v,b,2")):
        (tmp_path / f"{name}.csv").write_text(f"user,item,time\n{row}\n")
    dataset = prepare(
        [tmp_path / "one.csv", tmp_path / "two.csv"],
        catalogue=ITEMS,
        settings=PrepareSettings(**ALL),
    )
    assert histories(dataset) == {"u": ["a"], "v": ["b"]}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"items": ["a", "b"]}, "items must be a table or the path of one file, got ['a', 'b']"),
        ({"items": [("a", "A")]}, "the 2 columns of items have no names; pass a DataFrame, a dict"),
        ({"items": pd.Series(["A"])}, "items must be a table, got a Series; pass a DataFrame"),
        ({"items": {"a": "A"}}, "column 'a' of items must be a list, got 'A'"),
        ({"users": [("u", 7)]}, "the 2 columns of users have no names; pass a DataFrame, a dict"),
        ({"name": 5}, "prepare: name: Input should be a valid string, got 5"),
    ],
)
def test_other_tables_are_refused_by_their_names(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        Dataset.from_frames(LOG, **tables)
    assert message in str(refused.value)


def test_columns_of_numbers_are_read_by_their_names() -> None:
    wide = pd.crosstab(pd.Series(["u", "v"], name="user"), pd.Series([7, 8], name="item"))
    assert as_frame(wide, "log").columns == ["user", "7", "8"]


@pytest.mark.parametrize(
    "table", [pd.DataFrame({"id": ["a"]}), pl.DataFrame({"id": ["a"]}), {"id": ["a"]}]
)
def test_a_table_is_no_list_of_ids(table: Any) -> None:
    with pytest.raises(InputError, match=r"history must be a list of ids, got a .*; pass one col"):
        id_list(table)


def test_a_long_value_is_cut_in_a_message() -> None:
    with pytest.raises(InputError, match=r"whole number, got \[0, 1, .*…$"):
        id_text(list(range(1000)))


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_any_kind_is_prepared_by_the_rules_for_files(kind: str) -> None:
    make = TABLES[kind]
    dataset = Dataset.from_frames(
        make(LOG), items=make(ITEMS), users=make({"user": ["u"], "age": [7]}), settings=ALL
    )
    assert histories(dataset) == {"u": ["a", "b"], "v": ["a"]}
    assert dataset.catalogue["title"].to_list() == ["A", "B", "C"]
    assert dataset.user_table is not None
    assert dataset.user_table.rows() == [("u", "7"), ("v", None)] or (
        dataset.user_table.rows() == [("u", 7), ("v", None)]
    )
    assert dataset.name == "interactions"
    assert prepare(make(LOG), settings=PrepareSettings(**ALL)).users == dataset.users


@pytest.mark.parametrize(
    "rows",
    [
        [("u", "b", 2), ("u", "a", 1), ("v", "a", 1)],
        [["u", "b", 2], ["u", "a", 1], ["v", "a", 1]],
        np.array([["u", "b", "2"], ["u", "a", "1"], ["v", "a", "1"]]),
        np.array([["u", "b", 2], ["u", "a", 1], ["v", "a", 1]], dtype=object),
        np.array([("u", "b", 2), ("u", "a", 1), ("v", "a", 1)],
                 dtype=[("user", "U2"), ("item", "U2"), ("time", "i8")]),
    ],
    ids=["tuples", "lists", "text", "objects", "structured"],
)  # fmt: skip
def test_rows_and_arrays_take_the_names_that_are_given(rows: Any) -> None:
    named = None if isinstance(rows, np.ndarray) and rows.dtype.names else ["user", "item", "time"]
    dataset = Dataset.from_frames(rows, columns=named, settings=ALL)
    assert histories(dataset) == {"u": ["a", "b"], "v": ["a"]}


def test_columns_are_named_in_the_words_of_the_mapping() -> None:
    log = {"who": ["u", "u"], "what": ["b", "a"], "at": ["2020-01-02", "2020-01-01"]}
    dataset = Dataset.from_frames(
        log, columns={"user": "who", "item": "what", "time": "at"}, settings=ALL
    )
    assert histories(dataset) == {"u": ["a", "b"]}
    with pytest.raises(
        InputError,
        match=r"^cannot determine the (user and item and time|user, item and time )"
        r"columns of interactions, it has 'who', 'what', 'at'; name them: ColumnMapping\(user=",
    ):
        Dataset.from_frames(log)
    with pytest.raises(
        InputError, match=r"^from_frames: columns\.who: unknown key, got 'user'; it is"
    ):
        Dataset.from_frames(log, columns={"who": "user"})


def test_values_of_every_type_become_ids_and_times() -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    log = pd.DataFrame(
        {
            "user": [first, second, first],
            "item": [7, "x", None],
            "time": pd.to_datetime(["2020-01-02", "2020-01-01", "2020-01-03"], utc=True),
        }
    )
    dataset = Dataset.from_frames(log, settings=ALL)
    assert histories(dataset) == {str(first): ["7"], str(second): ["x"]}
    assert dataset.summary["rejected"] == {"item_id: missing": 1}
    assert dataset.interactions.timestamps is not None
    first = datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000
    assert dataset.interactions.timestamps.min() == first
    floats = Dataset.from_frames(
        {"user": [1.0, 2.0, np.nan], "item": pd.Categorical(["a", "b", "a"]), "time": [1, 2, 3]},
        settings=ALL,
    )
    assert floats.users.ids == ("1", "2")


def test_a_path_and_a_table_may_stand_together(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,a,1\n")
    dataset = prepare(
        tmp_path / "log.csv", catalogue=pl.DataFrame(ITEMS), settings=PrepareSettings(**ALL)
    )
    assert dataset.items.ids == ("a", "b", "c")
    assert dataset.name == "log"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "interactions must be a table, got NoneType; pass a DataFrame"),
        (5, "interactions must be a table, got int; pass a DataFrame"),
        ([], "interactions must be a table, got no rows"),
        ([1, 2], "interactions must be a table, got a list of int"),
        (np.zeros(3), "interactions must be a table, got an array of shape (3,)"),
        ([("u", "i", 1)], "the 3 columns of interactions have no names; name them in order"),
        ([("u", "i"), ("u",)], "every row of interactions must have 2 values, got ('u',)"),
        ({"user": ["u"], "item": []}, "must be of one length, got user 1, item 0"),
        ({"user": "u"}, "column 'user' of interactions must be a list, got 'u'"),
        ({"user": {0: "u"}}, "column 'user' of interactions must be a list, got {0: 'u'}"),
        ({"user": {"u"}}, "column 'user' of interactions must be a list, got {'u'}"),
        (pl.Series(["u"]), "interactions must be a table, got a Series; pass a DataFrame"),
        ({f"u{n}": ["i"] * n for n in range(9)}, "got u0 0, u1 1, u2 2, u3 3, u4 4 and 4 more"),
    ],
)
def test_what_is_no_table_is_refused(table: Any, message: str) -> None:
    with pytest.raises(InputError) as refused:
        Dataset.from_frames(table)
    assert message in str(refused.value)


def test_two_columns_of_one_name_are_refused() -> None:
    frame = pd.DataFrame([["u", "i", 1]], columns=["user", "user", "time"])
    with pytest.raises(InputError):
        as_frame(frame, "interactions")


def test_ids_of_single_values() -> None:
    assert [id_text(value) for value in (np.str_("a"), np.int32(3), 4.0, pa.scalar("b"))] == [
        "a", "3", "4", "b",
    ]  # fmt: skip
    assert id_list(pd.Series([1.0, 2.0])) == ["1", "2"]
    for value in (True, 1.5, None, float("nan"), ["a"]):
        with pytest.raises(InputError, match="must be text or a whole number"):
            id_text(value)


def test_a_sparse_matrix_is_users_by_items() -> None:
    matrix = sparse.csr_array(np.asarray([[0, 2, 1], [5, 0, 0], [1, 1, 1]]))
    found = prepare(matrix, settings=PrepareSettings(k_core=0, split="random"))
    assert found.items.ids == ("0", "1", "2")
    assert found.interactions.lengths.tolist() == [2, 1, 3]
    assert found.summary["columns"]["ignored"] == ["value"]


def test_periods_of_pandas_are_times() -> None:
    days = pd.Series(pd.to_datetime(["2020-01-01", "2020-02-01", "2020-03-01"]).to_period("D"))
    rows = pd.DataFrame({"user": [1, 1, 1], "item": [1, 2, 3], "time": days})
    times = prepare(rows, settings=PrepareSettings(k_core=0)).interactions.timestamps
    assert times is not None
    assert times.tolist() == [1_577_836_800_000, 1_580_515_200_000, 1_583_020_800_000]


def test_a_column_that_may_be_the_time_is_named() -> None:
    rows = pd.DataFrame({"user": [1], "item": [1], "when": ["2020-01-01"]})
    with pytest.raises(InputError, match=r"name it: ColumnMapping\(time='when'\)"):
        prepare(rows)
