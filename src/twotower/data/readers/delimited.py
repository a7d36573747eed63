"""Text tables: CSV, TSV and RecBole's atomic files (``.inter``, ``.item``)."""

import csv
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from twotower.data import columns
from twotower.data.readers.chunk import CHUNK_ROWS, EXCERPT, Chunk, Reject
from twotower.data.readers.text import LineFile
from twotower.errors import InputError

_ATOMIC = (".inter", ".item")


def delimited_columns(path: Path) -> list[str]:
    """Column names of the header; of ``user_id:token`` it is ``user_id``."""
    with LineFile(path) as lines:
        return _Table(path, lines).header


def read_delimited(path: Path, wanted: Mapping[str, str]) -> Iterator[Chunk]:
    """Yield chunks of text columns, renamed from the file's names to canonical ones.

    Parameters
    ----------
    path
        The file; it has a header.
    wanted
        The file's column for each canonical name.

    Notes
    -----
    Read with the standard library's ``csv``: unlike faster parsers it says on which line a
    row begins and how many fields it has, so that a bad row can be set aside and named.
    """
    with LineFile(path) as lines:
        table = _Table(path, lines)
        places = {name: table.header.index(source) for name, source in wanted.items()}
        rows = iter(table)
        while block := list(islice(rows, CHUNK_ROWS)):
            yield _chunk(block, table, places)


class _Table:
    """Rows of an open table with the line that each begins on."""

    def __init__(self, path: Path, lines: LineFile) -> None:
        self.path = path
        self.lines = lines
        self.bad_lines: set[int] = set()
        text = self._decoded()
        first = next(text, "")
        atomic = path.name.removesuffix(".gz").endswith(_ATOMIC)
        self.delimiter = "\t" if atomic else _delimiter(first)
        quoting = csv.QUOTE_NONE if atomic else csv.QUOTE_MINIMAL
        options: dict[str, Any] = {"delimiter": self.delimiter, "quoting": quoting}
        names = next(csv.reader([first], **options), [])
        self.header = [name.split(":")[0] if atomic else name.strip() for name in names]
        self._rows = csv.reader(text, **options)

    def _decoded(self) -> Iterator[str]:
        for number, line in enumerate(self.lines, 1):
            try:
                yield line.decode()
            except UnicodeDecodeError:
                self.bad_lines.add(number)
                yield line.decode(errors="replace")

    def __iter__(self) -> Iterator[tuple[int, int, list[str]]]:
        begin = 2
        try:
            for row in self._rows:
                end = self._rows.line_num + 1  # the header was read apart
                if row:
                    yield begin, end, row
                begin = end + 1
        except csv.Error as error:
            raise InputError(
                f"{self.path}:{begin}: cannot be read as a table ({error})",
                "look for a quote that is never closed, or for line ends other than \\n",
            ) from error


def _chunk(
    block: list[tuple[int, int, list[str]]], table: _Table, places: Mapping[str, int]
) -> Chunk:
    begins = [begin for begin, _, _ in block]

    def row_text(line: int) -> str:
        return table.delimiter.join(block[bisect_left(begins, line)][2])

    good: list[list[str]] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    for begin, end, row in block:
        if table.bad_lines and not table.bad_lines.isdisjoint(range(begin, end + 1)):
            reason = "bad UTF-8"
        elif len(row) != len(table.header):
            reason = "wrong number of fields"
        else:
            good.append(row)
            numbers.append(begin)
            continue
        text = row_text(begin)[:EXCERPT]
        rejects.append(Reject(begin, reason, text, text))
    by_column = list(zip(*good, strict=True)) if good else [()] * len(table.header)
    data: dict[str, Any] = {name: by_column[place] for name, place in places.items()}
    schema: dict[str, Any] = dict.fromkeys(places, pl.String)
    rows = pl.DataFrame(data, schema).with_columns(pl.Series(columns.LINE, numbers, dtype=pl.Int64))
    return Chunk(rows, rejects, row_text, table.lines.fraction)


def _delimiter(header: str) -> str:
    return max(",\t;|", key=header.count)
