"""Fuzz `prepare` over bytes, columns, types, encodings and options.

    python tests/data/fuzz_prepare.py --inputs 10000

Each input ends with a data set or with one line of error; anything else is reported with its
number, by which it can be made again (`--first`).
"""

import argparse
import bz2
import contextlib
import datetime as dt
import decimal
import gzip
import io
import json
import lzma
import random
import sys
import tempfile
import traceback
import uuid
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from twotower.data.prepare import prepare
from twotower.data.readers import ColumnMapping, ReadOptions
from twotower.data.settings import PrepareSettings
from twotower.data.summary import summary_lines
from twotower.errors import InputError, TwoTowerError

IDS: list[Any] = [
    "u1", "u2", "7", "007", "12.0", "13.0", "1.5", "", " ", "NA", "nan", "é", "日本", "-x", "a,b",
    'q"q', '"open', "x\ny", "\x00", "1e3", None, 1, 2, 3.0, 2**63, -1, 1.5, float("nan"), True,
    ["l"], {"d": 1}, {"$oid": "5f"}, 2**70, '="007"', "undefined",
    "\\N", "B000000001", "\u202e", "a" * 300,
]  # fmt: skip
TIMES: list[Any] = [
    1, 0, -5, 1600000000, 1600000000.5, 1600000000000, 1600000000000000, 1600000000000000000,
    20200913, 20200913122640, 2020, 202009, "2020-09-13", "2020-09-13 12:26:40 UTC", "13.09.2020",
    "09/13/2020", "03/04/2020", "Sep 13, 2020", "Sun Sep 13 12:26:40 -0800 2020", "soon", "", None,
    float("inf"), float("nan"), "2020-13-45", "12:30", "09 13, 2020", "99999999999999999999", True,
    45123, "45123,5", 230714, "14072023", "13. März 2020", "Mai 2020", "13 de mayo de 2020",
    "13.09.2020 12.26 Uhr", "/Date(1600000000000)/", "21:30", "9", 930, {"$date": 1600000000000},
    "Sun Sep 13 2020 12:26:40 GMT+0100 (CET)", "13. maaliskuuta 2020", "9:30 p.m.",
    "2020-09-13T12:26:40+05:30", "13.09.20 12:26", "1,600,000,000", [1], "0000-00-00", "1e400",
]  # fmt: skip
RATINGS: list[Any] = [
    5, 4.5, "4,5", "five", "", None, True, False, "True", -1, 148, float("nan"), float("inf"),
    [5], "NA", "1.000,5", 1e300, "80%", "4/5", "4/10", "5 out of 5 stars", "ja",
]  # fmt: skip
PRICES: list[Any] = [
    "12,99", "1.299,00", "49,90 EUR", "€ 49.90", "CHF 12.50", "1'299.00", "$4.99 - $9.99", "free",
    "", None, 5, -3, "from 1", "1,2,3", ".", ",", "--", "€", [1], {"x": 1}, float("inf"), "1" * 400,
]  # fmt: skip
TEXTS: list[Any] = [
    "T", "", None, "x" * 5000, '"', "''", "['a' 'b']", '["a", "b"]', "[", "[]", "[[1]]", "Drama|C",
    ["a", None, 1], {"hi_res": [None, "x"], "large": ["y"]}, 7, 7.5, "\ud800", "\u0000", "a\rb",
    [{"large": "l"}],
]  # fmt: skip
COLUMNS: dict[str, list[Any]] = {
    "user": IDS, "user_id": IDS, "item": IDS, "parent_asin": IDS, "asin": IDS, "time": TIMES,
    "timestamp": TIMES, "date": TIMES, "rating": RATINGS, "score": RATINGS, "position": TIMES,
    "event": TEXTS, "price": PRICES, "title": TEXTS, "categories": TEXTS, "images": TEXTS,
    "release_date": TIMES, "average_rating": RATINGS, "rating_number": RATINGS, "": TEXTS,
    "features": TEXTS, "description": TEXTS, "genres": TEXTS, "1": TEXTS, "2": TIMES,
}  # fmt: skip
GOOD: dict[str, list[Any]] = {
    "user": ["u1", "u2", "é"], "item": ["7", "007", "12"], "time": [1600000000, 1600000001],
    "title": ["T", None], "price": [5, "12,99"],
}  # fmt: skip
ENCODINGS = ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "cp932"]
ENDS = ["\n", "\r\n", "\r", "\n\n"]
SEPARATORS = [",", ";", "\t", "|", "::", " ", "\x01", "||", "é"]
SUFFIXES = [
    ".csv", ".tsv", ".csv.gz", ".jsonl.gz", ".txt", ".dat", ".json", ".jsonl", ".parquet", ".inter",
    ".item", "", ".gz",
    ".csv.zip", ".jsonl.bz2", ".csv.zst", ".xlsx",
]  # fmt: skip
ARROW = [
    pa.string(), pa.large_string(), pa.string_view(), pa.int8(), pa.int64(), pa.uint64(),
    pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.binary(), pa.binary(16), pa.null(),
    pa.timestamp("s"), pa.timestamp("ms", "+05:30"), pa.timestamp("us", "Asia/Kolkata"),
    pa.timestamp("ns", "UTC"), pa.date32(), pa.date64(), pa.time64("us"), pa.duration("s"),
    pa.decimal128(18, 0), pa.decimal128(20, 4), pa.decimal256(50, 2), pa.list_(pa.string()),
    pa.struct([("a", pa.int64())]), pa.dictionary(pa.int32(), pa.string()),
    pa.map_(pa.string(), pa.int64()), pa.uuid(),
]  # fmt: skip


