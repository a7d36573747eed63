"""Real-world files: each kind of log and catalogue is read correctly or refused with a reason."""

import bz2
import gzip
import io
import json
import lzma
import re
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twotower.data import Dataset
from twotower.data.declaration import Declaration
from twotower.data.prepare import prepare
from twotower.data.readers import ColumnMapping, ReadOptions, delimited, jsonl
from twotower.data.readers.numbers import as_price
from twotower.data.settings import PrepareSettings
from twotower.data.summary import summary_lines
from twotower.errors import InputError

ALL = PrepareSettings(k_core=0)
T0 = 1_600_000_000  # 2020-09-13 12:26:40 UTC
ROWS = [(f"u{n % 4}", f"i{n % 5}", T0 + 86_400 * n) for n in range(20)]


def rows_as(separator: str, end: str = "\n", header: str | None = "user,item,time") -> str:
    head = [] if header is None else [header.replace(",", separator)]
    return end.join([*head, *(separator.join(map(str, row)) for row in ROWS), ""])


def read(path: Path, **options: Any) -> Dataset:
    return prepare(path, settings=ALL, options=ReadOptions(**options))


def events(dataset: Dataset) -> list[tuple[str, str, int]]:
    log = dataset.interactions
    assert log.timestamps is not None
    found = zip(log.rows.tolist(), log.items.tolist(), log.timestamps.tolist(), strict=True)
    triples = [(dataset.users.ids[u], dataset.items.ids[i], t // 1000) for u, i, t in found]
    return sorted(triples, key=lambda triple: triple[2])


def times(dataset: Dataset) -> list[datetime]:
    assert dataset.interactions.timestamps is not None
    return [datetime.fromtimestamp(t / 1000, UTC) for t in dataset.interactions.timestamps.tolist()]


def lines(dataset: Dataset) -> str:
    return "\n".join(summary_lines(dataset.summary, cli=True))


# --- separators, line ends, headers


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::", "||", "\x01", "~", " ", "   "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_detected_from_the_file(
    tmp_path: Path, separator: str, end: str
) -> None:
    (tmp_path / "log.csv").write_bytes(rows_as(separator, end).encode())
    assert events(read(tmp_path)) == ROWS


@pytest.mark.parametrize("suffix", [".dat", ".data", ".txt", ".base", ""])
def test_any_suffix_will_do_for_a_file_that_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ratings{suffix}"
    path.write_text(rows_as("::"))
    assert events(read(path)) == ROWS


@pytest.mark.parametrize(("separator", "option"), [(";", ";"), ("\t", r"\t"), ("#|#", "#|#")])
def test_a_separator_can_be_given(tmp_path: Path, separator: str, option: str) -> None:
    (tmp_path / "log.csv").write_text(rows_as(separator))
    assert events(read(tmp_path, separator=option)) == ROWS


@pytest.mark.parametrize("separator", ["::", "\t", ",", " "])
def test_a_file_without_header_says_so_and_takes_names(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "log.data"
    path.write_text(
        "".join(separator.join(("1", str(n), "4", str(T0 + n))) + "\n" for n in range(1, 4))
    )
    with pytest.raises(InputError, match="no header: its first line looks like data") as caught:
        read(path)
    assert "--columns user,item,rating,time" in caught.value.on_command_line
    dataset = read(path, names=("user", "item", "rating", "time"))
    assert dataset.summary["read"] == 3
    assert dataset.items.ids == ("1", "2", "3")


def test_names_stand_in_for_a_header(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows_as(",", header="a,b,c"))
    dataset = read(tmp_path, names=("user", "item", "time"), header=True)
    assert events(dataset) == ROWS


@pytest.mark.parametrize(
    "before", ["# made by hand\n", "% sym unweighted\n", "\n\n", "# a\n# b\n\n"]
)
@pytest.mark.parametrize("mark", ["", "# ", "#"])
def test_comments_before_the_header(tmp_path: Path, before: str, mark: str) -> None:
    (tmp_path / "log.csv").write_text(before + mark + rows_as("\t"))
    assert events(read(tmp_path)) == ROWS


def test_a_line_for_excel_before_the_header(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("sep=;\n" + rows_as(";"))
    assert events(read(tmp_path)) == ROWS


def test_a_separator_at_the_end_of_each_row(tmp_path: Path) -> None:
    text = rows_as(",").splitlines()
    (tmp_path / "log.csv").write_text("\n".join([text[0], *(line + "," for line in text[1:])]))
    assert events(read(tmp_path)) == ROWS


def test_commas_in_the_header_of_a_file_with_semicolons(tmp_path: Path) -> None:
    header = "user;item;timestamp;price (EUR, net, per unit, rounded)"
    rows = "".join(f"{u};{i};{t};1,5\n" for u, i, t in ROWS)
    (tmp_path / "log.csv").write_text(f"{header}\n{rows}")
    assert events(read(tmp_path)) == ROWS


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,user,time\nu,i,v,1\n")
    with pytest.raises(InputError, match=r"log.csv has 2 columns named 'user'; rename all but"):
        read(tmp_path)
    table = pa.Table.from_arrays([pa.array(["u"])] * 3 + [pa.array([1])], ["user", "item"] * 2)
    pq.write_table(table.rename_columns(["user", "item", "user", "time"]), tmp_path / "log.parquet")
    with pytest.raises(InputError, match=r"log.parquet has 2 columns named 'user'"):
        read(tmp_path / "log.parquet")


def test_two_columns_of_a_name_that_is_not_read_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time,x,x\nu,i,1600000000,a,b\n")
    assert read(tmp_path).summary["columns"]["ignored"] == ["x", "x"]


def test_all_missing_columns_are_named_at_once_where_the_user_is(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("wer,was,wann\nu,i,1\n")
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert "cannot determine the user, item and time columns" in caught.value.what
    assert "ColumnMapping(user='…', item='…', time='…')" in str(caught.value)
    assert "--column user=… --column item=… --column time=…" in caught.value.on_command_line
    assert "ColumnMapping" not in caught.value.on_command_line


def test_a_column_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,score,time\nu,i,148,1600000000\n")
    assert read(tmp_path).interactions.ratings is not None
    assert read(tmp_path, ignore=("score",)).interactions.ratings is None


# --- quotes


def with_text(separator: str, texts: dict[int, str]) -> str:
    rows = [separator.join((*map(str, row), texts.get(n, "ok"))) for n, row in enumerate(ROWS)]
    return "\n".join([separator.join(("user", "item", "time", "text")), *rows, ""])


STRAY = [{3: '"best ever'}, {3: '"best ever', 11: '"best ever'}, {3: '"best ever', 11: '5"'}]


@pytest.mark.parametrize("texts", STRAY)
def test_a_stray_quote_in_a_table_with_tabs_is_text(tmp_path: Path, texts: dict[int, str]) -> None:
    (tmp_path / "log.tsv").write_text(with_text("\t", texts))
    assert events(read(tmp_path)) == ROWS


@pytest.mark.parametrize("texts", STRAY)
def test_a_stray_quote_in_a_table_with_commas_is_an_error_with_its_line(
    tmp_path: Path, texts: dict[int, str]
) -> None:
    (tmp_path / "log.csv").write_text(with_text(",", texts))
    with pytest.raises(InputError, match=r"log.csv:5: .*a quote is opened and never closed") as it:
        read(tmp_path)
    assert it.value.on_command_line.endswith("--quote none")
    assert events(read(tmp_path, quote="none")) == ROWS


@pytest.mark.parametrize(
    "text",
    [
        '"message ""good"", twice"', r'"message \"good, cheap\""', '"two\nlines, or ""three"""',
        '"a\n\nb"', '5" disc', '"1,2,3\n4,5,6"', '"great" stuff', '""',
    ],
)  # fmt: skip
def test_quoted_fields_are_one_field(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(with_text(",", dict.fromkeys(range(20), text)))
    dataset = read(tmp_path)
    assert events(dataset) == ROWS
    assert dataset.summary["rejected"] == {}


def test_escaped_quotes_over_lines_name_the_option(tmp_path: Path) -> None:
    text = '"he said \\"good\nand cheap\\""'
    (tmp_path / "log.csv").write_text(with_text(",", {4: text}))
    with pytest.raises(InputError, match=r"log.csv:6: .*never closed") as caught:
        read(tmp_path)
    assert caught.value.on_command_line.endswith("--escape '\\'")
    assert events(read(tmp_path, escape="\\")) == ROWS


def test_another_quote_mark(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(with_text(",", {4: "'a, b'"}))
    assert events(read(tmp_path, quote="'")) == ROWS


def test_blanks_before_quotes_and_single_quotes(tmp_path: Path) -> None:
    rows = "".join(f'"{u}", "{i}", {t}, "a, b"\n' for u, i, t in ROWS)
    (tmp_path / "log.csv").write_text(f'"user", "item", "time", "text"\n{rows}')
    assert events(read(tmp_path)) == ROWS
    (tmp_path / "log.csv").write_text((tmp_path / "log.csv").read_text().replace('"', "'"))
    assert events(read(tmp_path)) == ROWS


def test_names_of_rows_as_r_writes_them(tmp_path: Path) -> None:
    rows = "".join(f'"{n}","{u}","{i}",{t}\n' for n, (u, i, t) in enumerate(ROWS))
    (tmp_path / "log.csv").write_text(f'"user","item","time"\n{rows}')
    assert events(read(tmp_path)) == ROWS


def test_the_numbers_of_fields_are_reported(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,i,1600000000\nu,i,1600000000,x,y\n")
    assert "log.csv:3: '5 fields, the header has 3: u,i,1600000000,x,y'" in lines(read(tmp_path))


# --- encodings, compression, containers


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_detected_from_the_bytes(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "log.csv").write_bytes(rows_as("\t").replace("u1", "é1").encode(encoding))
    assert events(read(tmp_path)) == [(u.replace("u1", "é1"), i, t) for u, i, t in ROWS]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp1251", "shift_jis", "mac_roman"])
def test_encodings_that_are_said(tmp_path: Path, encoding: str) -> None:
    name = {"cp1251": "Д", "shift_jis": "日本"}.get(encoding, "é")
    (tmp_path / "log.csv").write_text(rows_as(","))
    (tmp_path / "items.csv").write_bytes(f"item,title\ni1,{name}\n".encode(encoding))
    with pytest.raises(InputError, match="1 bad UTF-8") as caught:
        read(tmp_path)
    assert "--encoding" in caught.value.on_command_line
    dataset = prepare(tmp_path, settings=ALL, options=ReadOptions(encoding=encoding))
    assert dataset.catalogue["title"].to_list() == [name]


def test_rows_of_another_encoding_are_reported_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(rows_as(","))
    titles = "".join(f"i{n},{'Café' if n % 2 else 'Tea'} {n}\n" for n in range(5))
    (tmp_path / "movies.csv").write_bytes(f"item,title\n{titles}".encode("latin-1"))
    printed = lines(read(tmp_path))
    assert "movies.csv: 2 of 5 rows are not UTF-8" in printed
    assert "--encoding latin-1" in printed
    assert "2 items are not in the catalogue: 8 interactions (40% of the log) rejected" in printed
    assert len(events(read(tmp_path, encoding="latin-1"))) == 20


@pytest.mark.parametrize(
    ("text", "encoding", "likely"),
    [
        ("Café crème", "latin-1", "latin-1"),
        ("Müller & Söhne", "cp1252", "latin-1"),
        ("Привет, как дела? Это книга о войне и мире", "cp1251", "cp1251"),
        ("日本の本はとても面白いと思います", "shift_jis", "cp932"),
    ],
)
def test_the_likely_encoding_is_named(
    tmp_path: Path, text: str, encoding: str, likely: str
) -> None:
    (tmp_path / "log.csv").write_text(rows_as(","))
    rows = f"item,title\ni1,plain\ni2,{text}\n"
    (tmp_path / "items.csv").write_bytes(rows.encode(encoding))
    message = f"items.csv: 1 of 2 rows are not UTF-8; save it as UTF-8, or pass --encoding {likely}"
    assert message in lines(read(tmp_path))


def zipped(data: bytes, *names: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, data)
    return sink.getvalue()


def test_archives_of_several_streams_are_read_to_the_end(tmp_path: Path) -> None:
    half = len(rows_as(",")) // 2
    for kind in ("gz", "bz2", "xz", "zst"):
        parts = rows_as(",").encode()[:half], rows_as(",").encode()[half:]
        (tmp_path / "log.csv").write_bytes(b"".join(map(COMPRESSORS[kind], parts)))
        assert events(read(tmp_path)) == ROWS, kind


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    "zip": lambda data: zipped(data, "log.csv", "__MACOSX/._log.csv"),
}


@pytest.mark.parametrize("kind", list(COMPRESSORS))
@pytest.mark.parametrize("suffix", ["named", "unnamed"])
def test_compression_is_detected_from_the_bytes(tmp_path: Path, kind: str, suffix: str) -> None:
    name = "log.csv" if suffix == "unnamed" else f"log.csv.{kind}"
    (tmp_path / name).write_bytes(COMPRESSORS[kind](rows_as(",").encode()))
    assert events(read(tmp_path)) == ROWS


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst", "zip"])
def test_a_broken_archive_is_one_line(tmp_path: Path, kind: str) -> None:
    data = COMPRESSORS[kind](rows_as(",").encode() * 50)
    (tmp_path / "log.csv").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"log.csv is a broken \w+ file .*; download or copy"):
        read(tmp_path)


def test_files_of_a_zip_are_named_within_it(tmp_path: Path) -> None:
    (tmp_path / "log.zip").write_bytes(zipped(b"x", "a.csv", "b.csv"))
    with pytest.raises(InputError, match=r"time columns of .*log.zip/a.csv, it has 'x'"):
        read(tmp_path / "log.zip")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("log.xlsx", b"PK\x03\x04", "is a workbook; save the sheet as CSV"),
        ("log.csv", b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it"),
        ("log.csv", b"SQLite format 3\x00", "is an SQLite database; export"),
        ("log.csv", b"ARROW1\x00\x00", "Arrow .Feather. file; save it as Parquet"),
        (
            "log.csv",
            b"log.csv" + bytes(250) + b"ustar" + bytes(300),
            "is a tar archive; give its path, or unpack",
        ),
        ("log.csv", b"<!DOCTYPE html><html>404", "is a web page, not the data; download"),
        ("log.csv", b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        (
            "log.csv",
            gzip.compress(gzip.compress(b"a,b", mtime=0), mtime=0),
            "is compressed twice; unpack it once",
        ),
        ("log.csv", bytes(range(256)) + bytes(300), "is not text"),
        (
            "log.csv",
            gzip.compress(b"PAR1" + bytes(9), mtime=0),
            "is a compressed Parquet file; unpack",
        ),
    ],
)
def test_files_that_are_no_tables_say_what_they_are(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


# --- JSON


def objects() -> list[dict[str, Any]]:
    return [{"user": u, "item": i, "time": t} for u, i, t in ROWS]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".txt"])
@pytest.mark.parametrize("style", ["lines", "array", "indented", "objects", "python", "unicode"])
def test_json_of_every_shape(tmp_path: Path, suffix: str, style: str) -> None:
    rows = objects()
    text = {
        "lines": "\n".join(map(json.dumps, rows)),
        "array": json.dumps(rows),
        "indented": json.dumps(rows, indent=2),
        "objects": "\n".join(json.dumps(row, indent=2) for row in rows),
        "python": "\n".join(map(repr, rows)),
        "unicode": "\n".join(repr(row | {"early": False}).replace(": '", ": u'") for row in rows),
    }[style]
    (tmp_path / f"log{suffix}").write_text(text)
    assert events(read(tmp_path)) == ROWS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"events": [{"user": 1}]},
            r"is one object with a list at 'events'; pass ReadOptions\(explode=\('events',\)\)",
        ),
        ({"user": {"0": 1}, "item": {"0": 2}}, "a table by columns .user, item.; write one object"),
    ],
)
def test_objects_that_hold_the_rows_say_so(tmp_path: Path, data: Any, message: str) -> None:
    (tmp_path / "log.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=message):
        read(tmp_path / "log.json")


def test_a_table_that_is_called_json_lines(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(rows_as(","))
    assert events(read(tmp_path)) == ROWS


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("")
    with pytest.raises(InputError, match=r"log.csv is empty, or holds nothing"):
        read(tmp_path)


def test_an_array_that_is_cut_short_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text(json.dumps(objects(), indent=2)[:-20])
    with pytest.raises(InputError, match=r"log.json:97: broken JSON"):
        read(tmp_path)


def test_keys_that_first_appear_late_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "KEYS_FROM", 5)
    monkeypatch.setattr(jsonl, "CHUNK_ROWS", 4)
    log = [row | ({"rating": 4} if n > 12 else {}) for n, row in enumerate(objects())]
    items = [{"item": f"i{n}"} | ({"price": 5, "genre": "A"} if n > 3 else {}) for n in range(9)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    monkeypatch.setattr(jsonl.jsonl_keys, "__defaults__", (3,))
    dataset = read(tmp_path)
    assert dataset.catalogue["price"].to_list() == [None] * 4 + [5.0] * 5
    assert dataset.catalogue["category"].to_list() == [None] * 4 + ["A"] * 5
    ratings = dataset.interactions.ratings
    assert ratings is not None
    assert dataset.summary["without_rating"] == 13
    printed = lines(dataset)
    assert "log column 'rating' first appears on line 14" in printed
    assert "catalogue column 'price' first appears on line 5" in printed


def test_a_late_key_of_one_part_is_unknown_in_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl.jsonl_keys, "__defaults__", (3,))
    train = [row | ({"rating": 4} if n > 5 else {}) for n, row in enumerate(objects()[:10])]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, train)))
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, objects()[10:])))
    dataset = read(tmp_path)
    assert events(dataset) == ROWS
    assert dataset.summary["without_rating"] == 16


