"""A deadline for all that one thread asks of the database in one call."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_calls = threading.local()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give this thread's calls so long in all; inside another one the earlier deadline holds."""
    before = deadline()
    own = time.monotonic() + seconds
    _calls.deadline = own if before is None else min(before, own)
    try:
        yield
    finally:
        _calls.deadline = before


def deadline() -> float | None:
    """The moment of `time.monotonic` by which an answer must be there; None for any time."""
    moment: float | None = getattr(_calls, "deadline", None)
    return moment
