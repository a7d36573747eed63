"""JSON lines: one object a line."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from twotower.data import columns
from twotower.data.readers.chunk import CHUNK_ROWS, EXCERPT, Check, Chunk, Reject, set_aside
from twotower.data.readers.text import LineFile
from twotower.data.readers.values import IDS, NUMBERS

Extract = Callable[[dict[str, Any]], Sequence[Any]]
"""Takes the wanted values from one object."""

_KEYS_FROM = 100


def jsonl_keys(path: Path) -> list[str]:
    """Keys of the first objects of a file, in order of appearance."""
    with LineFile(path) as lines:
        found = (_parse(line) for line in islice(lines, _KEYS_FROM))
        return list(dict.fromkeys(key for row in found if isinstance(row, dict) for key in row))


def read_jsonl(path: Path, names: Sequence[str], extract: Extract) -> Iterator[Chunk]:
    """Yield chunks with the canonical columns ``names``, as ``extract`` gives them.

    Blank lines are skipped. Values that do not fit a column's type are left as text.
    """
    with LineFile(path) as lines:
        numbered = enumerate(lines, 1)
        while block := list(islice(numbered, CHUNK_ROWS)):
            yield _chunk(block, names, extract, lines.fraction)


def _chunk(
    block: list[tuple[int, bytes]], names: Sequence[str], extract: Extract, fraction: float
) -> Chunk:
    first = block[0][0]
    values: list[Sequence[Any]] = []
    numbers: list[int] = []
    rejects: list[Reject] = []

    def row_text(line: int) -> str:
        return _text(block[line - first][1])

    for number, line in block:
        row = _parse(line)
        if isinstance(row, dict):
            values.append(extract(row))
            numbers.append(number)
        elif row is not None:
            text = _text(line)
            rejects.append(Reject(number, row, text[:EXCERPT], text[:EXCERPT]))
    by_column = list(zip(*values, strict=True)) if values else [()] * len(names)
    rows = pl.DataFrame([_series(*column) for column in zip(names, by_column, strict=True)])
    rows = rows.with_columns(pl.Series(columns.LINE, numbers, dtype=pl.Int64))
    checks = [
        Check(name, "wrong type", pl.lit(pl.Series(_unfit_ids(column))))
        for name, column in zip(names, by_column, strict=True)
        if name in IDS and not _is_text(column)
    ]
    return set_aside(Chunk(rows, rejects, row_text, fraction), checks)


def _parse(line: bytes) -> dict[str, Any] | str | None:
    """One object, or what is wrong with the line, or None where it is blank."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        if not line.strip():
            return None
        return _parse_leniently(line)
    return row if isinstance(row, dict) else "not a JSON object"


def _parse_leniently(line: bytes) -> dict[str, Any] | str:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return "bad UTF-8"
    try:
        # Python writes NaN, which is not JSON: read it, so that the value is what is reported.
        row = json.loads(text)
        json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError):
        return "broken JSON"
    return row if isinstance(row, dict) else "not a JSON object"


def _series(name: str, values: Sequence[Any]) -> pl.Series:
    dtype = pl.Float64 if name in NUMBERS else pl.String
    if bool not in set(map(type, values)):
        try:
            return pl.Series(name, values, dtype=dtype)
        except TypeError:
            pass
    return pl.Series(name, [_as_text(value) for value in values], dtype=pl.String)


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _is_text(values: Sequence[Any]) -> bool:
    return set(map(type, values)) <= {str, type(None)}


def _unfit_ids(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    return np.asarray([type(value) not in (str, int, type(None)) for value in values], dtype=bool)


def _text(line: bytes) -> str:
    return line.decode(errors="replace").strip()