def test_a_column_that_is_named_may_appear_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl.jsonl_keys, "__defaults__", (3,))
    log = [row | ({"stars": 4} if n > 12 else {}) for n, row in enumerate(objects())]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    dataset = prepare(tmp_path, settings=ALL, mapping=ColumnMapping(rating="stars"))
    assert dataset.summary["without_rating"] == 13


# --- ids


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "text"])
def test_whole_floats_are_whole_numbers_in_every_format(tmp_path: Path, form: str) -> None:
    frame = pl.DataFrame({"user": [12.0, 13.0, None], "item": [7.0, 8.0, 9.0], "time": [T0] * 3})
    if form == "csv":
        frame.write_csv(tmp_path / "log.csv")
    elif form == "jsonl":
        frame.write_ndjson(tmp_path / "log.jsonl")
    elif form == "text":
        frame.cast({"user": pl.String}).write_parquet(tmp_path / "log.parquet")
    else:
        frame.write_parquet(tmp_path / "log.parquet")
    (tmp_path / "items.csv").write_text("id,title\n7,A\n8,B\n9,C\n")
    dataset = read(tmp_path)
    assert dataset.users.ids == ("12", "13")
    what = "empty" if form == "csv" else "missing"
    assert dataset.summary["rejected"] == {f"user_id: {what}": 1}


