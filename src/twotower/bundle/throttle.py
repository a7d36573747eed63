"""Work beside requests that are being answered, a little at a time."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LEAST_S: Final = 0.002
_own = threading.local()


@contextmanager
def paced(share: float) -> Iterator[None]:
    """Let this thread work for about that share of the time, where what it does says `pause`.

    All of it at once would make every request wait several times as long as usual, for as long
    as it takes; little by little it makes more of them wait, but not long.

    Parameters
    ----------
    share
        Above 0, at most 1.
    """
    _own.rest_of_work, _own.worked = 1 / share - 1, time.thread_time()
    try:
        yield
    finally:
        del _own.rest_of_work


def pause() -> None:
    """Rest for as long as the thread shall for what it has worked; not at all if not `paced`."""
    rest_of_work = getattr(_own, "rest_of_work", None)
    if rest_of_work is None:
        return
    worked = time.thread_time() - _own.worked
    if worked >= _LEAST_S:
        time.sleep(rest_of_work * worked)
        _own.worked = time.thread_time()
