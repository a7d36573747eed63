"""Throttle for background work, such as a reload, while requests are served."""

import time
from collections.abc import Callable
from typing import Final, TypeAlias

Pause: TypeAlias = Callable[[], None]
"""Called by long-running work every few milliseconds; may sleep."""
_LEAST_S: Final = 0.002


def no_pause() -> None:
    """Do nothing: for work that competes with no requests."""


class Throttle:
    """Limits the thread that creates and calls it to about a ``share`` of the time.

    Unthrottled, the work would slow every request several times for as long as it takes;
    throttled, it slows more requests, but only slightly. The share is above 0 and at most 1.
    """

    def __init__(self, share: float) -> None:
        self._rest_of_work = 1 / share - 1
        self._worked = time.thread_time()

    def __call__(self) -> None:
        """Sleep in proportion to the CPU time since the last sleep, if at least 2 ms."""
        worked = time.thread_time() - self._worked
        if worked >= _LEAST_S:
            time.sleep(self._rest_of_work * worked)
            self._worked = time.thread_time()