def test_whole_floats_are_detected_from_the_file_and_not_by_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "CHUNK_ROWS", 2)
    ids = ["1", "2", "3.0", "4.0", "5", "6.0"]
    text = "user,item,time\n" + "".join(f"{id_},{id_},{T0}\n" for id_ in ids)
    (tmp_path / "log.csv").write_text(text)
    assert read(tmp_path).users.ids == ("1", "2", "3", "4", "5", "6")
    (tmp_path / "log.csv").write_text(text + f"v1.0,x,{T0}\n")
    assert read(tmp_path).users.ids == ("1", "2", "3.0", "4.0", "5", "6.0", "v1.0")


def test_leading_zeros_stay_and_blanks_go(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"user,item,time\n 007 ,0108775015,{T0}\n7,\t8 ,{T0}\n")
    dataset = read(tmp_path)
    assert dataset.users.ids == ("007", "7")
    assert dataset.items.ids == ("0108775015", "8")


@pytest.mark.parametrize(
    "text", ["NA", "nan", "None", "null", "NULL", "N/A", "<NA>", "\\N", " NA "]
)
def test_texts_that_stand_for_nobody_are_missing_ids(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(f"user,item,time\nu,i,{T0}\n{text},i,{T0}\nv,{text},{T0}\n")
    dataset = read(tmp_path)
    assert dataset.users.ids == ("u",)
    assert dataset.summary["rejected"] == {"user_id: missing": 1, "item_id: missing": 1}
    assert "--missing" in lines(dataset)
    assert read(tmp_path, missing=()).users.ids == tuple(sorted(("u", "v", text.strip())))


@pytest.mark.parametrize("kind", ["uuid", "bytes", "text"])
def test_uuids_are_in_dashed_form(tmp_path: Path, kind: str) -> None:
    ids = [uuid.UUID(int=n) for n in (1, 2)]
    users = {
        "uuid": lambda: pa.array([id_.bytes for id_ in ids], pa.uuid()),
        "bytes": lambda: pa.array([id_.bytes for id_ in ids], pa.binary(16)),
        "text": lambda: pa.array([str(id_) for id_ in ids]),
    }[kind]()
    table = pa.table({"user": users, "item": ["a", "b"], "time": [T0, T0]})
    pq.write_table(table, tmp_path / "log.parquet")
    assert read(tmp_path).users.ids == tuple(map(str, ids))


def test_a_user_of_a_large_share_is_reported(tmp_path: Path) -> None:
    rows = [f"u{n},i{n % 7},{T0 + n}" for n in range(40)]
    rows += [f"guest,j{n},{T0 + n}" for n in range(40)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time", *rows]))
    assert "user 'guest' has 50% of the interactions; if it is a placeholder, pass" in lines(
        read(tmp_path)
    )
    assert len(read(tmp_path, missing=("guest",)).users) == 40


def test_ids_that_a_spreadsheet_has_shortened_are_reported(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"user,item,time\n1.23457E+12,a,{T0}\n2E+12,b,{T0}\n")
    assert "2 ids are like '1.23457E+12': a spreadsheet has shortened them" in lines(read(tmp_path))


def test_lost_zeros_are_reported_with_both_ids(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1], "item": [108775004], "time": [T0]}).write_parquet(
        tmp_path / "log.parquet"
    )
    (tmp_path / "items.csv").write_text("item_id,title\n0108775004,A\n")
    message = "the log has '108775004', the catalogue '0108775004': leading zeros were lost"
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_unlike_ids_are_reported_with_both(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows_as(","))
    (tmp_path / "items.csv").write_text("item_id,title\ni0,A\nI1,B\nx,C\n")
    printed = lines(read(tmp_path))
    assert "the log has 'i1', the catalogue 'I1': the case differs" in printed