def make(folder: Path, rng: random.Random) -> tuple[Path, dict[str, Any]]:
    """Write one log, and sometimes a catalogue; returns the path and arguments of `prepare`."""
    for name in ("log", "items")[: rng.choice([1, 1, 2])]:
        data = make_file(rng, catalogue=name == "items")
        (
            folder / (name + rng.choice(SUFFIXES[: rng.choice([1, 4, 8, len(SUFFIXES)])]))
        ).write_bytes(data)
    given: dict[str, Any] = {}
    if rng.random() < 0.3:
        with contextlib.suppress(InputError):
            given["options"] = ReadOptions(**make_options(rng))
    if rng.random() < 0.1:
        names = [name for name in COLUMNS if COLUMNS[name] is TIMES]
        parts = rng.sample(names, rng.choice([1, 2, 2, 3]))
        given["mapping"] = ColumnMapping(time=("time", *(part for part in parts if part != "time")))
    elif rng.random() < 0.15:
        with contextlib.suppress(InputError):
            given["mapping"] = ColumnMapping(
                **{rng.choice(["user", "item", "time", "title"]): rng.choice(list(COLUMNS))}
            )
    log = next(path for path in folder.iterdir() if path.name.startswith("log"))
    return rng.choice([folder, log]), given


def make_options(rng: random.Random) -> dict[str, Any]:
    """One or two things that can be message about a file."""
    everything: dict[str, list[Any]] = {
        "format": ["csv", "json", "parquet"], "encoding": ENCODINGS, "separator": SEPARATORS,
        "compression": ["gzip", "zip", "zstd", "none"], "header": [True, False],
        "names": [("user", "item", "time"), ("user", "item", "rating", "time"), ("a",)],
        "quote": ["none", "'", '"'], "escape": ["\\", "none"], "decimal_comma": [True, False],
        "time_format": ["excel", "%d.%m.%Y", "%Q", "%Y", "", "%s", "%H", "%Y-%m-%d %H:%M:%S.%f %Z"],
        "time_unit": ["d", "s", "ms", "us", "ns"], "time_zone": ["Europe/Berlin", "+05:30"],
        "rating_scale": [(1, 10), (0, 5)], "min_rating": [3.0], "events": [("T",)],
        "ignore": [("rating",), ("user",)], "missing": [(), ("7",)],
    }  # fmt: skip
    chosen = rng.sample(list(everything), rng.choice([1, 2]))
    return {name: rng.choice(everything[name]) for name in chosen}


