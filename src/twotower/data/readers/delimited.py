"""Delimited text reader: CSV, TSV, other separators, RecBole atomic files."""

import csv
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from twotower.data import columns
from twotower.data.readers.chunk import CHUNK_ROWS, EXCERPT, Chunk, Reject
from twotower.data.readers.dialect import SAMPLE_LINES, Dialect, find_dialect
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.text import LineFile, head_lines
from twotower.errors import InputError

LONGEST_RECORD: Final = 2000
"""Maximum lines per row; a quote still open after that was never closed."""

ABOVE: Final = "above the header"
"""Reject reason of the title lines of a report."""

LONGEST_FIELD: Final = 1 << 24
"""Maximum characters per field."""


def delimited_columns(path: Path, options: ReadOptions) -> list[str]:
    """Column names from the options or the header; ``user_id:token`` becomes ``user_id``."""
    return _dialect(path, options).header


def read_delimited(path: Path, wanted: Mapping[str, str], options: ReadOptions) -> Iterator[Chunk]:
    """Yield chunks of text columns; ``wanted`` maps canonical names to the file's columns.

    Blocks without quotes, in which every line has as many fields as the header, are split by
    Arrow. Others are read with the standard library's ``csv``: unlike faster parsers it tells on
    which line a row begins and how many fields it has, which is needed to locate bad rows.
    """
    csv.field_size_limit(LONGEST_FIELD)
    dialect = _dialect(path, options)
    places = {name: dialect.header.index(source) for name, source in wanted.items()}
    with LineFile(path, options) as file:
        lines = iter(file)
        number = 1 + len(list(islice(lines, dialect.skipped)))
        title = [
            Reject(line, ABOVE, text[:EXCERPT], text[:EXCERPT]) for line, text in dialect.preamble
        ]
        while block := list(islice(lines, CHUNK_ROWS)):
            chunk = _plain(block, number, dialect, places, file)
            if chunk is None:
                records = _Records(path, block, number, dialect, lines, file.encoding)
                chunk = records.chunk(places, file)
                block = records.raw
            number += len(block)
            yield replace(chunk, rejects=[*title, *chunk.rejects]) if title else chunk
            title = []


def _dialect(path: Path, options: ReadOptions) -> Dialect:
    lines = head_lines(path, options, SAMPLE_LINES)
    return find_dialect(path, [line.decode(errors="replace") for line in lines], options)


def _plain(
    block: list[bytes], first: int, dialect: Dialect, places: Mapping[str, int], file: LineFile
) -> Chunk | None:
    """Chunk of a block in which every line is a row and nothing is quoted, else None."""
    if len(dialect.separator) > 1 or not dialect.separator.isascii() or dialect.escape is not None:
        return None
    if dialect.separator in "\r\n" or len(dialect.header) < 2:
        return None
    data = b"".join(block)
    if dialect.quote is not None and dialect.quote.encode() in data:
        return None
    bytes_ = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(bytes_ == ord("\n"))
    complete = len(ends) if data.endswith(b"\n") else len(ends) + 1
    if complete != len(block):
        return None
    separators = np.flatnonzero(bytes_ == ord(dialect.separator))
    counts = np.bincount(np.searchsorted(ends, separators), minlength=len(block))
    if not (counts == len(dialect.header) - 1).all():
        return None
    stray_returns = data.count(b"\r") - data.count(b"\r\n")
    if stray_returns or b"\0" in data:
        return None
    names = [str(place) for place in range(len(dialect.header))]
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            pa_csv.ReadOptions(use_threads=False, column_names=names, block_size=len(data) + 1),
            pa_csv.ParseOptions(
                delimiter=dialect.separator, quote_char=False, ignore_empty_lines=False
            ),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
                include_columns=[str(place) for place in dict.fromkeys(places.values())],
            ),
        )
    except pa.ArrowException:
        return None  # for example, invalid UTF-8
    if table.num_rows != len(block):
        return None

    def row_text(line: int) -> str:
        return block[line - first].decode(errors="replace").rstrip("\r\n")

    rows = pl.DataFrame(
        [
            pl.Series(name, pl.from_arrow(table.column(str(place))), dtype=pl.String)
            for name, place in places.items()
        ]
    )
    lines = pl.int_range(first, first + len(block), dtype=pl.Int64, eager=True)
    return Chunk(rows.with_columns(lines.alias(columns.LINE)), (), row_text, file.fraction)