# --- times


MOMENT = datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC)
FORMS = [
    "2020-09-13 12:26:40 UTC", "2020-09-13 12:26:40", "2020-09-13T12:26:40Z",
    "2020-09-13T14:26:40+02:00", "2020-09-13 14:26:40+0200", "2020-09-13 12:26:40.000",
    "2020/09/13 12:26:40", "09/13/2020 12:26:40", "9/13/2020 12:26:40 PM", "13.09.2020 12:26:40",
    "13/09/2020 12:26:40", "13-09-2020 12:26:40", "Sep 13, 2020 12:26:40", "13 Sep 2020 12:26:40",
    "13-Sep-2020 12:26:40", "September 13, 2020 12:26:40 PM", "Sun Sep 13 04:26:40 -0800 2020",
    "Sun Sep 13 12:26:40 2020", "Sun Sep 13 05:26:40 PDT 2020", "Sun, 13 Sep 2020 12:26:40 GMT",
    "13/Sep/2020:12:26:40 +0000", "20200913T122640Z", "2020-09-13 12:26:40 GMT",
    "20200913122640", "1600000000", "1600000000.0", "1600000000000", "1600000000000000",
    "1600000000000000000", "1.6e9", "2020-09-13 05:26:40 -0700 PDT", "13.09.20 12:26:40",
]  # fmt: skip
DAYS = [
    "2020-09-13", "2020/09/13", "13.09.2020", "09/13/2020", "9/13/2020", "13/09/2020", "20200913",
    "09 13, 2020", "Sep 13, 2020", "13 September 2020", "13-Sep-20", "9/13/20", "2020.09.13",
    "Sunday, September 13, 2020", "Sunday 13 September 2020", "13. September 2020",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS + DAYS)
def test_common_forms_of_times(tmp_path: Path, form: str) -> None:
    (tmp_path / "log.csv").write_text(f'user,item,date\nu,i,"{form}"\nv,j,"{form}"\n')
    expected = MOMENT if form in FORMS else MOMENT.replace(hour=0, minute=0, second=0)
    assert times(read(tmp_path)) == [expected] * 2


