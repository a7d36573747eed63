"""Worker process of a study's cell: a request on standard input, JSON lines on output.

Standard input stays open while the parent process lives. Its end means that the parent was
killed, and the worker exits at once: it must not write the same files as a restarted study.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

from twotower.config import Config
from twotower.data import Dataset
from twotower.errors import TwoTowerError
from twotower.study.ablation.cell import Cell, run_cell
from twotower.workflow.progress import Bar, Reporter

SECONDS_BETWEEN: Final = 0.3
"""Least time between two reports of an unfinished bar."""


class CellRequest(Config):
    """The cell that a worker runs."""

    cell: Cell
    out: Path
    """The study's folder, which holds ``dataset``."""
    protocols: tuple[str, ...]


class JsonReporter(Reporter):
    """Writes every report as one JSON line."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock

    def note(self, text: str) -> None:
        """A line of information."""
        self._send(note=text)

    def failure(self, text: str) -> None:
        """A failure."""
        self._send(failure=text)

    def bar(self, label: str, *, uneven: bool = False) -> Bar:
        """A bar, at most every `SECONDS_BETWEEN` and when it is full."""
        last: float | None = None

        def report(done: int, total: int | None, detail: str) -> None:
            nonlocal last
            now = self._clock()
            if last is None or done == total or now - last >= SECONDS_BETWEEN:
                last = now
                self._send(bar=label, uneven=uneven, done=done, total=total, detail=detail)

        return report

    def _send(self, **event: object) -> None:
        print(json.dumps(event), file=self._stream, flush=True)


def main() -> int:
    """Entry point: 0 done, 1 failed with the reason in the last line on standard error."""
    # Output of libraries must not mix with the reports.
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = CellRequest.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        dataset = Dataset.load(request.out / "dataset")
        run_cell(request.cell, dataset, request.out, request.protocols, JsonReporter(reports))
    except (TwoTowerError, OSError, MemoryError) as error:
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        return 1
    return 0


def _exit_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
