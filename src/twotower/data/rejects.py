"""Rejected rows: written to a file and counted by reason, or an error in strict mode."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, Self

from twotower.data.ids import Vocabulary
from twotower.data.readers import ReadOptions, Reject
from twotower.data.readers.joins import UNMATCHED
from twotower.data.readers.text import likely_encoding
from twotower.data.readers.times import FORMS
from twotower.data.validation import UNKNOWN_ITEM, UNKNOWN_REASON
from twotower.errors import InputError

REJECTS_FILE: Final = "rejects.jsonl"
"""Name of the rejects file in the prepared data set."""

_FIXES: Final[dict[str, tuple[str, str]]] = {
    "bad": (
        "save the file as UTF-8, or name its encoding: ReadOptions(encoding='latin-1')",
        "save the file as UTF-8, or name its encoding: --encoding latin-1",
    ),
    "wrong number of fields": (
        "correct the rows, or name the separator: ReadOptions(separator=';')",
        "correct the rows, or name the separator: --separator ';'",
    ),
    "timestamp: wrong type": (
        f"{FORMS}; others with ReadOptions(time_format='%d.%m.%Y')",
        f"{FORMS}; others with --time-format '%d.%m.%Y'",
    ),
    "timestamp: in the future": (
        "name unit or format where they are others (ReadOptions(time_unit='s')), correct them, or "
        "read them as places in an order: ColumnMapping(order='…')",
        "name unit or format where they are others (--time-unit s), correct them, or read them as "
        "places in an order: --column order=…",
    ),
    "timestamp: negative": (
        "times count from 1970; places in an order are named so: ColumnMapping(order='…')",
        "times count from 1970; places in an order are named so: --column order=…",
    ),
    "timestamp: missing": (
        "a row without a time has no place in a history: fill it in, or choose the split "
        "'random' without a time: ReadOptions(ignore=('…',))",
        "a row without a time has no place in a history: fill it in, or leave the column out: "
        "--ignore COLUMN --split random",
    ),
    "empty": ("an interaction needs both ids: fill it in, or leave such rows out so",) * 2,
    "repeated": ("the first row of an item is kept; merge them if it is not the right one",) * 2,
    "event: without a weight": (
        "give the kind a weight (EventRules(weights={…})), or leave it out so",
        "give the kind a weight (--weight KIND=0.5), or leave it out so",
    ),
    "rating: of no kind": (
        "begin the lowest kind of from_rating at a lower rating, or leave such rows out so",
    )
    * 2,
    "zero": ("an event of no quantity or weight says nothing; correct it, or leave it out so",) * 2,
    "rating: wrong type": (
        "ratings are numbers; convert them, or leave the column out (ReadOptions(ignore=('…',))), "
        "or read it as the kind of an event too (ColumnMapping(event='…'))",
        "ratings are numbers; convert them, or leave the column out (--ignore COLUMN), "
        "or read it as the kind of an event too (--column event=COLUMN)",
    ),
    "rating: infinite": (
        "correct the rows, or leave the column out (ReadOptions(ignore=('…',)))",
        "correct the rows, or leave the column out (--ignore COLUMN)",
    ),
    "wrong type": ("ids are text or whole numbers, ratings and positions numbers",) * 2,
    "out of range": (
        "widen the scale (ReadOptions(rating_scale=(1, 10))), or leave the column out "
        "(ReadOptions(ignore=('rating',)))",
        "widen the scale (--rating-scale 1,10), or leave the column out (--ignore rating)",
    ),
    UNKNOWN_ITEM: (
        "add the items to the catalogue, or keep them without a row of it: "
        "PrepareSettings(keep_unknown_items=True)",
        "add the items to the catalogue, or keep them without a row of it: --keep-unknown-items",
    ),
    UNMATCHED: (
        "export the joined table whole, or join by another key: "
        "ReadOptions(join={'FILE': 'KEY:OTHER'})",
        "export the joined table whole, or join by another key: --join FILE=KEY:OTHER",
    ),
    "missing": (
        "texts such as NA count as missing; change them with ReadOptions(missing=(…))",
        "texts such as NA count as missing; change them with --missing TEXT",
    ),
}
"""Reason, its last part, or the first word of either → fix: in Python, and on the command line."""

_ANYWAY: Final = "correct the row, or prepare without strict to set such rows aside"


def fix_of(reason: str, *, cli: bool) -> str | None:
    """The fix for a reject reason, in Python or command-line terms."""
    last = reason.split(": ")[-1]
    for key in (reason, last, reason.split(" ")[0], last.split(" ")[0]):
        if key in _FIXES:
            return _FIXES[key][cli]
    return None


def first_reject(source: Path, rejects: Sequence[Reject], options: ReadOptions) -> str:
    """Description of the first rejected row with its fix, in command-line terms."""
    first = min(rejects, key=lambda reject: reject.line)
    fix = _with_encoding(fix_of(first.reason, cli=True), first.reason, source, options)
    return "; ".join(filter(None, (_location(source, first), fix)))


class RejectLog:
    """Collector of rejected rows; with ``strict``, the first one raises an error.

    The file at ``path`` is created when the first row is rejected: JSON lines with ``file``,
    ``line``, ``reason``, ``value`` and ``row``.
    """

    def __init__(self, path: Path, *, strict: bool = False) -> None:
        self.path = path
        self.strict = strict
        self._firsts: dict[tuple[Path, str], tuple[int, str, str]] = {}
        self._counts: dict[Path, Counter[str]] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, source: Path, rejects: Sequence[Reject]) -> None:
        """Count and write rows of one source file.

        Raises
        ------
        InputError
            If ``strict``: file, line, reason, value and fix of the first row.
        """
        if not rejects:
            return
        first = min(rejects, key=lambda reject: reject.line)
        if self.strict:
            python, cli = (fix_of(first.reason, cli=cli) for cli in (False, True))
            raise InputError(
                _location(source, first),
                f"{python}; {_ANYWAY}" if python else _ANYWAY,
                cli_fix=f"{cli}; {_ANYWAY}" if cli else _ANYWAY,
            )
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8")
        for reject in rejects:
            row = {
                "file": source.name,
                "line": reject.line,
                "reason": reject.reason,
                "value": reject.value,
                "row": reject.row,
            }
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
            known = self._firsts.get((source, reject.reason))
            if known is None or reject.line < known[0]:
                location = _location(source, reject)
                self._firsts[source, reject.reason] = (reject.line, reject.value, location)
        self._counts.setdefault(source, Counter()).update(reject.reason for reject in rejects)

    def counts(self, sources: Sequence[Path]) -> dict[str, int]:
        """Number of rejected rows of the given files by reason, most frequent first."""
        total: Counter[str] = Counter()
        for source in sources:
            total.update(self._counts.get(source, {}))
        return dict(total.most_common())

    def first_of(self, sources: Sequence[Path]) -> str | None:
        """File, line, reason and value of the first row of the given files."""
        for source in sources:
            found = [first for (path, _), first in self._firsts.items() if path == source]
            if found:
                return min(found)[2]
        return None

    def examples(self, sources: Sequence[Path]) -> dict[str, str]:
        """File, line and value of the first row of each reason, most frequent first."""
        firsts = {}
        for reason in self.counts(sources):
            source = self.source_of(sources, reason)
            line, value, _ = self._firsts[source, reason]
            firsts[reason] = f"{source.name}:{line}: {value!r}"
        return firsts

    def source_of(self, sources: Sequence[Path], reason: str) -> Path:
        """The first of the given files with a row of the given reason; one of them must have it."""
        return next(source for source in sources if (source, reason) in self._firsts)

    def example_of(self, sources: Sequence[Path], reason: str) -> str | None:
        """The value of the first row of a reason in the given files."""
        found = (self._firsts.get((source, reason)) for source in sources)
        return next((first[1] for first in found if first is not None), None)


def nothing_usable(
    message: str,
    rejects: RejectLog,
    sources: Sequence[Path],
    options: ReadOptions,
    hint: str | None = None,
) -> InputError:
    """Error for files without any usable row: counts by reason, the first row, hint and fix."""
    counts = rejects.counts(sources)
    reason = next(iter(counts))
    source = rejects.source_of(sources, reason)
    first = f"the first is {rejects.first_of(sources)}"
    python, cli = (
        "; ".join(filter(None, (first, hint, _with_encoding(fix, reason, source, options))))
        for fix in (fix_of(reason, cli=False), fix_of(reason, cli=True))
    )
    listed = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    return InputError(f"{message}, all rejected ({listed})", python, cli_fix=cli)


def _with_encoding(fix: str | None, reason: str, source: Path, options: ReadOptions) -> str | None:
    """The fix with the likely encoding of a file, where rows are not of that assumed."""
    if fix is None or not reason.startswith("bad "):
        return fix
    return fix.replace("latin-1", likely_encoding(source, options))


def unknown_item_hint(
    rejects: RejectLog, sources: Sequence[Path], catalogue: Vocabulary | None
) -> str | None:
    """How ids of the log differ from those of the catalogue, by an example of both."""
    got = rejects.example_of(sources, UNKNOWN_REASON)
    if got is None or catalogue is None or not len(catalogue):
        return None
    known = catalogue.ids
    bare = got.lstrip("0")
    alike = next((id_ for id_ in known if id_ != got and id_.lstrip("0") == bare), None)
    if alike is not None:
        return (
            f"the log has {got!r}, the catalogue {alike!r}: leading zeros were lost; save the ids "
            "as text, not as numbers"
        )
    folded = got.strip().lower()
    alike = next((id_ for id_ in known if id_ != got and id_.lower() == folded), None)
    if alike is not None:
        return f"the log has {got!r}, the catalogue {alike!r}: the case differs"
    return f"the log has {got!r}, the catalogue such as {known[0]!r}"


def _location(source: Path, reject: Reject) -> str:
    return f"{source}:{reject.line}: {reject.reason}, got {reject.value!r}"