@pytest.mark.parametrize("form", ["2020-09", "2020/09", "September 2020", "Sep 2020", "202009"])
def test_months_are_their_first_day(tmp_path: Path, form: str) -> None:
    (tmp_path / "log.csv").write_text(f"user,item,date\nu,i,{form}\n")
    assert times(read(tmp_path)) == [datetime(2020, 9, 1, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("value", "day"),
    [(20200913, (2020, 9, 13)), (202009, (2020, 9, 1)), (2020, (2020, 1, 1))],
)
@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_dates_as_numbers_are_no_seconds(
    tmp_path: Path, value: int, day: tuple[int, int, int], form: str
) -> None:
    frame = pl.DataFrame({"user": ["u", "v"], "item": ["i", "j"], "date": [value, value]})
    write = {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}
    write[form](tmp_path / f"log.{form}")  # type: ignore[operator]
    assert times(read(tmp_path)) == [datetime(*day, tzinfo=UTC)] * 2


def test_forms_of_iso_may_be_mixed(tmp_path: Path) -> None:
    forms = ["2020-09-13T12:26:40Z", "2020-09-13 14:26:40+02:00", "2020-09-13 12:26:40.0"]
    rows = "".join(f"u{n},i,{form}\n" for n, form in enumerate(forms))
    (tmp_path / "log.csv").write_text(f"user,item,time\n{rows}")
    assert times(read(tmp_path)) == [MOMENT] * 3


def test_ambiguous_day_and_month_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,date\nu,i,03/04/2020\nu,j,05/06/2020\n")
    with pytest.raises(InputError, match="leave day and month ambiguous: '03/04/2020'") as caught:
        read(tmp_path)
    assert "--time-format '%d/%m/%Y' or '%m/%d/%Y'" in caught.value.on_command_line
    assert times(read(tmp_path, time_format="%d/%m/%Y"))[0] == datetime(2020, 4, 3, tzinfo=UTC)


def test_forms_that_are_not_read_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,date\nu,i,13h26 13-IX-2020\n")
    with pytest.raises(InputError, match=r"all rejected \(1 timestamp: wrong type") as caught:
        read(tmp_path)
    assert "--time-format" in caught.value.on_command_line


@pytest.mark.parametrize(
    ("unit", "value", "likely"),
    [("s", 1_600_000_000_000, "ms"), ("ms", 1_600_000_000, "s"), ("ns", 1_600_000_000_000, "ms")],
)
def test_a_unit_that_cannot_be_names_the_likely_one(
    tmp_path: Path, unit: str, value: int, likely: str
) -> None:
    (tmp_path / "log.csv").write_text(f"user,item,time\nu,i,{value}\n")
    with pytest.raises(InputError, match=f"not in {unit}: {value} would be") as caught:
        read(tmp_path, time_unit=unit)
    assert f"--time-unit {likely}" in caught.value.on_command_line
    assert times(read(tmp_path, time_unit=likely)) == [MOMENT]


def test_times_of_0_among_others_are_reported(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"user,item,time\nu,i,0\nu,j,{T0}\n")
    assert "1 interactions lie in 1970: is 0 a missing time?" in lines(read(tmp_path))


def test_times_within_1970_are_reported(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,i,1\nu,j,2\n")
    assert "all times lie in 1970, from 1970-01-01 00:00:01" in lines(read(tmp_path))


@pytest.mark.parametrize(("zone", "hour"), [("+05:30", 5.5), ("Europe/Berlin", 2), ("-0800", -8)])
def test_times_without_a_zone_are_in_the_one_that_is_said(
    tmp_path: Path, zone: str, hour: float
) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,i,2020-09-13 12:26:40\n")
    assert times(read(tmp_path, time_zone=zone)) == [MOMENT - timedelta(hours=hour)]


@pytest.mark.parametrize("zone", ["+05:30", "-08:00", "Asia/Kolkata", "UTC", None])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_times_of_any_zone_and_unit(tmp_path: Path, zone: str | None, unit: str) -> None:
    moments = (
        pa.array([T0], pa.int64()).cast(pa.timestamp("s", zone)).cast(pa.timestamp(unit, zone))
    )
    table = pa.table({"user": ["u"], "item": ["i"], "time": moments})
    pq.write_table(table, tmp_path / "log.parquet")
    assert times(read(tmp_path)) == [MOMENT]


def test_offsets_of_python_are_read(tmp_path: Path) -> None:
    moment = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    (tmp_path / "log.jsonl").write_text(json.dumps({"user": 1, "item": 2, "time": str(moment)}))
    assert times(read(tmp_path)) == [MOMENT]


# --- ratings


@pytest.mark.parametrize("missing", ["", " ", "NA", "nan", "NULL"])
def test_a_rating_is_optional(tmp_path: Path, missing: str) -> None:
    (tmp_path / "log.csv").write_text(
        f"user,item,rating,time\nu,i,4,{T0}\nu,j,{missing},{T0 + 9}\n"
    )
    dataset = read(tmp_path)
    dataset.save(tmp_path / "out")
    saved = pl.read_parquet(tmp_path / "out" / "interactions.parquet")
    assert saved["rating"].to_list() == [4.0, None]
    assert Dataset.load(tmp_path / "out").fingerprint == dataset.fingerprint
    assert "1 interactions have no rating, and are kept without" in lines(dataset)


def test_a_rating_column_that_is_empty_throughout_is_none(tmp_path: Path) -> None:
    pl.DataFrame({"user": ["u"], "item": ["i"], "rating": [None], "time": [T0]}).write_parquet(
        tmp_path / "log.parquet"
    )
    dataset = read(tmp_path)
    assert dataset.interactions.ratings is None
    assert dataset.summary["without_rating"] == 1


@pytest.mark.parametrize("words", [("True", "False"), ("true", "false"), ("yes", "no")])
def test_truths_are_ratings(tmp_path: Path, words: tuple[str, str]) -> None:
    rows = "".join(f"u,i{n},{word},{T0 + n}\n" for n, word in enumerate(words))
    (tmp_path / "log.csv").write_text(f"user,item,rating,time\n{rows}")
    ratings = read(tmp_path).interactions.ratings
    assert ratings is not None
    assert ratings.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_booleans_are_ratings(tmp_path: Path, form: str) -> None:
    frame = pl.DataFrame({"user": "u", "item": ["i", "j"], "rating": [True, False], "time": [1, 2]})
    if form == "jsonl":
        frame.write_ndjson(tmp_path / "log.jsonl")
    else:
        frame.write_parquet(tmp_path / "log.parquet")
    ratings = read(tmp_path).interactions.ratings
    assert ratings is not None
    assert ratings.tolist() == [1.0, 0.0]


def test_scales_and_thresholds(tmp_path: Path) -> None:
    rows = "".join(f"u,i{n},{stars},{T0 + n}\n" for n, stars in enumerate((-1, 4, 8, 148)))
    (tmp_path / "log.csv").write_text(f"user,item,rating,time\n{rows}")
    assert "ratings run from -1 to 148; bound them with --rating-scale" in lines(read(tmp_path))
    assert read(tmp_path, rating_scale=(1, 10)).summary["rejected"] == {"rating: out of range": 2}
    assert read(tmp_path, min_rating=5).summary["rejected"] == {"rating: below the least": 2}
    assert read(tmp_path, missing=("-1",)).summary["without_rating"] == 1


def test_kinds_of_events_can_be_chosen(tmp_path: Path) -> None:
    rows = "".join(f"u,i{n},{kind},{T0 + n}\n" for n, kind in enumerate(("view", "buy", "view")))
    (tmp_path / "log.csv").write_text(f"user,item,event,time\n{rows}")
    assert read(tmp_path).summary["interactions"] == 3
    bought = read(tmp_path, events=("buy",))
    assert bought.items.ids == ("i1",)
    assert bought.summary["rejected"] == {"event: not one of those kept": 2}


# --- catalogues


@pytest.mark.parametrize(
    ("price", "value"),
    [
        ("12,99", 12.99), ("1.299,00", 1299.0), ("49,90 EUR", 49.9), ("€ 49.90", 49.9),
        ("CHF 12.50", 12.5), ("1'299.00", 1299.0), ("$4.99 - $9.99", 4.99), ("£12.50", 12.5),
        ("USD 5", 5.0), ("$1,299.50", 1299.5), ("1 299,00 kr", 1299.0), ("₹1,29,900.00", 129900.0),
        ("R$ 1.299,90", 1299.9), ("¥1,299", 1299.0), ("12.99€", 12.99), ("US$ 7", 7.0),
        ("7,-", 7.0), ("Rs.499", 499.0), (".99", 0.99),
        ("1.299.000 ₫", 1299000.0), ("Rs. 499", 499.0), ("12,5 zł", 12.5), ("5–10 €", 5.0),
        ("from 12.99", None), ("12 or 13", None), ("free", None), ("€", None),
        ("1.2.3,4,5", None),
    ],
)  # fmt: skip
def test_prices_of_any_currency(price: str, value: float | None) -> None:
    assert as_price(pl.Series([price])).to_list() == [value]


def test_prices_that_say_their_marks_decide_for_those_that_do_not() -> None:
    assert as_price(pl.Series(["1.299", "12,99"])).to_list() == [1299.0, 12.99]
    assert as_price(pl.Series(["1,299", "12.99"])).to_list() == [1299.0, 12.99]
    assert as_price(pl.Series(["1,299", "12,99"])).to_list() == [1.299, 12.99]
    assert as_price(pl.Series(["1,299"]), decimal_comma=True).to_list() == [1.299]
    assert as_price(pl.Series(["1,299"])).to_list() == [1299.0]


def test_prices_that_are_not_read_are_reported(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows_as(","))
    (tmp_path / "items.csv").write_text("item,price\ni0,ask us\ni1,ask\ni2,5 EUR\ni3,$4\ni4,NA\n")
    printed = lines(read(tmp_path))
    assert "price: 2 of 5 not a number, such as 'ask us', left empty" in printed
    assert "several currencies" in printed


@pytest.mark.parametrize(
    "form", ["csv", "json text", "python text", "numpy text", "jsonl", "parquet"]
)
def test_lists_are_lists_in_every_format(tmp_path: Path, form: str) -> None:
    (tmp_path / "log.csv").write_text(f"user,item,time\nu,i0,{T0}\n")
    texts = {
        "csv": "Drama|Comedy", "json text": '"[""Drama"", ""Comedy""]"',
        "python text": "\"['Drama', 'Comedy']\"", "numpy text": "['Drama' 'Comedy']",
    }  # fmt: skip
    row = {"item": "i0", "genres": ["Drama", "Comedy"]}
    if form == "jsonl":
        (tmp_path / "items.jsonl").write_text(json.dumps(row))
    elif form == "parquet":
        pl.DataFrame([row]).write_parquet(tmp_path / "items.parquet")
    else:
        (tmp_path / "items.csv").write_text(f"item,genres\ni0,{texts[form]}\n")
    assert read(tmp_path).catalogue["category"].to_list() == ["Drama|Comedy"]


PRODUCT = {
    "main_category": "Video Games", "title": "Game", "average_rating": 4.5, "rating_number": 10,
    "features": ["a", "b"], "description": ["d"], "price": 19.99, "store": "S",
    "categories": ["Video Games", "PC"], "parent_asin": "B000000000",
    "images": [{"thumb": "t.jpg", "large": "l.jpg", "variant": "MAIN", "hi_res": None}],
}  # fmt: skip
FACED = PRODUCT | {
    "price": "None",
    "images": {"hi_res": [None, "b"], "large": ["l.jpg", "b"], "variant": ["MAIN", "PT01"]},
}


@pytest.mark.parametrize("form", ["raw", "hugging face", "parquet", "hugging face parquet"])
def test_products_of_amazon_are_the_same_in_every_form(tmp_path: Path, form: str) -> None:
    (tmp_path / "reviews.jsonl").write_text(
        json.dumps({"user_id": "u", "parent_asin": "B000000000", "rating": 5, "timestamp": T0})
    )
    product = FACED if form.startswith("hugging") else PRODUCT
    if form.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist([product]), tmp_path / "items.parquet")
    else:
        (tmp_path / "meta.jsonl").write_text(json.dumps(product))
    row = read(tmp_path).catalogue.row(0, named=True)
    assert (row["category"], row["image"], row["features"]) == ("PC", "l.jpg", "a\nb")
    assert row["price"] == (None if product is FACED else pytest.approx(19.99))


def test_columns_of_a_catalogue_that_is_not_there_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "transactions.csv").write_text(rows_as(","))
    (tmp_path / "things.csv").write_text("item,prod\ni0,A\n")
    with pytest.raises(InputError, match=r"a catalogue were named \(title=prod") as caught:
        prepare(tmp_path / "transactions.csv", mapping=ColumnMapping(title="prod"))
    assert f"--catalogue {tmp_path / 'things.csv'}" in caught.value.on_command_line


