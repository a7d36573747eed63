"""Dialect detection for delimited text: separator, quotes, header."""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from twotower.data.readers.options import ReadOptions
from twotower.errors import InputError

ATOMIC: Final = (".inter", ".item", ".user")
"""Endings of RecBole's atomic files: tab-separated, a typed header, no quotes."""
UNIT: Final = "\x1f"
"""Replaces a separator of several characters."""
SAMPLE_LINES: Final = 100
MOST_TITLES: Final = 20
"""Maximum number of title lines above a header."""
LEAST_ROWS: Final = 3
"""Minimum number of lines needed to compare a header or first row with those below."""
ALIKE: Final = 0.8
"""A header below a title needs more than this share of its rows to have as many fields."""

_SEPARATORS: Final = ("\t", ",", ";", "|", "\x01", "::", "||", "~", "^", UNIT)
_MOMENT: Final = re.compile(r"\d{9,}$|\d{4}-\d\d-\d\d")
_TIME: Final = re.compile(r"1\d{9}(\d{3}|\d{6}|\d{9})?(\.\d+)?$|\d{4}-\d\d-\d\d")
"""A Unix time after 2001, or a date."""
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z _-]*$")
_MOST_KINDS: Final = 12
_MOST_RATINGS: Final = 21
"""Maximum distinct values of a column of event kinds, and of ratings."""
_HIGHEST_RATING: Final = 100
_OPENING: Final = re.compile(r'(?:^|(?<=[\t,;|:~^\x01\x1f])) *"')
"""The opening quote of a field."""
_REST_OF_QUOTED: Final = re.compile(r'(?:[^"\\]|\\.|"")*+"')
_QUOTED: Final = re.compile(_OPENING.pattern + _REST_OF_QUOTED.pattern)
_WIDE: Final = 20
"""Columns above which a table without a header is likely a matrix."""
_NUMBER: Final = re.compile(r"[+-]?\d[\d.,:/ \-T+Z]*$")


@dataclass(frozen=True)
class Dialect:
    """How lines of a text table are split into fields."""

    separator: str
    """Field separator; ``whitespace`` stands for any run of blanks."""
    quote: str | None
    """The quote character, or None if quotes are plain text."""
    escape: str | None = None
    """The character that escapes a quote, or None if quotes are doubled."""
    header: list[str] = field(default_factory=list)
    """Column names."""
    skipped: int = 0
    """Number of lines before the first row."""
    spaced: bool = False
    """Whether quotes are preceded by blanks: ``u, "a, b"``."""
    preamble: tuple[tuple[int, str], ...] = ()
    """Non-comment lines above the header, such as a report's title, each with its 1-based
    number."""

    @property
    def mark(self) -> str:
        """The character that separates the fields of a `prepared` line."""
        return self.separator if len(self.separator) == 1 else UNIT

    def prepared(self, line: str) -> str:
        """The line with a single-character separator between its fields."""
        if self.separator == "whitespace":
            return re.sub(r"[ \t]+", UNIT, line.strip(" \t\r\n"))
        return line if len(self.separator) == 1 else line.replace(self.separator, UNIT)

    def reader_options(self, escape: str | None = None) -> dict[str, Any]:
        """Arguments for ``csv.reader``."""
        escape = self.escape if escape is None else escape
        return {
            "delimiter": self.mark,
            "quotechar": self.quote or '"',
            "quoting": csv.QUOTE_NONE if self.quote is None else csv.QUOTE_MINIMAL,
            "escapechar": escape,
            "doublequote": True,
            "skipinitialspace": self.spaced,
        }


def find_dialect(path: Path, lines: Sequence[str], options: ReadOptions) -> Dialect:
    """Detect the dialect of a table from its first lines.

    Raises
    ------
    InputError
        If there is no header and no names are given.
    """
    atomic = path.name.lower().removesuffix(".gz").endswith(ATOMIC)
    separator = options.separator
    skipped = _comments(lines)
    declared = re.match(r'"?sep=(.)"?\s*$', lines[skipped]) if skipped < len(lines) else None
    if declared is not None:
        separator, skipped = separator or declared[1], skipped + 1
    preamble: tuple[tuple[int, str], ...] = ()
    records = [(skipped + place, record) for place, record in _records(lines[skipped:])]
    if separator is None and options.header is None and options.names is None and not atomic:
        begin = _preamble(records, skipped)
        preamble = tuple(
            (place + 1, lines[place].strip())
            for place in range(skipped, begin)
            if lines[place].strip()
        )
        skipped = begin
    table_lines = [record for place, record in records if place >= skipped]
    quote = options.quote or ("none" if atomic else _find_quote(table_lines))
    if separator is None:
        separator = "\t" if atomic else _find_separator(table_lines, quote)
    dialect = Dialect(
        separator,
        None if quote == "none" else quote,
        None if options.escape in (None, "none") else options.escape,
        [],
        skipped,
        _is_spaced(table_lines, separator, quote),
        preamble,
    )
    first = _fields(dialect, table_lines[0]) if table_lines else []
    if options.names is not None:
        header, skip = list(options.names), int(options.header is True)
        if options.header is None and [name.strip() for name in first] == header:
            skip = 1
    else:
        rows = [_fields(dialect, line) for line in table_lines]
        if options.header is False or (options.header is None and _is_data(rows)):
            raise _no_header(path, table_lines[0] if table_lines else "", rows)
        names = (name.split(":")[0] if atomic else name.strip() for name in first)
        header, skip = [name.lstrip("#").strip() for name in names], 1
        if not table_lines:
            skip = 0
        if _has_row_names(dialect, header, table_lines[1:]):
            header = ["", *header]
    return replace(dialect, header=header, skipped=_line_after(lines, skipped, skip))


