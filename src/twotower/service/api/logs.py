"""Structured logs: one JSON object per line, each with the request's id."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final

from twotower.service.api.context import request_id

_ENCODER: Final = json.JSONEncoder(default=str)
"""Made once: `json.dumps` would make one for each line."""


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON, including the fields of ``extra={"fields": …}``.

    An exception is logged by class and by its positions in our code (module and line), without the
    traceback, whose source lines and paths may contain what a log should not.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, without its end."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            entry |= described(record.exc_info[1])
        return _ENCODER.encode(entry)


def described(error: BaseException) -> dict[str, Any]:
    """An exception's class and positions in code, without its message, which may hold anything."""
    places = [
        f"{frame.f_globals.get('__name__', '?')}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    return {"error": type(error).__name__, "at": places[-8:]}


class WithFields(logging.Filter):
    """Adds fields to every line of the log."""

    def __init__(self, **fields: object) -> None:
        super().__init__()
        self._fields = fields

    def filter(self, record: logging.LogRecord) -> bool:
        """Add them; every line passes."""
        record.__dict__["fields"] = {**getattr(record, "fields", {}), **self._fields}
        return True


def configure_logging(fields: WithFields | None = None) -> None:
    """Send this package's and uvicorn's logs to standard error as JSON lines."""
    # Not logged, like the caller; finding them would take a third of a line's time.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # as Python's logging HOWTO has it
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    if fields is not None:
        handler.addFilter(fields)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("twotower", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.INFO)