def test_the_item_of_the_catalogue_is_called_as_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"user,asin,time\nu,B1,{T0}\n")
    (tmp_path / "items.csv").write_text("parent_asin,asin,title\nP,B1,One\nP,B2,Two\n")
    dataset = read(tmp_path)
    assert dataset.catalogue["title"].to_list() == ["One", "Two"]
    (tmp_path / "log.csv").write_text(f"user,parent_asin,asin,time\nu,P,B1,{T0}\n")
    (tmp_path / "items.csv").write_text("asin,title\nB1,One\n")
    assert read(tmp_path).items.ids == ("B1",)


def test_items_that_the_catalogue_lacks_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows_as(","))
    (tmp_path / "items.csv").write_text("item,title,released\ni1,One,2001\ni0,Zero,2002\n")
    rejected = read(tmp_path)
    printed = lines(rejected)
    assert "3 items are not in the catalogue: 12 interactions (60% of the log) rejected" in printed
    assert "--keep-unknown-items" in printed
    keep = PrepareSettings(k_core=0, keep_unknown_items=True)
    kept = prepare(tmp_path, settings=keep)
    assert events(kept) == ROWS
    assert kept.catalogue["title"].to_list() == ["One", "Zero", None, None, None]
    assert "12 interactions (60% of the log) kept without a row of it" in lines(kept)


