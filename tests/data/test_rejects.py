import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from twotower.data.prepare import prepare
from twotower.data.readers import ReadOptions
from twotower.data.settings import PrepareSettings
from twotower.data.summary import summary_lines
from twotower.errors import InputError

ALL = PrepareSettings(k_core=0)
STRICT = PrepareSettings(k_core=0, strict=True)
T0 = 1_600_000_000_000
FIVE = ReadOptions(rating_scale=(0, 5))
GOOD = {"user_id": "u", "parent_asin": "B1", "rating": 4.0, "timestamp": T0}

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"user_id": None}, "user_id: missing", "None"),
    ({"user_id": ""}, "user_id: empty", ""),
    ({"user_id": "  "}, "user_id: empty", "  "),
    ({"user_id": ["u"]}, "user_id: wrong type", '["u"]'),
    ({"parent_asin": None}, "item_id: missing", "None"),
    ({"parent_asin": ""}, "item_id: empty", ""),
    ({"parent_asin": "B404"}, "item_id: not in the catalogue", "B404"),
    ({"rating": "five"}, "rating: wrong type", "five"),
    ({"rating": 5.5}, "rating: out of range", "5.5"),
    ({"rating": -1}, "rating: out of range", "-1"),
    ({"rating": float("inf")}, "rating: infinite", "inf"),
    ({"timestamp": None}, "timestamp: missing", "None"),
    ({"timestamp": float("nan")}, "timestamp: NaN", "nan"),
    ({"timestamp": "yesterday"}, "timestamp: wrong type", "yesterday"),
    ({"timestamp": -5}, "timestamp: negative", "-5"),
    ({"timestamp": 4_000_000_000_000}, "timestamp: in the future", "4000000000000"),
    ({"timestamp": 4_000_000_000_000_000}, "timestamp: in the future", "4000000000000000"),
    ({"timestamp": float("inf")}, "timestamp: in the future", "inf"),
]


def raw(folder: Path, *lines: dict[str, Any] | bytes) -> Path:
    """A folder with raw reviews and a catalogue of one product."""
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (folder / "reviews.jsonl").write_bytes(b"\n".join(encoded) + b"\n")
    (folder / "meta.jsonl").write_text('{"parent_asin": "B1", "title": "One"}\n')
    return folder


def rejects(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("fault", "reason", "value"), BAD)
def test_a_bad_row_is_set_aside_and_counted(
    tmp_path: Path, fault: dict[str, Any], reason: str, value: str
) -> None:
    raw(tmp_path, GOOD, GOOD | fault, GOOD | {"user_id": "v"})
    dataset = prepare(tmp_path, settings=ALL, options=FIVE, out=tmp_path / "out")
    assert dataset.users.ids == ("u", "v")
    assert dataset.summary["read"] == 3
    assert dataset.summary["rejected"] == {reason: 1}
    assert rejects(tmp_path / "out") == [
        {
            "file": "reviews.jsonl",
            "line": 2,
            "reason": reason,
            "value": value,
            "row": json.dumps(GOOD | fault),
        }
    ]


@pytest.mark.parametrize(("fault", "reason", "value"), BAD)
def test_strict_stops_at_a_bad_row(
    tmp_path: Path, fault: dict[str, Any], reason: str, value: str
) -> None:
    raw(tmp_path, GOOD, GOOD | fault)
    with pytest.raises(InputError) as caught:
        prepare(tmp_path, settings=STRICT, options=FIVE, out=tmp_path / "out")
    assert caught.value.what == f"{tmp_path / 'reviews.jsonl'}:2: {reason}, got {value!r}"
    assert caught.value.fix is not None
    assert caught.value.fix.endswith(
        "correct the row, or prepare without strict to set such rows aside"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"user_id": "u", ', "broken JSON"),
        (b'{"user_id": "\xff"}', "bad UTF-8"),
        (b"7", "not a JSON object"),
        (b"{}", "user_id: missing"),
    ],
)
def test_a_bad_line_is_set_aside_or_stopped_at(tmp_path: Path, line: bytes, reason: str) -> None:
    raw(tmp_path, GOOD, line)
    assert prepare(tmp_path, settings=ALL).summary["rejected"] == {reason: 1}
    with pytest.raises(InputError, match=rf"reviews\.jsonl:2: {reason}, got"):
        prepare(tmp_path, settings=STRICT)


