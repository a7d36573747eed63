"""Declared columns: bad declarations in one line, and what is guessed."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from twotower.data.declaration import Declaration, declared, read_declaration
from twotower.data.inspection import inspect
from twotower.data.prepare import prepare
from twotower.data.schema import Schema
from twotower.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        (f"u{user}", f"i{item}", 4.0, 10 * user + item) for user in range(6) for item in range(5)
    ]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")
    log.write_csv(tmp_path / "log.csv")
    pl.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(5)],
            "title": ["one", "two", "three", "four", "five"],
            "brand": ["red", "green", "red", "green", "red"],
            "tags": ["a|b", "a", "b", "a|b", ""],
            "size": ["1", "2", "3", "big", "5"],
            "average_rating": [4.0] * 5,
            "launched": [f"2024-01-0{day}" for day in range(1, 6)],
            "in_stock": [0, 1, 1, 1, 1],
        }
    ).write_csv(tmp_path / "items.csv")
    pl.DataFrame(
        {"user_id": [f"u{user}" for user in range(6)], "age": [20, 30, 40, 50, 60, 70]}
    ).write_csv(tmp_path / "users.csv")
    return tmp_path


def made(folder: Path, schema: dict[str, Any], **more: Any) -> Any:
    values = {"schema": schema, "prepare": {"k_core": 0}, **more}
    return prepare(folder, declaration=declared(values, "dataset.toml"))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"items": {"colour": "category"}}, "items.csv has no column 'colour' that the schema"),
        ({"items": {"brand": "number"}}, "declared as number, but holds values such as 'red'"),
        ({"items": {"brand": "date"}}, "declared as date, but holds values such as 'red'"),
        ({"items": {"brand": "flag"}}, "declared as flag, but holds values such as 'red'"),
        (
            {"items": {"brand": "embedding"}},
            "declared as embedding, but holds values such as 'red'",
        ),
        ({"items": {"brand": "brands"}}, "schema.items.brand.kind: Input should be 'number'"),
        (
            {"items": {"brand": {"kind": "category", "stock": True}}},
            "stock is an option of the kind",
        ),
        (
            {"items": {"brand": {"kind": "category", "sep": "x"}}},
            "schema.items.brand.sep: unknown key, got 'x'; it is one of kind, feature, ",
        ),
        ({"item": {}}, "schema.item: unknown key; did you mean items? it is one of items, users"),
        ({"items": {"item_id": "category"}}, "is the item's id, which no feature may tell"),
        ({"items": {"average_rating": "number"}}, "an average over the interactions to predict"),
        ({"users": {"age": "number"}}, "declares the column 'age' of users, but there is no table"),
        (
            {"items": {"v": {"kind": "embedding", "file": "v.npy", "ids": "v.txt"}}},
            "No such file or directory",
        ),
        ({"items": {"v": {"kind": "embedding", "file": "v.npy"}}}, "file and ids go together"),
    ],
)
def test_a_bad_declaration_is_one_line(folder: Path, schema: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        made(folder, schema)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_of_an_absent_catalogue_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="column 'brand' of items, but there is no catalogue"):
        made(folder, {"items": {"brand": "category"}}, catalogue="none")


def test_what_leaks_may_be_filtered_by(folder: Path) -> None:
    dataset = made(folder, {"items": {"average_rating": {"kind": "number", "feature": False}}})
    assert dataset.schema.features("items") == {}
    assert dataset.item_table["average_rating"].to_list() == [4.0] * 5


def test_single_values_of_another_kind_are_missing(folder: Path) -> None:
    dataset = made(folder, {"items": {"size": "number", "tags": "list"}})
    assert dataset.item_table["size"].to_list() == [1, 2, 3, None, 5]
    assert dataset.item_table["tags"].to_list() == [["a", "b"], ["a"], ["b"], ["a", "b"], None]


def test_a_schema_is_guessed_and_read_again(folder: Path) -> None:
    found = inspect([folder], Declaration())
    expected = {
        "items": {
            "brand": {"kind": "category"}, "tags": {"kind": "list"},
            "launched": {"kind": "date"}, "in_stock": {"kind": "flag", "stock": True},
        },
        "users": {"age": {"kind": "number"}},
        "events": {"hour": {"kind": "hour"}, "weekday": {"kind": "weekday"}},
    }  # fmt: skip
    guessed = {side: dict(columns) for side, columns in found.described["schema"].items()}
    guessed["items"].pop("size", None)  # numbers, but one
    assert guessed == expected
    (folder / "dataset.toml").write_text(found.toml)
    dataset = prepare(folder, declaration=declared({"prepare": {"k_core": 0}}, "x"))
    assert dataset.schema == read_declaration(folder / "dataset.toml").declared
    assert dataset.user_table["age"].to_list() == [20, 30, 40, 50, 60, 70]


def test_another_schema_is_another_data_set(folder: Path) -> None:
    one = made(folder, {"items": {"brand": "category"}})
    other = made(folder, {"items": {"brand": {"kind": "category", "feature": False}}})
    assert one.fingerprint != other.fingerprint
    assert Schema() == made(folder, {}).schema
