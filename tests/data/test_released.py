"""Release times of items, from a catalogue column or from Amazon product numbers."""

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from twotower.data import Dataset, columns
from twotower.data.holdouts import hold_out
from twotower.data.prepare import prepare
from twotower.data.readers import ColumnMapping, jsonl
from twotower.data.readers.amazon import listing_numbers
from twotower.data.readers.mapping import CATALOGUE_NAMES
from twotower.data.sample import sample_folder
from twotower.data.settings import PrepareSettings

ALL = PrepareSettings(k_core=0)
DAY = 86_400_000.0
FIRST, SECOND = "B00000000Z", "B000000010"
"""Amazon's numbers of two products, one listed right after the other."""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A log, for a catalogue of items 1 to 3."""
    (tmp_path / "log.csv").write_text("user,item,time\nu,1,5\n")
    return tmp_path


@pytest.fixture
def amazon(tmp_path: Path) -> Path:
    """A log of Amazon's, for a catalogue of `FIRST` and `SECOND`."""
    row = {"user_id": "u", "parent_asin": FIRST, "rating": 5, "timestamp": 1_600_000_000_000}
    (tmp_path / "reviews.jsonl").write_text(json.dumps(row))
    return tmp_path


def made_of(folder: Path, values: list[Any], name: str = "released", **mapping: str) -> Dataset:
    """Prepared with a Parquet catalogue that has the values in one column."""
    ids = [str(number + 1) for number in range(len(values))]
    pl.DataFrame({"item": ids, name: values}).write_parquet(folder / "items.parquet")
    return prepare(folder, settings=ALL, mapping=ColumnMapping(**mapping) if mapping else None)


def released(dataset: Dataset) -> list[float | None]:
    values = dataset.catalogue[columns.RELEASED]
    assert values.dtype == pl.Float64
    return values.to_list()


def repaired(dataset: Dataset) -> dict[str, int]:
    counts: dict[str, int] = dataset.summary["catalogue"]["repaired"]
    return counts


@pytest.mark.parametrize("name", [*CATALOGUE_NAMES[columns.RELEASED], "Release_Year"])
def test_it_is_known_by_its_usual_names(shop: Path, name: str) -> None:
    dataset = made_of(shop, [1995, 1990], name)
    assert dataset.catalogue.columns == [*columns.CATALOGUE, "released"]
    assert released(dataset) == [1995.0, 1990.0]


def test_it_may_have_a_name_of_its_own(shop: Path) -> None:
    assert columns.RELEASED not in made_of(shop, [3, 4], "on_sale").catalogue.columns
    assert released(made_of(shop, [3, 4], "on_sale", released="on_sale")) == [3.0, 4.0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-3, 2**40], [-3.0, 2.0**40]),
        ([0.5, float("nan")], [0.5, None]),
        ([date(1970, 1, 2), None], [DAY, None]),
        ([datetime(1970, 1, 2, 0, 0, 0, 123_000), datetime(1969, 12, 31)], [DAY + 123, -DAY]),
        ([" 1995 ", "1995.5"], [1995.0, 1995.5]),
        (["1970-01-02", "1970-01-02T12:00:00"], [DAY, 1.5 * DAY]),
        (["1970-01-02T00:00:00+01:00", " "], [DAY * 23 / 24, None]),
    ],
)
def test_numbers_stay_and_dates_become_milliseconds(
    shop: Path, values: list[Any], expected: list[float | None]
) -> None:
    dataset = made_of(shop, values)
    assert released(dataset) == expected
    assert repaired(dataset) == {}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("unknown", "released: not a number or a date"),
        ("2017-13-01", "released: not a number or a date"),
        ("inf", "released: out of range"),
    ],
)
def test_what_cannot_be_read_becomes_null_and_is_counted(
    shop: Path, value: str, reason: str
) -> None:
    dataset = made_of(shop, [value, "2017", None])
    assert released(dataset) == [None, 2017.0, None]
    assert repaired(dataset) == {reason: 1}


def test_values_of_other_types_are_counted_too(shop: Path) -> None:
    for values in ([[1], [2]], [True, False]):
        dataset = made_of(shop, values)
        assert columns.RELEASED not in dataset.catalogue.columns
        assert repaired(dataset) == {"released: not a number or a date": 2}


