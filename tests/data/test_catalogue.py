import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from twotower.data import columns
from twotower.data.catalogue import CATALOGUE_SCHEMA
from twotower.data.prepare import prepare
from twotower.data.readers import ColumnMapping, ReadOptions, amazon, jsonl
from twotower.data.settings import PrepareSettings
from twotower.errors import InputError

ALL = PrepareSettings(k_core=0)


def shop(folder: Path, *products: dict[str, Any] | str) -> Path:
    """A log of one purchase of B1, and raw products."""
    (folder / "reviews.jsonl").write_text(
        '{"user_id": "u", "parent_asin": "B1", "rating": 5, "timestamp": 1600000000000}\n'
    )
    lines = [line if isinstance(line, str) else json.dumps(line) for line in products]
    (folder / "meta.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_the_schema_has_the_canonical_columns() -> None:
    assert tuple(CATALOGUE_SCHEMA) == columns.CATALOGUE


def test_a_raw_product_is_flattened(tmp_path: Path) -> None:
    product = {
        "parent_asin": "B1",
        "main_category": "Video Games",
        "title": " One ",
        "average_rating": 4.5,
        "rating_number": 12,
        "features": ["Loud"],
        "store": "Acme",
        "description": ["First.", "Second."],
        "price": 19.99,
        "images": [
            {"variant": "PT01", "hi_res": "b"},
            {"variant": "MAIN", "hi_res": None, "large": "a"},
        ],
        "categories": ["Video Games", "PC", "Games"],
    }
    row = prepare(shop(tmp_path, product), settings=ALL).catalogue.row(0, named=True)
    assert row.pop("price") == pytest.approx(19.99)
    assert row == {
        "item_id": "B1",
        "title": "One",
        "description": "First.\nSecond.",
        "category": "PC",
        "average_rating": 4.5,
        "rating_count": 12,
        "image": "a",
        "features": "Loud",
        "store": "Acme",
    }


@pytest.mark.parametrize(
    ("product", "field", "value"),
    [
        ({"description": [], "features": ["Loud", None]}, "description", "Loud"),
        ({"categories": ["Books"], "main_category": "Toys"}, "category", "Toys"),
        ({"categories": None, "main_category": None}, "category", None),
        ({"images": [{"thumb": "t"}]}, "image", "t"),
        ({"images": [None, {"large": ""}]}, "image", None),
        ({"images": {"hi_res": ["x"]}}, "image", "x"),
        ({"images": {"hi_res": [None], "large": []}}, "image", None),
        ({"title": "  "}, "title", None),
        ({"price": "$1,299.50"}, "price", 1299.5),
        ({"price": " 7 "}, "price", 7.0),
        ({"price": ""}, "price", None),
        ({}, "rating_count", None),
    ],
)
def test_what_a_product_may_lack(
    tmp_path: Path, product: dict[str, Any], field: str, value: Any
) -> None:
    dataset = prepare(shop(tmp_path, {"parent_asin": "B1"} | product), settings=ALL)
    assert dataset.catalogue[field].to_list() == [value]
    assert dataset.summary["catalogue"]["repaired"] == {}


@pytest.mark.parametrize(
    ("product", "reason"),
    [
        ({"price": "from 12.99"}, "price: not a number"),
        ({"price": "—"}, "price: not a number"),
        ({"price": [1]}, "price: not a number"),
        ({"price": -1}, "price: out of range"),
        ({"price": float("inf")}, "price: out of range"),
        ({"average_rating": 11}, "average_rating: out of range"),
        ({"price": "12 or 13"}, "price: not a number"),
        ({"rating_number": -3}, "rating_count: out of range"),
    ],
)
def test_a_value_that_cannot_be_becomes_null_and_is_counted(
    tmp_path: Path, product: dict[str, Any], reason: str
) -> None:
    folder = shop(tmp_path, {"parent_asin": "B1"} | product, {"parent_asin": "B2", "price": 5})
    dataset = prepare(folder, settings=ALL, options=ReadOptions(rating_scale=(0, 5)))
    assert dataset.summary["catalogue"]["repaired"] == {reason: 1}
    assert dataset.catalogue[reason.split(":")[0]][0] is None
    assert dataset.catalogue["price"][1] == 5


def test_items_without_an_id_or_seen_before_are_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "CHUNK_ROWS", 3)
    first = {"parent_asin": "B1", "title": "first"}
    again = {"parent_asin": "B1", "title": "again"}
    blank: dict[str, Any] = {"parent_asin": ""}
    shop(tmp_path, first, blank, again, again, {"title": "none"}, "{broken", {"parent_asin": "B2"})
    dataset = prepare(tmp_path, settings=ALL, out=tmp_path / "out")
    assert dataset.catalogue["title"].to_list() == ["first", None]
    assert dataset.summary["catalogue"] == {
        "file": "meta.jsonl",
        "read": 7,
        "rejected": {
            "item_id: repeated": 2, "item_id: empty": 1, "broken JSON": 1, "item_id: missing": 1,
        },
        "examples": {
            "item_id: repeated": "meta.jsonl:3: 'B1'",
            "item_id: empty": "meta.jsonl:2: ''",
            "broken JSON": "meta.jsonl:6: '{broken'",
            "item_id: missing": "meta.jsonl:5: 'None'",
        },
        "repaired": {},
        "columns": {"read": {"item_id": "parent_asin", "title": "title"}, "ignored": []},
        "items": 2,
    }  # fmt: skip
    lines = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert sorted((row["file"], row["line"]) for row in rows) == [
        ("meta.jsonl", line) for line in (2, 3, 4, 5, 6)
    ]


