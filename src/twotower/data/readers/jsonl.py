"""JSON reader: JSON lines, arrays, objects over several lines, Python dicts.

Blocks of ``review/userId: A1`` lines, as in SNAP's review data, are read as objects too.
"""

import ast
import json
import re
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import polars as pl

from twotower.data import columns
from twotower.data.columns import folded
from twotower.data.readers.chunk import CHUNK_ROWS, EXCERPT, Check, Chunk, Reject, set_aside
from twotower.data.readers.mapping import LOG_NAMES, Columns
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.text import LineFile
from twotower.data.readers.values import IDS, NUMBERS
from twotower.errors import InputError

Extract = Callable[[dict[str, Any]], Sequence[Any]]
"""Extracts the values of the columns from an object."""

BLOCK_LINE: Final = re.compile(rb"\s*[a-z]+/\w+: ")
"""A line of an object written with one key per line."""
_BLOCK_KEY: Final = re.compile(r"^\s*([a-z]+/\w+): ?", re.MULTILINE)
KEYS_FROM: Final = 1000
"""Number of leading objects whose keys are collected before reading; later keys are added on the
way."""

MOST_NESTED: Final = 30
"""Maximum distinct keys of a nested object for them to be columns."""

_EXTENDED: Final = frozenset(
    ("$oid", "$date", "$numberLong", "$numberInt", "$numberDouble", "$numberDecimal", "$uuid")
)
"""Keys of MongoDB's extended JSON."""
_BEYOND: Final = 2.0**63
"""Floats from here on may be whole numbers that lost digits."""

LONGEST_OBJECT: Final = 1 << 27
"""Maximum characters of an object over several lines; above it, the file is taken as broken."""


def jsonl_keys(path: Path, options: ReadOptions, most: int | None = KEYS_FROM) -> list[str]:
    """Keys of the first ``most`` objects of a file (None: all), in order of appearance.

    Keys of a nested object are included as ``user.id``, unless it has more than `MOST_NESTED`.
    """
    with LineFile(path, options) as lines:
        rows = 0
        keys: dict[str, None] = {}
        nested: dict[str, dict[str, None]] = {}
        for _, line in islice(_records(path, lines), most):
            for row in exploded(_parse(line), options.explode):
                keys.update(dict.fromkeys(row))
                for key, value in row.items():
                    if isinstance(value, dict):
                        nested.setdefault(key, {}).update(dict.fromkeys(value))
                rows += 1
                only = row
        if rows == 1:
            _refuse_wrapped(path, only)
        few = {key: inner for key, inner in nested.items() if len(inner) <= MOST_NESTED}
        return [*keys, *(f"{key}.{name}" for key, inner in few.items() for name in inner)]


def lists_of_objects(path: Path, options: ReadOptions) -> list[str]:
    """Keys that hold lists of objects with an item id, written as for `ReadOptions.explode`.

    Only the first `KEYS_FROM` objects are examined.
    """
    usual = {folded(name) for name in LOG_NAMES[columns.ITEM_ID]}
    found: dict[str, None] = {}
    with LineFile(path, options) as lines:
        for _, line in islice(_records(path, lines), KEYS_FROM):
            for row in exploded(_parse(line), options.explode):
                outer = {f"{key}.": value for key, value in row.items() if isinstance(value, dict)}
                for prefix, within in {"": row, **outer}.items():
                    for key, value in within.items():
                        first = value[0] if isinstance(value, list) and value else None
                        if isinstance(first, dict) and usual & {*map(folded, first)}:
                            found[prefix + key] = None
    return list(found)


def exploded(row: Any, keys: Sequence[str] | None) -> list[dict[str, Any]]:
    """The rows of an object whose given keys hold lists; see `ReadOptions.explode`.

    An object whose list is missing or empty stays one row; anything but an object gives no row.

    >>> exploded({"id": 1, "items": [{"sku": "a"}, {"sku": "b"}]}, ["items"])
    [{'id': 1, 'sku': 'a'}, {'id': 1, 'sku': 'b'}]
    """
    rows = [row] if isinstance(row, dict) else []
    for key in keys or ():
        rows = [part for whole in rows for part in _elements(whole, key)]
    return rows


