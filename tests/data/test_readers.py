import gzip
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from twotower.data.readers import Reject, chunk, delimited, jsonl, parquet, read_source, text
from twotower.data.readers.values import RAW_TIME
from twotower.errors import InputError


def read(path: Path) -> tuple[pl.DataFrame, list[Reject]]:
    """The whole log of a source, and what could not be read."""
    chunks = [part for log in read_source(path).logs for part in log.chunks()]
    rejects = [reject for part in chunks for reject in part.rejects]
    return pl.concat(part.rows for part in chunks).drop(RAW_TIME), rejects


def reasons(rejects: list[Reject]) -> list[tuple[int, str]]:
    return [(reject.line, reject.reason) for reject in rejects]


GOOD = '{"user_id": "u", "parent_asin": "B1", "rating": 4.0, "timestamp": 1616156351887}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"user_id": "u", "parent_asin":', "broken JSON"),
        (b'{"user_id": "u\\ud800", "parent_asin": "B1"}', "broken JSON"),
        (b'{"user_id": "u\xff", "parent_asin": "B1"}', "bad UTF-8"),
        (b'["u", "B1"]', "not a JSON object"),
        (b'{"user_id": ["u"], "parent_asin": "B1"}', "user_id: wrong type"),
        (b'{"user_id": true, "parent_asin": "B1"}', "user_id: wrong type"),
        (b'{"user_id": "u", "parent_asin": 1.5}', "item_id: wrong type"),
        (b'{"user_id": "u", "parent_asin": "B1", "rating": "five"}', "rating: wrong type"),
        (b'{"user_id": "u", "parent_asin": "B1", "rating": [5]}', "rating: wrong type"),
        (b'{"user_id": "u", "parent_asin": "B1", "timestamp": "soon"}', "timestamp: wrong type"),
        (b'{"user_id": "u", "parent_asin": "B1", "timestamp": [1]}', "timestamp: wrong type"),
    ],
)
def test_bad_json_lines_are_named(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_bytes(b"\n".join([GOOD.encode(), b"", line, GOOD.encode()]) + b"\n")
    rows, rejects = read(path)
    assert reasons(rejects) == [(3, reason)]
    assert rows["line"].to_list() == [1, 4]
    assert rejects[0].row == line.decode(errors="replace")


def test_json_numbers_may_be_text_and_ids_numbers(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text(
        '{"user_id": 7, "parent_asin": "B1", "rating": "4.5", "timestamp": "1616156351887"}\n'
        + GOOD
    )
    rows, rejects = read(path)
    assert not rejects
    assert rows.rows() == [
        ("7", "B1", 4.5, 1616156351887.0, 1),
        ("u", "B1", 4.0, 1616156351887.0, 2),
    ]


def test_nan_in_json_is_read_to_be_reported_as_such(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text(GOOD.replace("4.0", "NaN"))
    rows, rejects = read(path)
    assert not rejects
    assert rows["rating"].is_nan().all()


def test_gzip_is_detected_from_content_and_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + GOOD.encode()))
    assert read(path)[0].height == 1


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:99] + b"\0" * 99])
def test_a_broken_gzip_file_is_an_error(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "reviews.jsonl.gz"
    lines = "".join(GOOD.replace('"u"', f'"u{n}"') + "\n" for n in range(2000))
    path.write_bytes(damage(gzip.compress(lines.encode())))
    with pytest.raises(InputError, match=r"reviews.jsonl.gz is a broken gzip file .*; download"):
        read(path)


def test_a_table_with_quotes_and_line_ends_in_fields(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b'user,item,time,note\r\nu,"a, b",5,"x\r\ny"\r\n\r\nv,c,6,\r\n')
    rows, rejects = read(path)
    assert not rejects
    assert rows.rows() == [("u", "a, b", 5000.0, 2), ("v", "c", 6000.0, 5)]


def test_bad_rows_of_a_table_are_named(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(
        b"user,item,rating,time\n"
        b"u,a,5,1\n"
        b"u,a,5\n"
        b"u,a,5,1,1\n"
        b"u\xe9,a,5,1\n"
        b"u,a,good,1\n"
        b"u,a,5,yesterday\n"
        b"u,b, 5 , 2 \n"
    )
    rows, rejects = read(path)
    assert sorted(reasons(rejects)) == [
        (3, "wrong number of fields"),
        (4, "wrong number of fields"),
        (5, "bad UTF-8"),
        (6, "rating: wrong type"),
        (7, "timestamp: wrong type"),
    ]
    assert {reject.line: reject.value for reject in rejects}[6] == "good"
    assert rows["line"].to_list() == [2, 8]


def test_a_quote_never_closed_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('user,item,time\nu,a,1\nu,"b,1\n' + "u,a,1\n" * 40_000)
    with pytest.raises(InputError, match=r"log.csv:3: cannot be read as a table .*never closed"):
        read(path)


def test_atomic_files_do_not_know_quotes(tmp_path: Path) -> None:
    path = tmp_path / "x.inter"
    path.write_text('user_id:token\titem_id:token\ttimestamp:float\n"u\t5" disk\t1\n')
    assert read(path)[0].rows() == [('"u', '5" disk', 1000.0, 2)]


@pytest.mark.parametrize(
    ("header", "row"),
    [("user,item,time", "u,a,1"), ("user\titem\ttime", "u\ta\t1"), ("user;item;time", "u;a;1")],
)
def test_the_delimiter_is_detected_from_the_header(tmp_path: Path, header: str, row: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"{header}\n{row}\n")
    assert read(path)[0].rows() == [("u", "a", 1000.0, 2)]


def test_times_may_be_dates(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "user,item,time\nu,a,2020-01-01\nu,b,2020-01-01T00:00:01Z\nu,c,2020-01-01 01:00:00+01:00\n"
    )
    start = datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000
    assert read(path)[0]["timestamp"].to_list() == [start, start + 1000, start]


def test_parquet_columns_of_any_type(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "user": [1.0, None, float("nan"), 2.0, 3.0],
            "item": [7, 8, 9, 10, 11],
            "rating": ["5", None, " ", None, " "],
            "time": [date(1970, 1, 2), None, None, None, date(2020, 1, 1)],
        }
    ).write_parquet(tmp_path / "log.parquet")
    rows, rejects = read(tmp_path / "log.parquet")
    assert reasons(rejects) == [(2, "user_id: missing"), (3, "user_id: missing")]
    assert rows["user_id"].to_list() == ["1", "2", "3"]
    assert rows["item_id"].to_list() == ["7", "10", "11"]
    assert rows["rating"].to_list() == [5.0, None, None]
    assert rows["timestamp"].to_list() == [86400000.0, None, 1577836800000.0]


def test_a_parquet_column_of_no_use_is_rejected_row_by_row(tmp_path: Path) -> None:
    table = pl.DataFrame({"user": [["u"]], "item": ["a"], "time": [1], "rating": [True]})
    table.write_parquet(tmp_path / "log.parquet")
    rows, rejects = read(tmp_path / "log.parquet")
    assert rows.is_empty()
    assert reasons(rejects) == [(1, "user_id: wrong type")]
    assert '"item_id":"a"' in rejects[0].row


def test_chunks_join_to_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (delimited, jsonl, parquet):
        monkeypatch.setattr(module, "CHUNK_ROWS", 3)
    table = pl.DataFrame({"user": [f"u{n}" for n in range(8)], "item": "a", "time": range(8)})
    table.write_csv(tmp_path / "a.csv")
    table.write_parquet(tmp_path / "b.parquet")
    table.write_ndjson(tmp_path / "c.jsonl")
    for name, first in (("a.csv", 2), ("b.parquet", 1), ("c.jsonl", 1)):
        chunks = list(read_source(tmp_path / name).logs[0].chunks())
        assert [part.rows.height for part in chunks] == [3, 3, 2]
        assert chunks[-1].fraction == 1
        whole = pl.concat(part.rows for part in chunks)
        assert whole["user_id"].to_list() == table["user"].to_list()
        assert whole["line"].to_list() == list(range(first, first + 8))
        line = chunks[1].rows["line"][1]
        assert "u4" in chunks[1].row_text(line)


def test_excerpts_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text(GOOD + "\n" + "x" * 10_000)
    assert [len(reject.row) for reject in read(path)[1]] == [chunk.EXCERPT]


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read: Is a directory"):
        text.LineFile(tmp_path)


def test_a_parquet_file_damaged_inside_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": [f"u{n}" for n in range(5000)], "item": "a", "time": 1}).write_parquet(
        path
    )
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"log\.parquet is not a readable Parquet file"):
        read(path)