# --- the summary


def test_the_summary_is_a_few_plain_lines(tmp_path: Path) -> None:
    rows = [
        ("u", "a", 1),
        ("u", "a", 2),
        ("u", "b", 3),
        ("v", "a", 4),
        ("v", "b", 5),
        ("w", "c", 6),
    ]
    text = "".join(f"{u},{i},{T0 + t},x\n" for u, i, t in rows) + f",a,{T0},x\n"
    (tmp_path / "log.csv").write_text(f"user,item,time,note\n{text}")
    dataset = prepare(tmp_path, settings=PrepareSettings(k_core=2))
    assert summary_lines(dataset.summary, cli=True) == [
        "log: 7 rows read of log.csv",
        "log columns read: user_id=user, item_id=item, timestamp=time; ignored: 'note' "
        "(--column NAME=COLUMN reads another, and 'twotower inspect' proposes features)",
        "rejected 1 (14%): user_id: empty, first log.csv:8: ''; an interaction needs both ids: "
        "fill it in, or leave such rows out so",
        "times run from 2020-09-13 to 2020-09-13",
        "1 repeats of a user and an item dropped, the earliest kept; --keep-repeats keeps them",
        "the 2-core removed 1 users (33%), 1 items (33%), 1 interactions (20%); --k-core 0 keeps "
        "all",
        "no user has three interactions, so leave-last-two holds none out; choose the split "
        "'global-time' or 'random'",
    ]
    assert json.loads(json.dumps(dataset.summary))["examples"] == {
        "user_id: empty": "log.csv:8: ''"
    }
    python = "\n".join(summary_lines(dataset.summary))
    assert "PrepareSettings(keep_repeats=True)" in python
    assert not re.search("--[a-z]", python)