def test_strict_names_the_first_of_several(tmp_path: Path) -> None:
    raw(tmp_path, GOOD, GOOD | {"rating": 9}, b"broken", GOOD | {"user_id": ""})
    with pytest.raises(
        InputError,
        match=r"reviews\.jsonl:2: rating: out of range, got '9'; "
        r"widen the scale \(ReadOptions\(rating_scale=\(1, 10\)\)\), .*; correct the row",
    ):
        prepare(tmp_path, settings=STRICT, options=FIVE)


def test_strict_passes_a_clean_log(tmp_path: Path) -> None:
    assert prepare(raw(tmp_path, GOOD), settings=STRICT).summary["rejected"] == {}


def test_the_rating_scale_can_be_another(tmp_path: Path) -> None:
    raw(tmp_path, GOOD | {"rating": 9}, GOOD | {"rating": 0, "user_id": "v"})
    wide = ReadOptions(rating_scale=(1, 10))
    assert prepare(tmp_path, settings=ALL, options=wide).users.ids == ("u",)


def test_without_a_scale_any_number_is_a_rating(tmp_path: Path) -> None:
    raw(tmp_path, *(GOOD | {"rating": stars, "user_id": f"u{stars}"} for stars in (-1, 9, 148)))
    dataset = prepare(tmp_path, settings=ALL)
    assert dataset.summary["rejected"] == {}
    assert dataset.summary["ratings"] == [-1.0, 148.0]


def test_a_row_counts_once_under_its_first_fault(tmp_path: Path) -> None:
    raw(tmp_path, GOOD, {"user_id": "", "parent_asin": "", "rating": 9, "timestamp": -1})
    assert prepare(tmp_path, settings=ALL).summary["rejected"] == {"user_id: empty": 1}


def test_counts_list_the_most_frequent_reason_first(tmp_path: Path) -> None:
    raw(tmp_path, GOOD, b"x", *[GOOD | {"rating": 9}] * 3, *[GOOD | {"user_id": ""}] * 2)
    rejected = prepare(tmp_path, settings=ALL, options=FIVE).summary["rejected"]
    assert list(rejected.items()) == [
        ("rating: out of range", 3),
        ("user_id: empty", 2),
        ("broken JSON", 1),
    ]


def test_nothing_usable_is_an_error_that_says_why(tmp_path: Path) -> None:
    raw(tmp_path, GOOD | {"rating": 9}, b"x")
    with pytest.raises(
        InputError,
        match=r"reviews\.jsonl has no usable interaction: 2 read, all rejected "
        r"\(1 (broken JSON|rating: out of range), 1 .*\); the first is .*reviews\.jsonl:1: rating",
    ):
        prepare(tmp_path, settings=ALL, options=FIVE)


def test_an_empty_log_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\n")
    with pytest.raises(InputError, match=r"log\.csv has no interactions; give a log with rows"):
        prepare(tmp_path, settings=ALL)


def test_an_empty_file_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(InputError, match=r"log\.jsonl is empty, or holds nothing that can be read"):
        prepare(tmp_path, settings=ALL)


def test_rows_of_parquet_files_are_named_by_number(tmp_path: Path) -> None:
    pl.DataFrame(
        {"user": ["u", None, "v"], "item": ["a", "b", ""], "position": [0.0, 1.0, 2.0]}
    ).write_parquet(tmp_path / "log.parquet")
    prepare(tmp_path, settings=ALL, out=tmp_path / "out")
    assert [(row["line"], row["reason"]) for row in rejects(tmp_path / "out")] == [
        (2, "user_id: missing"),
        (3, "item_id: empty"),
    ]


@pytest.mark.parametrize(
    ("position", "reason"),
    [("", "missing"), ("nan", "missing"), ("inf", "infinite"), ("first", "wrong type")],
)
def test_positions_are_checked(tmp_path: Path, position: str, reason: str) -> None:
    (tmp_path / "log.csv").write_text(f"user,item,position\nu,a,1\nu,b,{position}\n")
    assert prepare(tmp_path, settings=ALL).summary["rejected"] == {f"order: {reason}": 1}


def test_rows_of_the_table_of_users_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,x,1\nv,x,2\n")
    users = tmp_path / "people.csv"
    users.write_text("user,age\nu,20\nv,3,0\n")
    out = tmp_path / "out"
    found = prepare(tmp_path / "log.csv", users=users, settings=ALL, out=out)
    assert found.summary["user_table"]["rejected"] == {"wrong number of fields": 1}
    assert "people.csv:3" in "\n".join(summary_lines(found.summary))
    assert "v,3,0" in (out / "rejects.jsonl").read_text()
    with pytest.raises(InputError, match=r"people\.csv:3: wrong number of fields"):
        prepare(tmp_path / "log.csv", users=users, settings=STRICT)
