"""The rows set aside: written to a file as they come, counted by reason, or stopped at."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from twotower.data.readers import Reject
from twotower.errors import InputError

REJECTS_FILE: Final = "rejects.jsonl"
"""Its name beside the prepared data."""

_FIXES: Final = {
    "bad UTF-8": "save the file as UTF-8",
    "wrong type": "ids are text or whole numbers, ratings and positions numbers, times numbers "
    "or ISO 8601 dates",
    "out of range": "widen rating_range where the scale is another",
    "in the future": "times are seconds or milliseconds since 1970",
    "not in the catalogue": "add the item to the catalogue, or prepare without a catalogue",
}
_ANYWAY: Final = "correct the row, or prepare without strict to set such rows aside"


class RejectLog:
    """Takes what validation sets aside.

    Parameters
    ----------
    path
        JSON lines with ``file``, ``line``, ``reason``, ``value`` and ``row``; made when the
        first row comes.
    strict
        Raise at the first row instead.
    """

    def __init__(self, path: Path, *, strict: bool = False) -> None:
        self.path = path
        self.strict = strict
        self.first: str | None = None
        self._counts: dict[Path, Counter[str]] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, source: Path, rejects: Sequence[Reject]) -> None:
        """Count and write rows of one source file.

        Raises
        ------
        InputError
            Where ``strict``: file and line, reason, value and fix of the first row.
        """
        if not rejects:
            return
        first = min(rejects, key=lambda reject: reject.line)
        self.first = self.first or _told(source, first)
        if self.strict:
            fix = _FIXES.get(first.reason.split(": ")[-1])
            raise InputError(_told(source, first), f"{fix}; {_ANYWAY}" if fix else _ANYWAY)
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
        self._counts.setdefault(source, Counter()).update(reject.reason for reject in rejects)

    def counts(self, sources: Sequence[Path]) -> dict[str, int]:
        """Rows of the given files by reason, the most frequent first."""
        total: Counter[str] = Counter()
        for source in sources:
            total.update(self._counts.get(source, {}))
        return dict(total.most_common())


def _told(source: Path, reject: Reject) -> str:
    return f"{source}:{reject.line}: {reject.reason}, got {reject.value!r}"