def test_items_of_the_catalogue_that_are_left_out_are_reported(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows_as(","))
    (tmp_path / "items.csv").write_text("item\n" + "".join(f"i{n}\n" for n in range(10)))
    printed = lines(prepare(tmp_path, settings=PrepareSettings(k_core=1)))
    assert "5 of the catalogue's 10 items (50%) are left out" in printed
    assert "left out" not in lines(read(tmp_path))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"encoding": "klingon"}, "no such encoding"),
        ({"encoding": "base64"}, "no encoding of text"),
        ({"time_zone": "Mars/Olympus"}, "no such time zone"),
        ({"rating_scale": (5, 1)}, "rating_scale must be lowest, highest, got 5, 1"),
        ({"names": ("a", "a")}, "names must differ"),
        ({"quote": "ab"}, "must be one character, or 'none'"),
        ({"separator": "\n"}, "no quote and no line end"),
        ({"colour": "red"}, "unknown key, got 'red'; it is one of format, "),
    ],
)
def test_impossible_options_are_refused(message: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ReadOptions(**message)


# --- types that are kept, and fixes that can be done


def test_times_are_whole_numbers_from_the_file_to_the_saved_data(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows_as(","))
    made = prepare(tmp_path, settings=ALL, out=tmp_path / "out")
    loaded = Dataset.load(tmp_path / "out")
    stored = pl.read_parquet(tmp_path / "out" / "interactions.parquet")["timestamp"]
    assert stored.dtype == pl.Int64
    for dataset in (made, loaded):
        assert dataset.interactions.timestamps is not None
        assert dataset.interactions.timestamps.dtype == np.int64


def test_times_that_an_earlier_release_kept_as_floats_are_read_with_their_fingerprint(
    tmp_path: Path,
) -> None:
    (tmp_path / "log.csv").write_text(rows_as(","))
    made = read(tmp_path)
    log = made.interactions
    assert log.timestamps is not None
    old = replace(made, interactions=replace(log, timestamps=log.timestamps.astype(np.float64)))
    loaded = Dataset.load(old.save(tmp_path / "out"))
    assert loaded.fingerprint == old.fingerprint != made.fingerprint
    assert loaded.interactions.timestamps is not None
    assert loaded.interactions.timestamps.dtype == np.int64
    assert loaded.interactions.timestamps.tolist() == log.timestamps.tolist()


def test_the_fix_of_a_stray_quote_in_a_csv_can_be_done(tmp_path: Path) -> None:
    text = [f"{user},{item},{time},{'ok' if n else chr(34) + 'best ever'}"
            for n, (user, item, time) in enumerate(ROWS)]  # fmt: skip
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time,text", *text, ""]))
    with pytest.raises(InputError, match=r"log.csv:2: .*never closed.*quote='none'") as error:
        read(tmp_path)
    assert "--quote none" in error.value.on_command_line
    assert events(read(tmp_path, quote="none")) == ROWS


def test_lines_above_a_header_are_passed_over_and_said(tmp_path: Path) -> None:
    title = "Report of 2024-01-01\nShop: Nord, all branches\n\n"
    for place, separator in enumerate((",", ";", "\t")):
        path = tmp_path / f"log{place}.csv"
        path.write_text(title + rows_as(separator))
        dataset = read(path)
        assert events(dataset) == ROWS
        assert dataset.summary["rejected"] == {"above the header": 2}
        assert f"log{place}.csv:1: 'Report of 2024-01-01'" in lines(dataset)


@pytest.mark.parametrize("inches", ["", '5"" disk'])
def test_texts_of_several_lines_are_no_rows_below_a_title(tmp_path: Path, inches: str) -> None:
    """Each row is two lines of one field less than the header."""
    rows = [f'{user};{time};"good\n{inches}";{item}' for user, item, time in ROWS]
    (tmp_path / "log.csv").write_text("\n".join(['"user";"time";"text";"item"', *rows, ""]))
    dataset = read(tmp_path / "log.csv")
    assert events(dataset) == ROWS
    assert dataset.summary["rejected"] == {}


def test_a_first_line_that_is_short_of_a_field_is_no_title(tmp_path: Path) -> None:
    """A comma in a name of the header: the second line is data and no header."""
    (tmp_path / "log.csv").write_text(
        "\n".join(["user,item", *(f"{u},{i},{t}" for u, i, t in ROWS)])
    )
    with pytest.raises(InputError, match="cannot determine the time column"):
        read(tmp_path / "log.csv")


def test_a_table_as_a_database_prints_it_is_read(tmp_path: Path) -> None:
    rule = "+----+----+------------+"
    body = "\n".join(f"| {u} | {i} | {t} |" for u, i, t in ROWS)
    table = f"{rule}\n| user | item | timestamp |\n{rule}\n{body}\n{rule}\n20 rows in set\n"
    (tmp_path / "log.txt").write_text(table)
    assert events(read(tmp_path / "log.txt")) == ROWS


def test_keys_within_objects_are_columns(tmp_path: Path) -> None:
    rows = [{"user": {"id": u}, "item": {"id": i}, "event": {"time": t, "type": "view"}}
            for u, i, t in ROWS]  # fmt: skip
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = read(tmp_path / "log.jsonl")
    assert events(dataset) == ROWS
    assert dataset.summary["columns"] == {
        "read": {"user_id": "user.id", "item_id": "item.id", "timestamp": "event.time"},
        "ignored": [],
    }
    named = prepare(tmp_path / "log.jsonl", settings=ALL, mapping=ColumnMapping(event="event.type"))
    assert named.summary["columns"]["read"]["event"] == "event.type"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"data": [{"user": "u0", "item": "i0"}] * 2, "count": 2}, "a list at 'data'"),
        ({"user": ["u0", "u1"], "item": ["i0", "i1"]}, "a table by columns"),
    ],
)
def test_an_object_around_the_rows_is_an_error_that_names_it(
    tmp_path: Path, content: Any, said: str
) -> None:
    (tmp_path / "log.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"is one object with {said}"):
        read(tmp_path / "log.json")


def test_ids_that_look_alike_are_said(tmp_path: Path) -> None:
    """Composed and decomposed letters, and marks that cannot be seen."""
    forms = ("cafe\u0301", "caf\u00e9")
    rows = [
        (f"{user}\u200b" if n == 3 else user, f"{forms[n % 2]} {item}", time)
        for n, (user, item, time) in enumerate(ROWS)
    ]
    text = "\n".join(["user,item,time", *(",".join(map(str, row)) for row in rows)])
    (tmp_path / "log.csv").write_text(text, encoding="utf-8")
    dataset = read(tmp_path / "log.csv")
    assert dataset.summary["alike_ids"]["count"] == 6  # five items, one user
    assert "such as 'u3\\u200b' and 'u3', and count as two" in lines(dataset)


def test_ids_that_differ_in_case_alone_are_reported(tmp_path: Path) -> None:
    rows = [(user, item, time) for time, user in enumerate(("Ann", "ann", "bob")) for item in "xy"]
    (tmp_path / "log.csv").write_text(
        "\n".join(["user,item,time", *(",".join(map(str, row)) for row in rows)])
    )
    told = lines(read(tmp_path / "log.csv"))
    assert (
        "users whose ids differ in upper and lower case alone: 1, such as 'Ann' and 'ann'" in told
    )
    assert "items whose ids" not in told


def test_the_encoding_of_windows_is_named(tmp_path: Path) -> None:
    text = rows_as(",").replace("u1", "Müller – 5 €")
    (tmp_path / "log.csv").write_bytes(text.encode("cp1252"))
    assert "pass --encoding cp1252" in lines(read(tmp_path / "log.csv"))
    every = "\n".join(["user,item,time", *(f"Mü€ {u},{i},{t}" for u, i, t in ROWS)])
    (tmp_path / "all.csv").write_bytes(every.encode("cp1252"))
    with pytest.raises(InputError, match=r"ReadOptions\(encoding='cp1252'\)"):
        read(tmp_path / "all.csv")
    assert read(tmp_path / "all.csv", encoding="cp1252").users.ids[0] == "Mü€ u0"


@pytest.mark.parametrize(
    ("head", "values", "said"),
    [
        ("user,item,date,time", "2024-05-01,12:26:40", "a time of day without its date; name"),
        ("user,item,time,rating", "1600000000,good", "ratings are numbers; convert them, or leave"),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_read_has_a_fix(
    tmp_path: Path, head: str, values: str, said: str
) -> None:
    rows = [f"{user},{item},{values}" for user, item, _ in ROWS]
    (tmp_path / "log.csv").write_text("\n".join([head, *rows]))
    with pytest.raises(InputError, match=said):
        read(tmp_path / "log.csv")


def test_a_catalogue_that_cannot_be_read_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows_as(","))
    (tmp_path / "items.csv").write_text("name,cost\na,1\n")
    with pytest.raises(InputError) as error:
        read(tmp_path)
    assert "--catalogue none" in error.value.on_command_line
    made = prepare(tmp_path, settings=ALL, declaration=Declaration(catalogue="none"))
    assert events(made) == ROWS


def test_columns_of_a_converted_format_may_be_named_as_the_file_has_them(tmp_path: Path) -> None:
    lines_of = ["sessionId;userId;itemId;timeframe;eventdate"]
    lines_of += [
        f"1;{user};{item};{n};2016-05-{n % 9 + 1:02}" for n, (user, item, _) in enumerate(ROWS)
    ]
    path = tmp_path / "train-item-views.csv"
    path.write_text("\n".join(lines_of))
    dataset = prepare(path, settings=ALL, mapping=ColumnMapping(time="eventdate"))
    assert list(dataset.users.ids) == ["u0", "u1", "u2", "u3"]
    assert {time.month for time in times(dataset)} == {5}
