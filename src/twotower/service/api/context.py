"""What a request carries with it, and what the app holds for all of them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

from twotower.service.api.metrics import Metrics
from twotower.service.api.worker import Sibling
from twotower.service.service import Service
from twotower.service.settings import ServeSettings

P = ParamSpec("P")
T = TypeVar("T")

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""Names the request that is being answered."""


@dataclass
class Context:
    """What every route of one app uses.

    Attributes
    ----------
    settings
        How the service runs.
    metrics
        What is counted.
    service
        What answers; None until it is loaded.
    sibling
        Where several processes are one service: this one of them.
    workers
        Limits the threads for what takes longer than a millisecond.
    writers
        The threads for writes, so that those that wait for the database hold up no read.
    """

    settings: ServeSettings
    metrics: Metrics
    service: Service | None = None
    sibling: Sibling | None = None
    workers: anyio.CapacityLimiter | None = None
    writers: ThreadPoolExecutor | None = None

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do something in a thread, so that others are answered meanwhile.

        Where the request's time is over the thread is left to finish by itself.
        """
        return await anyio.to_thread.run_sync(
            partial(work, *args, **kwargs), abandon_on_cancel=True, limiter=self.workers
        )

    async def write(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do something that writes to the database, in one of the threads for that.

        Where the request's time is over, the thread is free when the work has ended: there are
        never more of them. What has not begun by then never does.
        """
        run = partial(copy_context().run, partial(work, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self.writers, run)