def _comments(lines: Sequence[str]) -> int:
    """Number of leading blank and comment lines, excluding a last comment that is the header."""
    place = 0
    while place < len(lines) and (not lines[place].strip() or lines[place][0] in "#%"):
        place += 1
    last = lines[place - 1].strip() if place else ""
    if last.startswith("#") and place < len(lines):
        marks = [mark for mark in (*_SEPARATORS, " ") if mark in last.lstrip("# ")]
        if any(last.lstrip("# ").count(mark) == lines[place].strip().count(mark) for mark in marks):
            place -= 1
    return place


def _preamble(records: Sequence[tuple[int, str]], skipped: int) -> int:
    """Line of the header below a report's title, or ``skipped`` if there is no title.

    Title lines have a different number of fields than the table. The header is the first line
    with as many fields as nearly all lines after it, if it does not look like data.
    """
    for order, (place, _) in enumerate(records[: MOST_TITLES + 1]):
        below = [record for _, record in records[order:]]
        if len(below) < LEAST_ROWS:
            break
        quote = _find_quote(below)
        dialect = Dialect(_find_separator(below, quote), quote)
        header, *rows = (_fields(dialect, line) for line in below)
        counts = [len(row) - (len(row) > len(header) and not row[-1]) for row in rows]
        alike = sum(count == len(header) for count in counts) / len(rows)
        if len(header) > 1 and alike > ALIKE:
            names = [name.strip() for name in header if name.strip()]
            is_header = len(set(names)) == len(names) and not any(map(_NUMBER.match, names))
            return place if is_header else skipped
    return skipped


def _line_after(lines: Sequence[str], skipped: int, header: int) -> int:
    """Number of lines before the first row: blank lines, ``sep=``, and the header."""
    if not header:
        return skipped
    while skipped < len(lines) and not lines[skipped].strip():
        skipped += 1
    return min(skipped + 1, len(lines))


def _records(lines: Sequence[str]) -> list[tuple[int, str]]:
    """Rows of some lines with their positions; a row with an open quote continues on the next line.

    Blank lines are skipped. A quote that is never closed is text, such as an inch mark.
    """
    records: list[tuple[int, str]] = []
    place = 0
    while place < len(lines):
        last, is_open = place, _ends_quoted(lines[place])
        while is_open and last + 1 < len(lines):
            last += 1
            is_open = _ends_quoted(lines[last], is_open)
        last = place if is_open else last
        record = "".join(lines[place : last + 1]).rstrip("\r\n")
        if record.strip():
            records.append((place, record))
        place = last + 1
    return records


def _ends_quoted(line: str, is_open: bool = False) -> bool:
    """Whether a line ends inside quotes; ``is_open`` says whether it begins inside them."""
    if is_open:
        rest = _REST_OF_QUOTED.match(line)
        if rest is None:
            return True
        line = line[rest.end() :]
    return _OPENING.search(_QUOTED.sub("", line)) is not None


def _fields(dialect: Dialect, line: str) -> list[str]:
    line = dialect.prepared(line)
    try:
        return next(csv.reader([line], **dialect.reader_options()), [])
    except csv.Error:
        return line.split(dialect.mark)


def _find_separator(lines: Sequence[str], quote: str) -> str:
    """The separator that gives most lines as many fields as the first; ties go to more fields."""
    nothing = (False, 0.0, 1)
    best, reached = ",", nothing
    if not lines:
        return best
    for separator in _SEPARATORS:
        if separator not in lines[0]:
            continue
        if separator == "|" and lines[0].count("|") == 2 * lines[0].count("||"):
            continue
        dialect = Dialect(separator, None if quote == "none" else quote)
        counts = [len(_fields(dialect, line)) for line in lines[:SAMPLE_LINES]]
        first = counts[0]
        if first < 2:
            continue
        # A trailing separator or a stray line does not rule it out.
        alike = sum(first <= count <= first + 1 for count in counts) / len(counts)
        score = (alike > 0.5, round(alike, 1), first)
        if score > reached:
            best, reached = separator, score
    if reached == nothing and re.search(r"\S[ \t]+\S", lines[0]):
        counts = [len(line.split()) for line in lines[:SAMPLE_LINES]]
        if min(counts) == max(counts) > 1:
            return "whitespace"
    return best


