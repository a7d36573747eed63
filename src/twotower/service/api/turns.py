"""Admission control: requests take turns, and wait in a queue of bounded length and age."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from twotower.errors import TwoTowerError

_PATIENCE: Final = 4
"""Batches wait for single requests up to so many times as long as the last block took."""
_QUIET_S: Final = 1.0
"""For so long after a single request, batches take care of others that may come."""
_LOOK_S: Final = 0.001


class OverloadedError(TwoTowerError):
    """A request is refused because too many wait, or because it has waited too long."""


class Turns:
    """Lets one request after another begin its work on the event loop.

    A request for one user is computed on the event loop in one go. Between two of them the loop
    looks for what came in, so that a health probe waits for one request and not for all those
    that came before it. Of one event loop; `are_wanted` may be read from any thread.

    Attributes
    ----------
    most, longest_s
        Requests that may wait, and seconds that one may.
    are_wanted
        Whether a request waits, or has just begun.
    last_single
        When the newest request for one user came, of the monotonic clock.
    """

    def __init__(self, most: int, longest_s: float) -> None:
        self.most = most
        self.longest_s = longest_s
        self.are_wanted = False
        self.last_single = -math.inf
        self._one_block = threading.Lock()
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, came: float) -> None:
        """Wait for a turn, from ``came`` on, of the monotonic clock.

        `OverloadedError` at once where as many wait as may; after the wait, where it was too long.
        """
        loop = asyncio.get_running_loop()
        if not self.are_wanted:
            self.are_wanted = True
            loop.call_soon(self._give_next)
            return
        if len(self._waiting) >= self.most:
            raise OverloadedError(f"{self.most:,} requests are waiting")
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn
        self.check_wait(came, loop.time())

    def check_wait(self, came: float, now: float) -> None:
        """`OverloadedError` where ``came`` is too long ago; both of the monotonic clock."""
        waited = now - came
        if waited > self.longest_s:
            raise OverloadedError(f"the request has waited for {waited:.1f} s")

    @property
    def are_rare(self) -> bool:
        """Whether no single request came lately, so that batches need not take care."""
        return time.monotonic() - self.last_single > _QUIET_S

    @property
    def are_taken(self) -> bool:
        """Whether a request waits or has just begun, or a batch that takes care is answered."""
        return self.are_wanted or self._one_block.locked()

    @contextmanager
    def block(self, deadline: float) -> Iterator[None]:
        """A block of a batch, after which single requests go first.

        Where those come, there is one block at a time: threads of several batches would take the
        interpreter from single requests several times as often. `TimeoutError` at the deadline, of
        the monotonic clock, if the block has not begun by then.
        """
        patience = deadline - time.monotonic()
        if patience <= 0 or not self._one_block.acquire(timeout=patience):
            raise TimeoutError
        alone = not self.are_rare
        if not alone:
            self._one_block.release()
        began = time.monotonic()
        try:
            yield
            self.give_way(time.monotonic() - began)
        finally:
            if alone:
                self._one_block.release()

    def give_way(self, block_s: float) -> None:
        """Let single requests go first, after a block of a batch that took ``block_s`` seconds.

        Batches still get a fifth of the time, however many there are.
        """
        until = time.monotonic() + _PATIENCE * block_s
        while self.are_wanted and time.monotonic() < until:
            time.sleep(_LOOK_S)

    def _give_next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # its request was not given up meanwhile
                turn.set_result(None)
                # Called after the work that this turn begins, and after a look for what came in.
                asyncio.get_running_loop().call_soon(self._give_next)
                return
        self.are_wanted = False
