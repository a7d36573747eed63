"""Admission control (back-pressure): requests queue for a turn, with bounded length and wait."""

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
"""Batches wait for single requests for up to this multiple of the last block's duration."""
_QUIET_S: Final = 1.0
"""Seconds after a single request during which batches give way to further ones."""
_LOOK_S: Final = 0.001


class OverloadedError(TwoTowerError):
    """A request is refused because too many are waiting, or it has waited too long."""


class Turns:
    """Lets requests start their work on the event loop one after another.

    A request for one user is computed on the event loop in one go. Between two of them the loop
    polls for input, so a health probe waits for one request and not for all earlier ones. Bound to
    one event loop; `are_wanted` may be read from any thread.

    Attributes
    ----------
    most, longest_s
        Limits of the number of waiting requests, and of the seconds that one may wait.
    are_wanted
        Whether a request is waiting or has just begun.
    last_single
        Arrival of the newest request for one user, on the monotonic clock.
    """

    def __init__(self, most: int, longest_s: float) -> None:
        self.most = most
        self.longest_s = longest_s
        self.are_wanted = False
        self.last_single = -math.inf
        self._one_block = threading.Lock()
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, came: float) -> None:
        """Wait for a turn; ``came`` is the request's arrival on the monotonic clock.

        `OverloadedError` at once if the queue is full, or after the wait if it was too long.
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
        """`OverloadedError` if ``came`` is too long ago; both on the monotonic clock."""
        waited = now - came
        if waited > self.longest_s:
            raise OverloadedError(f"the request has waited for {waited:.1f} s")

    @property
    def are_rare(self) -> bool:
        """Whether no single request came recently, so batches need not give way."""
        return time.monotonic() - self.last_single > _QUIET_S

    @property
    def are_taken(self) -> bool:
        """Whether a request waits or has just begun, or a batch that takes care is answered."""
        return self.are_wanted or self._one_block.locked()

    @contextmanager
    def block(self, deadline: float) -> Iterator[None]:
        """A block of a batch, after which single requests go first.

        While single requests come, only one block runs at a time: threads of several batches would
        take the GIL from them several times as often. `TimeoutError` if the block has not begun by
        the deadline, on the monotonic clock.
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
            if not turn.done():  # its request was not cancelled meanwhile
                turn.set_result(None)
                # Called after the work that this turn begins, and after a look for what came in.
                asyncio.get_running_loop().call_soon(self._give_next)
                return
        self.are_wanted = False