def _elements(row: dict[str, Any], key: str) -> list[dict[str, Any]]:
    outer, _, inner = key.rpartition(".")
    within = row.get(outer) if outer else row
    values = within.get(inner) if isinstance(within, dict) else None
    if not isinstance(within, dict) or not isinstance(values, list) or not values:
        return [row]
    others = {name: value for name, value in within.items() if name != inner}
    found = [{**others, **(part if isinstance(part, dict) else {inner: part})} for part in values]
    return [{**row, outer: part} for part in found] if outer else found


def values_of(keys: Sequence[str]) -> Extract:
    """Return a function that extracts the values of keys, which may be nested (``outer.inner``)."""
    dotted = {key: key.partition(".")[::2] for key in keys if "." in key}
    if not dotted:
        return lambda row: tuple(map(row.get, keys))

    def value(row: dict[str, Any], key: str) -> Any:
        if key in row or key not in dotted:
            return row.get(key)
        outer, inner = dotted[key]
        within = row.get(outer)
        return within.get(inner) if isinstance(within, dict) else None

    return lambda row: tuple(value(row, key) for key in keys)


def _refuse_wrapped(path: Path, row: dict[str, Any]) -> None:
    """Refuse a file that is a single object holding all rows, or all columns."""
    values = list(row.values())
    tables = [key for key, value in row.items() if value and _is_table(value)]
    by_column = len(values) > 1 and all(
        isinstance(value, dict | list) and value for value in values
    )
    if by_column and not tables:
        lists = [key for key, value in row.items() if _is_of_objects(value)]
        tables = lists if len(lists) == 1 else []
    if tables or (len(values) == 1 and isinstance(values[0], list) and values[0]):
        raise InputError(
            f"{path} is one object with a list at {(key := next(iter(tables or row)))!r}",
            f"pass ReadOptions(explode=({key!r},)), or write the list itself",
            cli_fix=f"pass --explode {key}, or write the list itself",
        )
    if by_column:
        raise InputError(
            f"{path} is one object with a table by columns ({', '.join(list(row)[:5])})",
            "write one object a line: pandas does with to_json(orient='records', lines=True)",
        )


def _is_of_objects(value: Any) -> bool:
    """Whether a value is a list of several objects."""
    return (
        isinstance(value, list) and len(value) > 1 and all(isinstance(row, dict) for row in value)
    )


def _is_table(value: Any) -> bool:
    """Whether a value is a list of objects with a user and an item each.

    The events of a session, an object of one line, are not: they have no user of their own.
    """
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        return False
    names = {folded(name) for row in value[:1] for name in row}
    return all(
        any(folded(usual) in names for usual in LOG_NAMES[column])
        for column in (columns.USER_ID, columns.ITEM_ID)
    )


def read_jsonl(
    path: Path, options: ReadOptions, found: Columns, extract: Callable[[], Extract]
) -> Iterator[Chunk]:
    """Yield chunks with the canonical columns of ``found``, which grows as new keys appear.

    Blank lines are skipped. Values that do not fit a column's type are left as text. ``extract``
    returns the function that extracts the values of the columns known so far.
    """
    with LineFile(path, options) as lines:
        records = _records(path, lines)
        while block := list(islice(records, CHUNK_ROWS)):
            yield _chunk(block, found, extract, lines.fraction, options.explode)


def _records(path: Path, lines: LineFile) -> Iterator[tuple[int, bytes]]:
    """The text of each object with its line, or its number if objects are not one per line."""
    numbered = enumerate(lines, 1)
    head: list[tuple[int, bytes]] = []
    for number, line in numbered:
        head.append((number, line))
        if line.strip():
            break
    if head and BLOCK_LINE.match(head[-1][1]):
        return _blocks(chain(head, numbered))
    if head and _spans_lines(head[-1][1]):
        return _joined(path, head, numbered)
    return chain(head, numbered)


