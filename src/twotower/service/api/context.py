"""Request context: the request id and the app's shared state."""

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
"""Exempt from keys and rate limits: an orchestrator's probes must always get an answer."""
request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""Id of the current request."""


@dataclass
class Context:
    """State shared by all routes of one app.

    Attributes
    ----------
    service
        The service; None until it is loaded.
    workers, batches, writers
        Threads for work longer than a millisecond. Batches have their own, so they do not delay
        searches and texts; so do writes, so those waiting for the database do not delay reads.
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
        """Run work in a thread, while the event loop answers others.

        A request that times out is answered, but its thread is only freed when the work ends, so
        there are never more threads than workers. Work not yet started by then is dropped.
        `OverloadedError` if too many calls wait for threads, or this one waited too long.
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