def _has_row_names(dialect: Dialect, header: Sequence[str], lines: Sequence[str]) -> bool:
    """Whether rows have one field more than the header: row numbers, as written by R."""
    rows = [_fields(dialect, line) for line in lines]
    if len(header) < 2 or not rows or any(len(row) != len(header) + 1 for row in rows):
        return False
    numbers = [row[0] for row in rows]
    return any(numbers == [str(n + first) for n in range(len(rows))] for first in (0, 1))


def _find_quote(lines: Sequence[str]) -> str:
    """The quote character: single quotes only if they surround every name of the header."""
    quoted = re.fullmatch(r"\s*'[^']*'(?:[^'\w]{1,3}'[^']*')+\s*", lines[0]) if lines else None
    return '"' if quoted is None else "'"


def _is_spaced(lines: Sequence[str], separator: str, quote: str) -> bool:
    """Whether blanks separate separators from quotes, in the header or in most lines."""
    if quote == "none" or separator in (" ", "whitespace") or not lines:
        return False
    pattern = re.compile(re.escape(separator) + " +" + re.escape(quote))
    found = [bool(pattern.search(line)) for line in lines[:SAMPLE_LINES]]
    return found[0] or sum(found) > len(found) / 2


def _is_data(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line holds values rather than column names.

    It does if it has a time, two numbers, or a single field that is a number; a number above
    numbers only; or a text that occurs again in the same column.
    """
    fields = [field.strip() for field in rows[0]] if rows else []
    numbers = [bool(_NUMBER.match(field)) for field in fields]
    if any(map(_MOMENT.match, fields)) or sum(numbers) >= min(2, len(fields)) > 0:
        return True
    below = [row for row in rows[1:] if len(row) == len(fields) and [*row] != [*rows[0]]]
    if len(fields) < 2 or len(below) < LEAST_ROWS:
        return False
    for text, number, *values in zip(fields, numbers, *below, strict=True):
        if (number and all(map(_NUMBER.match, values))) or (text and text in values):
            return True
    return False


def _no_header(path: Path, line: str, rows: Sequence[Sequence[str]]) -> InputError:
    problem = f"{path} has no header: its first line looks like data ({line[:80]!r})"
    width = len(rows[0]) if rows else 0
    if width == 1 and len(line.split()) > 1:
        return InputError(
            problem,
            "where its lines are 'user item item …', pass format='sequences' (oldest first) or "
            "format='lightgcn' (in no order); else name the separator and the columns",
            cli_fix="where its lines are 'user item item …', pass --as sequences (oldest first) or "
            "--as lightgcn (in no order); else pass --separator and --columns",
        )
    if width > _WIDE:
        return InputError(
            f"{problem}, of {width} columns",
            "where it has a column for each item, or each user, write a row for each rating: "
            "pandas.read_csv(FILE, header=None).rename_axis('user').reset_index()"
            ".melt('user', var_name='item', value_name='rating').to_csv('ratings.csv', "
            "index=False), without the values that mean none; else add a line with the names",
        )
    names = _likely_names(rows)
    advice = f"name its {width} columns in their order"
    guess = " (a guess: look which is which), or add such a line to the file"
    return InputError(
        problem,
        f"{advice}: ReadOptions(names={tuple(names)}){guess}",
        cli_fix=f"{advice}: --columns {','.join(names)}{guess}",
    )


def _likely_names(rows: Sequence[Sequence[str]]) -> list[str]:
    """Column names guessed from the values: time, event kind, rating, user and item."""
    width = len(rows[0]) if rows else 0
    columns = [
        [value.strip() for value in column]
        for column in zip(*(row for row in rows if len(row) == width), strict=True)
    ]
    names = [f"x{place + 1}" for place in range(width)]

    def name(field: str, places: Sequence[int]) -> None:
        if places:
            names[places[0]] = field

    def left(fits: Callable[[list[str]], object]) -> list[int]:
        return [
            place
            for place, values in enumerate(columns)
            if names[place].startswith("x") and fits(values)
        ]

    name("time", left(lambda values: all(map(_TIME.match, values))))
    name("event", left(_are_kinds))
    ratings = [place for place in left(_are_ratings) if place > 1]
    varied = [place for place in ratings if len(set(columns[place])) > 1]
    name("rating", (varied or ratings)[-1:])
    ids = left(bool)
    name("user", ids)
    name("item", ids[1:])
    return names


def _are_kinds(values: Sequence[str]) -> bool:
    few = 1 < len(set(values)) <= min(_MOST_KINDS, len(values) / 2)
    return few and all(map(_WORD.match, values))


def _are_ratings(values: Sequence[str]) -> bool:
    if not all(re.match(r"-?\d{1,3}(\.\d+)?$", value) for value in values):
        return False
    different = {float(value) for value in values}
    return len(different) <= _MOST_RATINGS and 0 < max(different) <= _HIGHEST_RATING