def make_file(rng: random.Random, *, catalogue: bool) -> bytes:
    """The bytes of one file, sometimes damaged."""
    usual = ["item", "title", "price"] if catalogue else ["user", "item", "time"]
    names = usual if rng.random() < 0.85 else rng.sample(list(COLUMNS), rng.randint(1, 6))
    names = names + rng.sample(list(COLUMNS), rng.choice([0, 0, 1, 3]))
    height = rng.choice([0, 1, 3, 8, 8, 8, 30, 30, 30])
    tame = rng.random() < 0.8  # most of a file is as it should be, so that the rest is reached
    pools = []
    for name in names:
        pool = COLUMNS[name]
        if tame and name in usual:
            pools.append(GOOD[name])
        else:
            pools.append(rng.sample(pool, rng.choice([1, 2, 3, len(pool)])))
    rows = [[rng.choice(pool) for pool in pools] for _ in range(height)]
    kind = rng.choice(["csv", "json"] * 5 + ["parquet"] * 4 + ["bytes"])
    if kind == "csv":
        data = as_csv(names, rows, rng)
    elif kind == "json":
        data = as_json(names, rows, rng)
    elif kind == "parquet":
        data = as_parquet(names, rows, rng)
    else:
        data = rng.randbytes(rng.choice([0, 1, 10, 300]))
    if rng.random() < 0.2:
        data = compressed(data, rng)
    if rng.random() < 0.12:
        data = damaged(data, rng)
    return data


def as_csv(names: list[str], rows: list[list[Any]], rng: random.Random) -> bytes:
    separator = rng.choice(SEPARATORS[: rng.choice([1, 3, len(SEPARATORS)])])
    end = rng.choice(ENDS[: rng.choice([1, len(ENDS)])])
    quote = rng.choice(["minimal", "always", "never", "backslash"])

    def field(value: Any) -> str:
        text = "" if value is None else str(value)
        if quote == "never":
            return text
        if quote == "backslash":
            return '"' + text.replace('"', '\\"') + '"'
        if quote == "always" or separator in text or '"' in text or "\n" in text:
            return '"' + text.replace('"', '""') + '"'
        return text

    lines = [separator.join(names)] if rng.random() < 0.9 else []
    lines += [separator.join(map(field, row)) for row in rows]
    if rng.random() < 0.1:
        lines = [line + separator for line in lines]
    if rng.random() < 0.05:
        lines.insert(0, f"sep={separator}")
    text = end.join(lines) + rng.choice(["", end])
    return text.encode(rng.choice(["utf-8"] * 8 + ENCODINGS), errors="replace")


def as_json(names: list[str], rows: list[list[Any]], rng: random.Random) -> bytes:
    objects = [
        {name: value for name, value in zip(names, row, strict=True) if rng.random() < 0.95}
        for row in rows
    ]
    style = rng.choice(["lines", "lines", "array", "pretty", "python", "pretty lines", "columns"])
    if style == "python":
        text = "\n".join(map(repr, objects))
    elif style == "array":
        text = json.dumps(objects)
    elif style == "pretty":
        text = json.dumps(objects, indent=1)
    elif style == "columns":
        text = json.dumps({name: [row.get(name) for row in objects] for name in names})
    else:
        indent = 2 if style == "pretty lines" else None
        text = "\n".join(json.dumps(row, indent=indent) for row in objects)
    return text.encode(rng.choice(["utf-8"] * 8 + ENCODINGS), errors="replace")