def test_strict_stops_at_a_repeated_item(tmp_path: Path) -> None:
    shop(tmp_path, {"parent_asin": "B1"}, {"parent_asin": "B1"})
    with pytest.raises(InputError, match=r"meta\.jsonl:2: item_id: repeated, got 'B1'"):
        prepare(tmp_path, settings=PrepareSettings(k_core=0, strict=True))


def test_a_catalogue_without_items_is_an_error(tmp_path: Path) -> None:
    shop(tmp_path, '{"parent_asin": ""}')
    with pytest.raises(
        InputError, match=r"catalogue .*meta\.jsonl has no usable item: 1 rows read, all rejected"
    ):
        prepare(tmp_path, settings=ALL)


def test_numbers_in_the_columns_of_a_parquet_catalogue(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,1,5\n")
    pl.DataFrame(
        {
            "item": [1, 2],
            "name": [2048, None],
            "price": [float("nan"), 3.5],
            "genres": [["a", "b"], []],
            "image": [{"x": 1}, None],
        }
    ).write_parquet(tmp_path / "items.parquet")
    dataset = prepare(tmp_path, settings=ALL)
    assert dataset.catalogue["title"].to_list() == ["2048", None]
    assert dataset.catalogue["price"].to_list() == [None, 3.5]
    assert dataset.catalogue["category"].to_list() == ["a|b", None]
    assert dataset.catalogue["image"].to_list() == [None, None]
    assert dataset.summary["catalogue"]["repaired"] == {}
    assert dict(dataset.catalogue.schema) == dict(CATALOGUE_SCHEMA)


def test_a_log_without_a_catalogue_gets_one_of_ids(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,b,5\nu,a,6\n")
    catalogue = prepare(tmp_path, settings=ALL).catalogue
    assert catalogue["item_id"].to_list() == ["a", "b"]
    assert dict(catalogue.schema) == dict(CATALOGUE_SCHEMA)


def test_products_have_the_columns_of_a_catalogue() -> None:
    assert len(amazon.meta_row({})) == len(amazon.META_KEYS)


def test_brand_and_bullet_points_are_kept_where_there_are_columns_for_them(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,1,5\n")
    (tmp_path / "items.csv").write_text("item,name,Brand,points\n1,One, Acme ,loud\n2,Two,,\n")
    brand = prepare(tmp_path, settings=ALL).catalogue
    assert brand.columns == [*columns.CATALOGUE, "store"]
    assert brand["store"].to_list() == ["Acme", None]
    both = prepare(tmp_path, settings=ALL, mapping=ColumnMapping(features="points")).catalogue
    assert both.columns == [*columns.CATALOGUE, "features", "store"]
    assert both["features"].to_list() == ["loud", None]
