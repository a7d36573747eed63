"""Lists in table cells (JSON or delimited text), exploded to one row per element."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from twotower.data.readers.chunk import Check, Chunk, set_aside

MARKS: Final = ("|", ";", ",")
"""Element separators; the first one that occurs in a column is used."""
_SHARE: Final = 0.25
"""Minimum share of cells with a separator for a column to look like lists."""
_DECIMAL: Final = re.compile(r"[+-]?\d+(,\d+)?")
"""A number with a decimal comma, or an integer."""


def mark_of(texts: pl.Series, marks: Sequence[str] = MARKS) -> str | None:
    """The element separator of a text column; cells that look like JSON are ignored."""
    plain = texts.filter(~texts.str.starts_with("[").fill_null(True))
    return next((mark for mark in marks if plain.str.contains(mark, literal=True).any()), None)


def elements(text: str, mark: str | None) -> Iterator[str]:
    """Elements of a list written as text, stripped of blanks.

    >>> list(elements("a; b", ";")), list(elements('["a", 1]', None)), list(elements("['a']", None))
    (['a', 'b'], ['a', '1'], ['a'])
    """
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except ValueError:
            listed = [part.strip().strip("'\"") for part in text.strip("[]").split(",")]
        yield from (str(part) for part in listed if part not in (None, ""))
        return
    yield from (part.strip() for part in (text.split(mark) if mark else [text]) if part.strip())


def looks_like_lists(texts: Sequence[str]) -> bool:
    """Whether cells hold lists of ids rather than single ids.

    In lists, some element is last in one cell and earlier in another; in an id of several parts,
    such as ``2020,7``, that does not happen. Elements contain no blanks. Numbers with a decimal
    comma, such as prices, are not lists.

    >>> looks_like_lists(["A1;B2", "B2;C3", "D4"]), looks_like_lists(["a,1", "a,2", "b,3"])
    (True, False)
    """
    if texts and all(text.startswith("[") and text.endswith("]") for text in texts):
        return True
    mark = mark_of(pl.Series(texts, dtype=pl.String))
    if mark is None or sum(mark in text for text in texts) < _SHARE * len(texts):
        return False
    if mark == "," and all(map(_DECIMAL.fullmatch, texts)):
        return False
    cells = [list(elements(text, mark)) for text in texts if mark in text]
    last = {cell[-1] for cell in cells if cell}
    others = {element for cell in cells for element in cell[:-1]}
    return not last.isdisjoint(others) and not any(" " in element for element in last | others)


def exploded(chunks: Iterable[Chunk], names: Sequence[str]) -> Iterator[Chunk]:
    """Yield chunks with one row per list element; several list columns are exploded in parallel.

    Rows from one line keep its number. A row whose lists differ in length is rejected.
    """
    marks: dict[str, str | None] = dict.fromkeys(names)
    first, *others = names
    for chunk in chunks:
        listed = chunk.rows.with_columns(_lists(chunk.rows[name], marks) for name in names)
        checks = [
            Check(name, f"not as many as of {first}", _rows_of(name) != _rows_of(first))
            for name in others
        ]
        checked = set_aside(replace(chunk, rows=listed), checks)
        yield replace(checked, rows=checked.rows.explode(names))


def _rows_of(name: str) -> pl.Expr:
    """Rows a list becomes. A missing list becomes one row, so that it is rejected and not lost."""
    return pl.col(name).list.len().fill_null(1)


def _lists(values: pl.Series, marks: dict[str, str | None]) -> pl.Series:
    """A column as lists, null where empty; the first separator found is kept for the file."""
    if values.dtype == pl.List or values.dtype == pl.Array:
        lists = values.cast(pl.List(values.dtype.inner))  # type: ignore[attr-defined]
        return pl.select(pl.when(lists.list.len() > 0).then(lists).alias(values.name)).to_series()
    texts = values.cast(pl.String)
    mark = marks[values.name] = marks[values.name] or mark_of(texts, (*MARKS, " "))
    cells = [None if text is None else list(elements(text.strip(), mark)) or None for text in texts]
    return pl.Series(values.name, cells, dtype=pl.List(pl.String))
