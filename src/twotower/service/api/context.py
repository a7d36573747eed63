"""Context of a request, and the app's state that all of them share."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Final, ParamSpec, TypeVar

from twotower.service.api.metrics import Metrics
from twotower.service.api.traces import is_traced
from twotower.service.api.turns import OverloadedError, Turns
from twotower.service.service import Service
from twotower.service.settings import ServeSettings

P = ParamSpec("P")
T = TypeVar("T")

OPEN_TO_ALL: Final = frozenset({"/health", "/ready"})
"""Neither keys nor rates count here: what runs the service must always get an answer."""
request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""Names the request that is being answered."""


@dataclass
class Context:
    """What every route of one app uses.

    Attributes
    ----------
    service
        What answers; None until it is loaded.
    workers, batches, writers
        Threads for what takes longer than a millisecond; others for batches, so that those hold up
        no search and no text, and for writes, so that those that wait for the database hold up no
        read.
    turns
        The queue of requests.
    is_traced
        Whether spans of stages go anywhere.
    """

    settings: ServeSettings
    metrics: Metrics
    service: Service | None = None
    workers: ThreadPoolExecutor | None = None
    writers: ThreadPoolExecutor | None = None
    batches: ThreadPoolExecutor | None = None
    turns: Turns = field(init=False)
    is_traced: bool = field(default_factory=is_traced)
    _in_threads: int = 0

    def __post_init__(self) -> None:
        self.turns = Turns(self.settings.max_waiting, self.settings.max_wait_s)

    async def run(
        self,
        threads: ThreadPoolExecutor | None,
        work: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do something in a thread, so that others are answered meanwhile.

        A request whose time is over is answered, but its thread is free only when the work has
        ended: there are never more threads than workers. What has not begun by then never does.
        `OverloadedError` where too many calls wait for threads, or this one did too long.
        """
        if self._in_threads >= self.turns.most:
            raise OverloadedError(f"{self._in_threads:,} requests are waiting")
        came = time.monotonic()

        def in_time() -> T:
            self.turns.check_wait(came, time.monotonic())
            return work(*args, **kwargs)

        self._in_threads += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(threads, copy_context().run, in_time)
        finally:
            self._in_threads -= 1
