"""Logs whose columns lie in several tables, as databases of shops export them."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from twotower.data import Dataset
from twotower.data.declaration import declared
from twotower.data.inspection import inspect
from twotower.data.prepare import prepare
from twotower.data.readers import ReadOptions
from twotower.data.readers.tables import column_names
from twotower.data.settings import PrepareSettings
from twotower.data.summary import summary_lines
from twotower.errors import InputError

ALL = PrepareSettings(k_core=0)
LINES = "order_id,product_id,created_at\n" + "".join(
    f"o{n},p{n % 4},2001-01-01\n" for n in range(12)
)
ORDERS = "order_id,customer_id,ordered_at\n" + "".join(
    f"o{n},c{n},2020-01-{n + 1:02}\n" for n in range(12)
)
CUSTOMERS = "id,person\n" + "".join(f"c{n},u{n % 3}\n" for n in range(12))
BY_ORDER = {"orders.csv": "order_id"}
BY_BOTH = {**BY_ORDER, "customers.csv": "customer_id:id"}
FILES = {"lines.csv": LINES, "orders.csv": ORDERS, "customers.csv": CUSTOMERS}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def read(path: Path | list[Path], join: dict[str, str], **given: Any) -> Dataset:
    said = declared({"read": {"join": join}, "columns": given.pop("columns", {})}, "test")
    return prepare(path, settings=ALL, declaration=said, **given)


def histories(dataset: Dataset) -> dict[str, list[str]]:
    return {
        user: [dataset.items.ids[item] for item in dataset.interactions.row(row).tolist()]
        for row, user in enumerate(dataset.users.ids)
    }


def of_persons(orders: range = range(12)) -> dict[str, list[str]]:
    """What each person bought, in order."""
    return {f"u{user}": [f"p{n % 4}" for n in orders if n % 3 == user] for user in range(3)}


PERSON = {"user": "person", "time": "ordered_at"}


@pytest.mark.parametrize("log", ["lines.csv", "."])
def test_a_log_gets_the_columns_of_tables_one_after_the_other(tmp_path: Path, log: str) -> None:
    write(tmp_path, FILES)
    dataset = read(tmp_path / log, BY_BOTH, columns=PERSON)
    assert histories(dataset) == of_persons()
    assert dataset.interactions.timestamps[0] == 1577836800000  # type: ignore[index]
    assert dataset.summary["joined"] == ["orders.csv", "customers.csv"]
    assert "not_read" not in dataset.summary
    shown = "\n".join(summary_lines(dataset.summary))
    assert "each row has the columns of its row in orders.csv, customers.csv" in shown


def test_tables_of_any_kind_are_joined(tmp_path: Path) -> None:
    rows = [line.split(",") for line in LINES.splitlines()[1:]]
    objects = [{"order_id": int(o[1:]), "product_id": p} for o, p, _ in rows]
    (tmp_path / "lines.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in objects))
    # Numbers with a gap are floats, and times have a type.
    pl.DataFrame(
        {"order_id": [*map(float, range(12)), None], "customer_id": [f"c{n}" for n in range(13)]}
    ).with_columns(
        ordered_at=pl.datetime_range(
            pl.datetime(2020, 1, 1), pl.datetime(2020, 1, 13), "1d", eager=True
        )
    ).write_parquet(tmp_path / "orders.parquet")
    with gzip.open(tmp_path / "customers.csv.gz", "wt", encoding="utf-16") as file:
        file.write(CUSTOMERS.replace(",", ";"))
    join = {"orders.parquet": "order_id", "customers.csv": "customer_id:id"}
    dataset = read(tmp_path / "lines.jsonl", join, columns=PERSON)
    assert histories(dataset) == of_persons()
    assert dataset.summary["rejected"] == {}


def test_a_rating_that_comes_late_in_a_file_is_read(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    rows = [{"order_id": f"o{n % 12}", "product_id": f"p{n}"} for n in range(1100)]
    rows[-1]["rating"] = 4  # type: ignore[assignment]
    (tmp_path / "lines.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    dataset = read(tmp_path / "lines.jsonl", BY_BOTH, columns=PERSON)
    assert dataset.summary["without_rating"] == 1099
    assert dataset.summary["columns"]["read"]["rating"] == "rating"


def test_types_of_parquet_are_kept(tmp_path: Path) -> None:
    lines = pl.DataFrame({"order_id": range(6), "product_id": [f"p{n}" for n in range(6)]})
    orders = pl.DataFrame(
        {
            "order_id": range(6),
            "user_id": [7] * 6,
            "ordered_at": [1577836800000 + n for n in range(6)],
        }
    ).with_columns(pl.col("ordered_at").cast(pl.Datetime("ms", "Europe/Berlin")))
    lines.write_parquet(tmp_path / "lines.parquet")
    orders.write_parquet(tmp_path / "orders.parquet")
    dataset = read(tmp_path / "lines.parquet", {"orders.parquet": "order_id"})
    assert histories(dataset) == {"7": [f"p{n}" for n in range(6)]}
    assert dataset.interactions.timestamps.tolist() == [1577836800000 + n for n in range(6)]  # type: ignore[union-attr]


def test_rows_without_a_match_are_rejected_with_their_lines(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, "orders.csv": ORDERS.replace("o2,", "x2,").replace("c5,", ",")})
    dataset = read(tmp_path, BY_BOTH, columns=PERSON, out=tmp_path / "out")
    assert dataset.summary["rejected"] == {
        "order_id: unmatched in orders.csv": 1,
        "customer_id: unmatched in customers.csv": 1,
    }
    rejects = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    assert json.loads(rejects[0]) == {
        "file": "lines.csv", "line": 4, "reason": "order_id: unmatched in orders.csv",
        "value": "o2", "row": "o2,p2,2001-01-01",
    }  # fmt: skip
    shown = "\n".join(summary_lines(dataset.summary, cli=True))
    assert "--join FILE=KEY:OTHER" in shown
    strict = declared({"read": {"join": BY_ORDER}, "prepare": {"strict": True}}, "test")
    with pytest.raises(InputError, match=r"lines\.csv:4: order_id: unmatched in .*, got 'o2'; exp"):
        prepare(tmp_path / "lines.csv", declaration=strict)


def test_a_column_that_may_be_missing_needs_no_match(tmp_path: Path) -> None:
    log = "user,item,time,order_id\n" + "".join(f"u,i{n},2020-01-0{n + 1},o{n}\n" for n in range(4))
    write(tmp_path, {"log.csv": log, "reviews.csv": "order_id,score\no1,5\n"})
    dataset = read(tmp_path / "log.csv", {"reviews.csv": "order_id"})
    assert (dataset.summary["read"], dataset.summary["rejected"]) == (4, {})
    assert dataset.summary["without_rating"] == 3


def test_the_key_is_unique(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, "orders.csv": ORDERS + "o3,c3,2020-01-01\no3,c4,2020-01-01\n"})
    with pytest.raises(
        InputError, match=r"orders\.csv has 3 rows with order_id 'o3', and 1 such values.*unique"
    ):
        read(tmp_path / "lines.csv", BY_BOTH, columns=PERSON)


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ({"other.csv": "order_id"}, r"other\.csv, to be joined with .*lines\.csv, does not exist"),
        ({"orders.csv": "number"}, r"lines\.csv has no column 'number' to join orders\.csv by"),
        ({"orders.csv": "order_id:number"}, r"orders\.csv has no column 'number' to join"),
        ({"lines.csv": "order_id"}, r"lines\.csv would be joined with itself"),
    ],
)
def test_a_join_that_cannot_be_is_one_error(
    tmp_path: Path, join: dict[str, str], message: str
) -> None:
    write(tmp_path, FILES)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "lines.csv", join)


@pytest.mark.parametrize(
    ("join", "message"),
    [("orders.csv", "FILE=KEY"), (["a.csv=x", "a.csv=y"], "a file is joined once")],
)
def test_a_bad_option_is_one_error(join: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReadOptions(join=join)


def test_rows_of_another_encoding_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"lines.csv": LINES})
    rows = ORDERS.splitlines()
    rows[1500:] = []
    names = "".join(f"{row},{'a' if n else 'name'}\n" for n, row in enumerate(rows))
    (tmp_path / "orders.csv").write_bytes(names.encode() + b"o99,c,2020-01-01,\xe9\n")
    with pytest.raises(InputError, match=r"orders\.csv:14: bad UTF-8.*encoding"):
        read(tmp_path / "lines.csv", BY_ORDER)
    said = declared({"read": {"join": BY_ORDER, "encoding": "latin-1"}}, "test")
    assert len(prepare(tmp_path / "lines.csv", declaration=said, settings=ALL).users) == 12


def test_a_column_of_both_is_the_logs_own(tmp_path: Path) -> None:
    orders = ORDERS.replace("ordered_at", "created_at")
    write(tmp_path, {"lines.csv": LINES, "orders.csv": orders})
    names = column_names(tmp_path / "lines.csv", ReadOptions(join=BY_ORDER))
    assert names == ["order_id", "product_id", "created_at", "customer_id", "orders.created_at"]
    first = read(tmp_path / "lines.csv", BY_ORDER)
    assert set(first.interactions.timestamps) == {978307200000}  # type: ignore[arg-type]
    other = read(tmp_path / "lines.csv", BY_ORDER, columns={"time": "orders.created_at"})
    assert min(other.interactions.timestamps) == 1577836800000  # type: ignore[type-var]


def test_parts_and_patterns_are_joined(tmp_path: Path) -> None:
    head, *rows = LINES.splitlines(keepends=True)
    parts = {
        "train/lines.csv": head + "".join(rows[:9]),
        "test/lines.csv": head + "".join(rows[9:]),
    }
    write(tmp_path, {**parts, "orders.csv": ORDERS, "customers.csv": CUSTOMERS})
    files = sorted(tmp_path.glob("*/lines.csv"))
    dataset = read(files, BY_BOTH, columns=PERSON)
    assert histories(dataset) == of_persons()
    assert set(dataset.summary["files"]) == {"lines.csv"}
    pattern = read([tmp_path / "t*/lines.csv"], BY_BOTH, columns=PERSON)
    assert histories(pattern) == of_persons()
    (tmp_path / "lines.train.csv").write_text(parts["train/lines.csv"])
    (tmp_path / "lines.test.csv").write_text(parts["test/lines.csv"])
    given = read(tmp_path, BY_BOTH, columns=PERSON)
    assert given.summary["parts"]["test"] == 3


def test_a_file_declares_a_join_in_order(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    said = declared({"read": {"join": BY_BOTH}, "columns": PERSON, "log": "lines.csv"}, "test")
    (tmp_path / "dataset.toml").write_text(said.to_toml())
    assert (
        'join = { "orders.csv" = "order_id", "customers.csv" = "customer_id:id" }' in said.to_toml()
    )
    assert histories(prepare(tmp_path, settings=ALL)) == of_persons()


def test_a_catalogue_is_joined_too(tmp_path: Path) -> None:
    log = "user,product_id,time\n" + "".join(f"u,p{n},2020-01-0{n + 1}\n" for n in range(4))
    items = "product_id,kind_number\n" + "".join(f"p{n},{n % 2}\n" for n in range(4))
    kinds = "number,category\n0,books\n"
    write(tmp_path, {"log.csv": log, "products.csv": items, "kinds.csv": kinds})
    options = ReadOptions(join={"kinds.csv": "kind_number:number"})
    dataset = prepare(tmp_path / "log.csv", settings=ALL, catalogue_options=options)
    assert dataset.catalogue["category"].to_list() == ["books", None, "books", None]


def test_joined_columns_do_not_describe_the_items_of_a_log(tmp_path: Path) -> None:
    orders = ORDERS.replace("customer_id,", "customer_id,name,").replace(",2020", ",Ann,2020")
    write(tmp_path, {"lines.csv": LINES, "orders.csv": orders})
    dataset = read(tmp_path / "lines.csv", BY_ORDER)
    assert "items_in_log" not in dataset.summary
    dataset = read(tmp_path / "lines.csv", BY_ORDER, catalogue="log")
    assert "name" not in dataset.summary["catalogue"]["columns"]["read"].values()


SPLIT_SHOPS = {
    "of one key": (
        {"order_items.csv": LINES, "orders.csv": ORDERS},
        ("order_items.csv", "orders.csv=order_id", "order_id"),
    ),
    "of a key with two names": (
        {
            "order_lines.csv": "id,order_id,sku\n" + "".join(f"{n},{n // 2},s\n" for n in range(9)),
            "orders.csv": "id,email,created_at\n"
            + "".join(f"{n},a,2020-01-01\n" for n in range(9)),
        },
        ("order_lines.csv", "orders.csv=order_id:id", "order_id"),
    ),
    "of sessions": (
        {
            "events.csv": "session_id,item_id,time\n"
            + "".join(f"{n // 2},i,9{n}\n" for n in range(9)),
            "sessions.csv": "session_id,user_id\n" + "".join(f"{n},u\n" for n in range(5)),
        },
        ("events.csv", "sessions.csv=session_id", "session_id"),
    ),
    "of variants": (
        {
            "log.csv": "user_id,variant,time\n" + "".join(f"u,{n % 3},9{n}\n" for n in range(9)),
            "variants.csv": "variant,product_id\n" + "".join(f"{n},p{n}\n" for n in range(3)),
        },
        ("log.csv", "variants.csv=variant", "variant"),
    ),
}


@pytest.mark.parametrize("name", SPLIT_SHOPS)
def test_the_likely_join_is_named(tmp_path: Path, name: str) -> None:
    files, (log, option, key) = SPLIT_SHOPS[name]
    write(tmp_path, files)
    with pytest.raises(InputError, match=f"share '{key}'") as raised:
        prepare(tmp_path)
    command = f"twotower prepare {tmp_path / log} --join {option}"
    assert raised.value.on_command_line.endswith(f"name the log and the join: {command}")
    file, _, by = option.partition("=")
    assert read(tmp_path / log, {file: by}).summary["rejected"] == {}
    with pytest.raises(InputError, match=f"share '{key}'"):
        prepare(tmp_path / log)


def test_a_join_that_is_not_clear_is_not_named(tmp_path: Path) -> None:
    twice = {"orders.csv": ORDERS.replace("ordered_at", "till"), "lines.csv": LINES + LINES}
    write(tmp_path, {**twice, "invoices.csv": ORDERS.replace("ordered_at", "till")})
    with pytest.raises(InputError, match="cannot determine"):
        prepare(tmp_path)


def test_inspect_proposes_a_join(tmp_path: Path) -> None:
    write(tmp_path, {"order_items.csv": LINES, "orders.csv": ORDERS})
    found = inspect([tmp_path], declared({}, "test"))
    assert 'log = ["order_items.csv"]  # a guess' in found.toml
    assert 'join = { "orders.csv" = "order_id" }  # a guess' in found.toml
    assert found.described["guesses"]["join"] == ["orders.csv=order_id"]
    assert "name the log and the join" in found.described["problem"]
    (tmp_path / "dataset.toml").write_text(found.toml)
    assert len(prepare(tmp_path, settings=ALL).users) == 12
    again = inspect([tmp_path], declared({}, "test"))
    assert "problem" not in again.described
    assert 'join = { "orders.csv" = "order_id" }\n' in again.toml


def test_a_join_is_proposed_for_a_log_of_another_folder(tmp_path: Path) -> None:
    write(tmp_path, {"order_items.csv": LINES, "orders.csv": ORDERS})
    (tmp_path / "said").mkdir()
    (tmp_path / "said" / "dataset.toml").write_text('log = "../order_items.csv"\n')
    found = inspect([tmp_path / "said"], declared({}, "test"))
    assert found.described["guesses"]["join"] == ["orders.csv=order_id"]
    (tmp_path / "said" / "dataset.toml").write_text(found.toml)
    assert len(prepare(tmp_path / "said", settings=ALL).users) == 12


def test_a_file_proposes_a_join_without_its_name(tmp_path: Path) -> None:
    write(tmp_path, {"order_items.csv": LINES, "orders.csv": ORDERS})
    found = inspect([tmp_path / "order_items.csv"], declared({}, "test"))
    assert 'join = { "orders.csv" = "order_id" }  # a guess' in found.toml
    assert "\nlog = " not in found.toml