def as_parquet(names: list[str], rows: list[list[Any]], rng: random.Random) -> bytes:
    arrays = []
    for place in range(len(names)):
        kind = rng.choice(ARROW)
        values = [arrow_value(row[place], kind) for row in rows]
        try:
            arrays.append(pa.array(values, kind))
        except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
            arrays.append(
                pa.array(
                    [
                        None if value is None else str(value).replace("\ud800", "")[:9]
                        for value in values
                    ]
                )
            )
    sink = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_arrays(arrays, names), sink)
    except (pa.ArrowException, TypeError):
        arrays = [pa.array([str(value) for value in array.to_pylist()]) for array in arrays]
        pq.write_table(pa.Table.from_arrays(arrays, names), sink)
    return sink.getvalue()


def arrow_value(value: Any, kind: pa.DataType) -> Any:
    if isinstance(value, str):
        value = value.replace("\ud800", "")
    if value is None or isinstance(value, list | dict):
        return None
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return dt.datetime(2020, 1, 1) + dt.timedelta(days=zlib.crc32(str(value).encode()) % 900)
    if pa.types.is_integer(kind):
        return zlib.crc32(str(value).encode()) % 100
    if pa.types.is_floating(kind):
        return float(len(str(value)))
    if pa.types.is_decimal(kind):
        return decimal.Decimal(len(str(value)))
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or kind == pa.uuid():
        return uuid.UUID(int=len(str(value))).bytes
    if pa.types.is_boolean(kind):
        return bool(value)
    return str(value)


def compressed(data: bytes, rng: random.Random) -> bytes:
    kind = rng.choice(["gzip", "bz2", "xz", "zstd", "zip", "zip", "gzip", "two"])
    if kind == "gzip":
        return gzip.compress(data)
    if kind == "bz2":
        return bz2.compress(data)
    if kind == "xz":
        return lzma.compress(data)
    if kind == "zstd":
        return bytes(pa.compress(data, "zstd", asbytes=True)) if data else b""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name in ["a.csv", "b.csv"][: 2 if kind == "two" else 1]:
            archive.writestr(name, data)
    return sink.getvalue()


def damaged(data: bytes, rng: random.Random) -> bytes:
    kind = rng.choice(["cut", "flip", "insert", "twice"])
    if not data:
        return data
    if kind == "cut":
        return data[: rng.randrange(len(data))]
    if kind == "twice":
        return data + data
    changed = bytearray(data)
    for _ in range(rng.choice([1, 3, 20])):
        place = rng.randrange(len(changed))
        if kind == "flip":
            changed[place] = rng.randrange(256)
        else:
            changed[place:place] = rng.choice([b'"', b"\x00", b"\r", b"\xff", b"\n", b","])
    return bytes(changed)


def outcome(rng: random.Random) -> str:
    """How one input ends: ``data set``, or the first words of the error."""
    with tempfile.TemporaryDirectory(prefix="twotower-fuzz-") as name:
        path, given = make(Path(name), rng)
        settings = PrepareSettings(
            k_core=0, strict=rng.random() < 0.1, keep_unknown_items=rng.random() < 0.3
        )
        try:
            dataset = prepare(path, settings=settings, **given)
        except TwoTowerError as error:
            if "\n" in str(error):
                raise AssertionError(f"more than a line: {error}") from error
            return "error"
        json.dumps(dict(dataset.summary))
        assert all("\n" not in line for line in summary_lines(dataset.summary, cli=True))
        return "data set"


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--inputs", type=int, default=10_000)
    options.add_argument("--first", type=int, default=0)
    chosen = options.parse_args()
    warnings.simplefilter("error")
    counts: Counter[str] = Counter()
    for number in range(chosen.first, chosen.first + chosen.inputs):
        try:
            counts[outcome(random.Random(number))] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            counts["fault"] += 1
            place = f"{last.filename}:{last.lineno}"
            print(f"{number}: {type(error).__name__}: {str(error)[:200]!r} at {place}")
    print(dict(counts))
    sys.exit(1 if counts["fault"] else 0)


if __name__ == "__main__":
    main()
