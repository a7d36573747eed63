"""What a request carries with it, and what the app holds for all of them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Final, ParamSpec, TypeVar

from twotower.service.api.metrics import Metrics
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
    settings
        How the service runs.
    metrics
        What is counted.
    service
        What answers; None until it is loaded.
    workers
        The threads for what takes longer than a millisecond.
    writers
        The threads for writes, so that those that wait for the database hold up no read.
    """

    settings: ServeSettings
    metrics: Metrics
    service: Service | None = None
    workers: ThreadPoolExecutor | None = None
    writers: ThreadPoolExecutor | None = None

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do something in one of the workers, so that others are answered meanwhile.

        A request whose time is over is answered, but its worker is free only when the work has
        ended: there are never more threads than workers. What has not begun by then never does.
        """
        return await _run(self.workers, partial(work, *args, **kwargs))

    async def write(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do something that writes to the database, in one of the threads for that."""
        return await _run(self.writers, partial(work, *args, **kwargs))


async def _run(threads: ThreadPoolExecutor | None, work: Callable[[], T]) -> T:
    run = partial(copy_context().run, work)
    return await asyncio.get_running_loop().run_in_executor(threads, run)