class _Records:
    """Rows of a block of lines and the line each begins on; the last row may read further lines."""

    def __init__(
        self,
        path: Path,
        raw: list[bytes],
        first: int,
        dialect: Dialect,
        more: Iterator[bytes],
        encoding: str,
    ) -> None:
        self.path = path
        self.raw = raw
        self.first = first
        self.dialect = dialect
        self._more = more
        self._encoding = encoding
        self._bad: set[int] = set()
        self._lines = [self._decoded(place) for place in range(len(raw))]
        self._needed = len(raw)
        self._place = self._begin = 0

    def chunk(self, places: Mapping[str, int], file: LineFile) -> Chunk:
        """Chunk of the block; rows without as many fields as the header are rejected."""
        width = len(self.dialect.header)
        good: list[list[str]] = []
        numbers: list[int] = []
        rejects: list[Reject] = []
        begins: list[int] = []
        ends: list[int] = []
        for begin, end, row in self:
            begins.append(begin)
            ends.append(end)
            if len(row) == width + 1 and not row[-1]:
                row = row[:-1]  # a separator at the end of the line
            text = self._text(begin, end)[:EXCERPT]
            if self._bad and not self._bad.isdisjoint(range(begin, end)):
                known = self._encoding.upper().replace("_", "-")
                rejects.append(Reject(self.first + begin, f"bad {known}", text, text))
            elif len(row) != width:
                value = f"{len(row)} fields, the header has {width}: {text}"[:EXCERPT]
                rejects.append(Reject(self.first + begin, "wrong number of fields", value, text))
            else:
                good.append(row)
                numbers.append(self.first + begin)

        def row_text(line: int) -> str:
            begin = line - self.first
            return self._text(begin, ends[bisect_left(begins, begin)])

        by_column = list(zip(*good, strict=True)) if good else [()] * width
        data: dict[str, Any] = {name: by_column[place] for name, place in places.items()}
        rows = pl.DataFrame(data, dict.fromkeys(places, pl.String))
        rows = rows.with_columns(pl.Series(columns.LINE, numbers, dtype=pl.Int64))
        return Chunk(rows, rejects, row_text, file.fraction)

    def __iter__(self) -> Iterator[tuple[int, int, list[str]]]:
        """Yield the first line, the line after the last, and the fields of each row."""
        begin = 0
        while begin < self._needed and begin < len(self._lines):
            for end, row in self._read_from(begin):
                if row:
                    yield begin, end, row
                begin = end
                if begin >= self._needed:
                    break

    def _read_from(self, begin: int) -> Iterator[tuple[int, list[str]]]:
        """Yield rows from a line on up to the first doubtful one, each with the line after it."""
        self._place = self._begin = begin
        reader = csv.reader(self._feed(), strict=True, **self.dialect.reader_options())
        try:
            for row in reader:
                end = self._place
                if end - self._begin > 1 and self._is_several_rows(self._begin, end):
                    break
                self._begin = end
                yield end, row
                if end >= self._needed:
                    return
            else:
                return
        except csv.Error:
            pass
        yield self._repaired(self._begin)

    def _feed(self) -> Iterator[str]:
        while True:
            if self._place == len(self._lines):
                line = next(self._more, None)
                if line is None:
                    return
                self.raw.append(line)
                self._lines.append(self._decoded(len(self._lines)))
            if self._place - self._begin > LONGEST_RECORD:
                raise csv.Error("a quote is never closed")
            self._place += 1
            yield self._lines[self._place - 1]

    def _repaired(self, begin: int) -> tuple[int, list[str]]:
        """Reread a line that its quotes make unreadable: escaped quotes, or quotes as text."""
        line = self._lines[begin]
        width = len(self.dialect.header)
        if "\\" in line:
            row = self._alone(line, escape="\\")
            if row is not None and len(row) in (width, width + 1):
                return begin + 1, row
        plain = line.rstrip("\r\n").split(self.dialect.mark)
        quote = self.dialect.quote or '"'
        closed = (line.count(quote) - line.count("\\" + quote)) % 2 == 0
        if closed or (len(plain) == width and self.dialect.mark == "\t"):
            return begin + 1, plain
        fix = "close it, or double it"
        escaped = '\\"' in line
        raise InputError(
            f"{self.path}:{self.first + begin}: cannot be read as a table "
            "(a quote is opened and never closed)",
            f"{fix}, or name the escape: ReadOptions(escape='\\\\')"
            if escaped
            else f"{fix}; or read quotes as text: ReadOptions(quote='none')",
            cli_fix=f"{fix}, or name the escape: --escape '\\'"
            if escaped
            else f"{fix}; or read quotes as text: --quote none",
        )

    def _is_several_rows(self, begin: int, end: int) -> bool:
        """Whether lines that a quote joins into one row look like rows of their own."""
        width = len(self.dialect.header)
        first, *others = (
            line.rstrip("\r\n").split(self.dialect.mark) for line in self._lines[begin:end]
        )
        inner = others[:-1] or others
        if width < 2 or len(first) != width or any(len(row) != width for row in inner):
            return False
        numbers = [place for place, field in enumerate(first) if field[:1].isdigit()]
        if not numbers:
            return len(inner) > 2
        return all(row[place][:1].isdigit() for row in inner for place in numbers)

    def _alone(self, line: str, escape: str) -> list[str] | None:
        try:
            return next(csv.reader([line], strict=True, **self.dialect.reader_options(escape)), [])
        except csv.Error:
            return None

    def _decoded(self, place: int) -> str:
        try:
            text = self.raw[place].decode()
        except UnicodeDecodeError:
            self._bad.add(place)
            text = self.raw[place].decode(errors="replace")
        return self.dialect.prepared(text)

    def _text(self, begin: int, end: int) -> str:
        return b"".join(self.raw[begin:end]).decode(errors="replace").rstrip("\r\n")
