"""Throttling of background work, such as a reload, beside the requests that are answered."""

import time
from collections.abc import Callable
from typing import Final, TypeAlias

Pause: TypeAlias = Callable[[], None]
"""What long work calls every few milliseconds: it may sleep."""
_LEAST_S: Final = 0.002


def no_pause() -> None:
    """For work that no request waits for."""


class Throttle:
    """Lets the thread that makes and calls it work for about a share of the time.

    All of the work at once would make every request wait several times as long as usual, for as
    long as it takes; little by little it makes more of them wait, but not long. The share is above
    0, at most 1.
    """

    def __init__(self, share: float) -> None:
        self._rest_of_work = 1 / share - 1
        self._worked = time.thread_time()

    def __call__(self) -> None:
        """Sleep for what the thread has worked since the last call, if that is worth it."""
        worked = time.thread_time() - self._worked
        if worked >= _LEAST_S:
            time.sleep(self._rest_of_work * worked)
            self._worked = time.thread_time()