def _blocks(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Objects written with one key per line, separated by blank lines."""
    for filled, group in groupby(lines, lambda line: bool(line[1].strip())):
        if not filled:
            continue
        block = list(group)
        number, text = block[0][0], b"".join(line for _, line in block)
        try:
            _, *parts = _BLOCK_KEY.split(text.decode())
        except UnicodeDecodeError:
            yield number, text  # rejected later, with its reason
            continue
        yield number, orjson.dumps(dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True)))


def _spans_lines(line: bytes) -> bool:
    """Whether the first line begins an array, or an object that continues on the next lines."""
    line = line.strip()
    if line.startswith(b"["):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            return True
        return bool(row) and all(isinstance(element, dict) for element in row)
    if not line.startswith(b"{"):
        return False
    if line == b"{":
        return True
    return isinstance(_parse(line), str) and (line.endswith((b",", b"{", b"[")) or _is_run(line))


def _is_run(line: bytes) -> bool:
    """Whether a line begins with an object directly followed by another, as in JSON streams."""
    text = line.decode(errors="replace")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return text[end:].lstrip().startswith("{")


def _joined(
    path: Path, head: list[tuple[int, bytes]], more: Iterator[tuple[int, bytes]]
) -> Iterator[tuple[int, bytes]]:
    """Objects of an array or a sequence that span any number of lines, numbered from 1."""
    decoder = json.JSONDecoder()
    lines = (line.decode(errors="replace") for _, line in chain(head, more))
    text, at, number, line_number = "", 0, 0, 1
    while True:
        while at < len(text) and (text[at].isspace() or text[at] in ",[]"):
            line_number += text[at] == "\n"
            at += 1
        if at == len(text):
            line = next(lines, None)
            if line is None:
                return
            text, at = line, 0
            continue
        try:
            _, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            # Lines are added in growing batches, since the object is parsed anew after each.
            more_lines = list(islice(lines, 1 + (len(text) - at) // 200))
            if not more_lines or len(text) - at > LONGEST_OBJECT:
                raise InputError(
                    f"{path}:{line_number}: broken JSON in what begins here ({error})",
                    "give JSON lines (one object a line) or an array of objects",
                ) from error
            text, at = text[at:] + "".join(more_lines), 0
            continue
        number += 1
        yield number, text[at:end].encode(errors="surrogatepass")
        line_number += text.count("\n", at, end)
        at = end


def _chunk(
    block: list[tuple[int, bytes]],
    found: Columns,
    extract: Callable[[], Extract],
    fraction: float,
    explode: Sequence[str] | None,
) -> Chunk:
    values: list[Sequence[Any]] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    texts: dict[int, bytes] | None = None

    def row_text(line: int) -> str:
        nonlocal texts
        if texts is None:
            texts = dict(block)
        return _text(texts[line])

    # Values are extracted at once: keeping the objects until the block ends doubles the time.
    take, may_grow, known = extract(), found.may_grow, found.keys
    for number, line in block:
        row = _parse(line)
        if isinstance(row, dict):
            for part in exploded(row, explode) if explode else (row,):
                if may_grow and not part.keys() <= known and found.add(part, number):
                    return _chunk(block, found, extract, fraction, explode)
                values.append(take(part))
                numbers.append(number)
        elif row is not None:
            text = _text(line)
            rejects.append(Reject(number, row, text[:EXCERPT], text[:EXCERPT]))

    def restored() -> list[Sequence[Any]]:
        ids = [place for place, name in enumerate(found.canonical) if name in IDS]
        _restore_ids(values, numbers, ids, dict(block), take, explode)
        return values

    return _rows(values, numbers, tuple(found.canonical), rejects, row_text, fraction, restored)


def _restore_ids(
    values: list[Sequence[Any]],
    numbers: Sequence[int],
    ids: Sequence[int],
    texts: Mapping[int, bytes],
    take: Extract,
    explode: Sequence[str] | None,
) -> None:
    """Reread rows whose ids are integers of more than 64 bits, which were parsed as floats."""
    for place, number in enumerate(numbers):
        found = [values[place][id_] for id_ in ids]
        if any(type(value) is float and abs(value) >= _BEYOND for value in found):
            rows = exploded(_parse_leniently(texts[number]), explode)
            if rows:
                values[place] = take(rows[place - bisect_left(numbers, number)])  # ascending


def rows_of_objects(
    objects: Sequence[dict[str, Any]],
    first: int,
    names: Sequence[str],
    take: Extract,
    fraction: float,
) -> Chunk:
    """A chunk of parsed objects, numbered from ``first``.

    ``names`` are the canonical columns, in the order of the values that ``take`` returns for an
    object.
    """

    def row_text(line: int) -> str:
        return json.dumps(objects[line - first], default=str)

    numbers = range(first, first + len(objects))
    return _rows([take(row) for row in objects], numbers, names, [], row_text, fraction)


def _rows(
    values: Sequence[Sequence[Any]],
    numbers: Sequence[int],
    names: Sequence[str],
    rejects: Sequence[Reject],
    row_text: Callable[[int], str],
    fraction: float,
    restored: Callable[[], list[Sequence[Any]]] | None = None,
) -> Chunk:
    by_column, types = _by_column(values, len(names))
    if restored is not None and any(
        float in kinds and name in IDS for name, kinds in zip(names, types, strict=True)
    ):
        by_column, types = _by_column(restored(), len(names))
    for place, kinds in enumerate(types):
        if dict in kinds:
            by_column[place] = [_unwrapped(value) for value in by_column[place]]
            types[place] = set(map(type, by_column[place]))
    columned = list(zip(names, by_column, types, strict=True))
    rows = pl.DataFrame([_series(*column) for column in columned])
    rows = rows.with_columns(pl.Series(columns.LINE, numbers, dtype=pl.Int64))
    checks = [
        Check(name, "wrong type", pl.lit(pl.Series(_unfit_ids(column))))
        for name, column, kinds in columned
        if name in IDS and not kinds <= {str, type(None)}
    ]
    return set_aside(Chunk(rows, rejects, row_text, fraction), checks)


def _parse(line: bytes) -> dict[str, Any] | str | None:
    """The object on a line; the reason (str) if it cannot be read; None if the line is blank."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        if not line.strip():
            return None
        return _parse_leniently(line)
    return row if isinstance(row, dict) else "not a JSON object"


def _parse_leniently(line: bytes) -> dict[str, Any] | str:
    try:
        text = line.decode().strip().removesuffix(",")
    except UnicodeDecodeError:
        return "bad UTF-8"
    try:
        # NaN, which Python writes but JSON lacks, is accepted here so that checks can report it.
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = python_literal(text) if text.startswith("{") else None
    try:
        json.dumps(row, ensure_ascii=False).encode()  # a lone surrogate is not valid text
    except (ValueError, TypeError, RecursionError):
        return "broken JSON"
    if row is None:
        return "broken JSON"
    return row if isinstance(row, dict) else "not a JSON object"


def python_literal(text: str) -> Any:
    """The value of a Python literal (``{'user': u'A', 'early': False}``); None for other text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _by_column(
    values: Sequence[Sequence[Any]], width: int
) -> tuple[list[Sequence[Any]], list[set[type]]]:
    """The values of each column, and their types."""
    found: list[Sequence[Any]] = [*zip(*values, strict=True)] if values else [()] * width
    return found, [set(map(type, column)) for column in found]


def _series(name: str, values: Sequence[Any], types: set[type]) -> pl.Series:
    dtype = pl.Float64 if name in NUMBERS else pl.String
    if bool not in types:
        try:
            return pl.Series(name, values, dtype=dtype)
        except (TypeError, OverflowError, pl.exceptions.PolarsError):
            pass
    return pl.Series(name, [_as_text(value) for value in values], dtype=pl.String)


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)


def _unwrapped(value: Any) -> Any:
    """The value in a MongoDB extended JSON wrapper: ``{"$oid": "5f"}`` → ``5f``."""
    while isinstance(value, dict) and len(value) == 1 and value.keys() <= _EXTENDED:
        (value,) = value.values()
    return value


def _unfit_ids(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Mask of values that cannot be ids: lists, booleans, fractions (NaN is a missing id)."""
    return np.asarray(
        [
            type(value) not in (str, int, type(None))
            and not (type(value) is float and (value != value or value.is_integer()))
            for value in values
        ],
        dtype=bool,
    )


def _text(line: bytes) -> str:
    return line.decode(errors="replace").strip()