def test_text_tables_and_json_lines_say_it_as_well(shop: Path) -> None:
    (shop / "items.csv").write_text("item,release_date\n1,2017-03-03\n2,\n3,soon\n")
    from_text = prepare(shop, settings=ALL)
    assert released(from_text) == [1_488_499_200_000.0, None, None]
    assert repaired(from_text) == {"released: not a number or a date": 1}
    rows = [{"item": 1, "released": 7}, {"item": 2}, {"item": 3, "released": "8"}]
    (shop / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    from_json = prepare(shop, settings=ALL, catalogue=shop / "items.jsonl")
    assert released(from_json) == [7.0, None, 8.0]


def test_without_it_a_data_set_is_as_it_would_be_without_the_column(shop: Path) -> None:
    empty = made_of(shop, [None, None])
    with_the_column = empty.fingerprint
    (shop / "items.parquet").unlink()
    (shop / "items.csv").write_text("item\n1\n2\n")
    without = prepare(shop, settings=ALL, out=shop / "out")
    assert tuple(without.catalogue.columns) == columns.CATALOGUE
    assert without.fingerprint == with_the_column
    assert tuple(Dataset.load(shop / "out").catalogue.columns) == columns.CATALOGUE


def test_it_is_saved_and_part_of_the_fingerprint(shop: Path) -> None:
    dataset = made_of(shop, [1, 2])
    assert released(Dataset.load(dataset.save(shop / "out"))) == [1.0, 2.0]
    assert made_of(shop, [1, 3]).fingerprint != dataset.fingerprint


def test_a_new_item_keeps_it(blocks: Dataset) -> None:
    """Unlike sums over interactions, it is known before there are any."""
    when = pl.int_range(blocks.catalogue.height).cast(pl.Float64).alias(columns.RELEASED)
    dated = Dataset(
        blocks.name, blocks.users, blocks.items, blocks.catalogue.with_columns(when),
        blocks.interactions, blocks.split,
    )  # fmt: skip
    assert released(hold_out(dated, items=0.25)) == list(range(blocks.catalogue.height))


def test_the_bundled_sample_has_it() -> None:
    values = prepare(sample_folder(), settings=ALL).catalogue[columns.RELEASED]
    assert values.null_count() == 0


def test_product_numbers_are_in_the_order_of_listing() -> None:
    ids = ["B000000000", FIRST, SECOND, "BZZZZZZZZZ"]
    assert listing_numbers(pl.Series(ids)).to_list() == [0.0, 35.0, 36.0, 36.0**9 - 1]
    others = ["0375869026", "B00000001", "B0000000001", "b000000010", "B00000001x", "", "B", None]
    assert listing_numbers(pl.Series(others)).null_count() == len(others)


def test_raw_products_have_it_from_their_numbers(
    amazon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "CHUNK_ROWS", 1)
    ids = (FIRST, "0375869026", SECOND)
    (amazon / "meta.jsonl").write_text("\n".join(json.dumps({"parent_asin": asin}) for asin in ids))
    dataset = prepare(amazon, settings=ALL)
    assert dataset.catalogue.columns == [*columns.CATALOGUE, "features", "store", "released"]
    assert released(dataset) == [35.0, None, 36.0]
    assert repaired(dataset) == {}


@pytest.mark.parametrize("name", ["parent_asin", "asin", "ASIN"])
def test_tables_of_products_have_it_too(amazon: Path, name: str) -> None:
    (amazon / "items.csv").write_text(f"{name}\n{FIRST}\n{SECOND}\n")
    assert released(prepare(amazon, settings=ALL)) == [35.0, 36.0]


def test_other_ids_are_not_taken_for_product_numbers(amazon: Path) -> None:
    (amazon / "items.csv").write_text(f"item_id\n{FIRST}\n{SECOND}\n")
    assert columns.RELEASED not in prepare(amazon, settings=ALL).catalogue.columns


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_the_catalogue_says_comes_first(amazon: Path, kind: str) -> None:
    rows = [{"parent_asin": FIRST, "released": 2020}, {"parent_asin": SECOND, "released": 1990}]
    if kind == "csv":
        pl.DataFrame(rows).write_csv(amazon / "items.csv")
    else:
        (amazon / "meta.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert released(prepare(amazon, settings=ALL)) == [2020.0, 1990.0]
