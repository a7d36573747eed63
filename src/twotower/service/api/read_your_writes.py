"""Read-your-writes middleware: an answer reflects every write acknowledged before its request."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial

import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twotower.service.api.context import Context
from twotower.service.service import SYNC_S, Service
from twotower.service.state import StateUnavailableError

logger = logging.getLogger(__name__)

_SYNCED = ("/v1/", "/metrics")
"""Paths whose responses reflect writes; health and readiness never wait for the database."""


class ReadYourWrites:
    """Syncs a process with its database before a request, if the database has changed.

    Only used with several processes. Whatever other processes, services and machines acknowledged
    is reflected in every later request; one database check serves all requests that came before
    it. If the database takes longer than `SYNC_S`, answers come from memory, and `Service.state` is
    ``stale``.
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context
        self._header = (b"x-process", str(os.getpid()).encode())
        self._version: object = None  # of the database, when it was last synced with
        self._looked = float("-inf")  # when the last look at the file began
        self._look: _Look | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the header ``x-process`` names the process."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service = self._context.service
        if service is not None and scope["path"].startswith(_SYNCED):
            state = scope.get("state", {})
            came = state.get("came", time.monotonic())
            if service.store.file_watch is None:
                await self._wait_for_server(service, came)
                if "came" in state:  # it takes turns, and all that waited go on at once
                    await self._context.turns.take(time.monotonic())
            elif self._looked < came:
                await self._sync_with_file(service)
        await self._app(scope, receive, partial(self._answer, send))

    async def _answer(self, send: Send, message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), self._header]
        await send(message)

    async def _sync_with_file(self, service: Service) -> None:
        watch = service.store.file_watch
        assert watch is not None
        self._looked = time.monotonic()
        try:
            version = watch.version()
        except StateUnavailableError:
            if service.state_answers:  # says so, once; `poll_s` sees when it is back
                await sync(service)
            return
        if version != self._version:
            self._version = version
            await sync(service)

    async def _wait_for_server(self, service: Service, arrived: float) -> None:
        """Wait for a database check begun after the request came; waiting requests share it."""
        while True:
            if self._look is None or self._look.task.done():
                self._look = _Look(partial(self._sync_with_server, service))
            look = self._look
            since = arrived if look.began is None else min(arrived, look.began)
            patience = since + SYNC_S - time.monotonic()
            await asyncio.wait([look.task], timeout=max(0.0, patience))
            if look.began is None or look.began >= arrived or not look.task.done():
                return

    async def _sync_with_server(self, service: Service) -> None:
        watch = service.store.server_watch
        if watch is None:  # a database in memory
            return
        try:
            with service.waiting():
                version = await watch.version()
        except StateUnavailableError:
            if service.state_answers:
                await sync(service)
            return
        if version != self._version or not service.state_answers:
            await sync(service)
            self._version = version


class _Look:
    """A database check: its task, and when it began to run."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self.began: float | None = None
        self.task = asyncio.create_task(self._run(work))

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        self.began = time.monotonic()
        await work()


async def sync(service: Service) -> None:
    """Apply new writes, and log when the database becomes unavailable or available again.

    Not run in a worker thread that batches may occupy, since every request may be waiting for it. A
    SQLite file is read on the event loop: in a thread it would take several times as long, as the
    two pass the GIL back and forth at every database call. But a locked file would block all
    requests, so after a failed sync the next one runs in a thread.
    """
    before = service.state_answers
    try:
        if service.store.is_local and before:
            service.catch_up()
        else:
            await anyio.to_thread.run_sync(service.catch_up, abandon_on_cancel=True)
    except StateUnavailableError as error:  # answered from memory, as with one process
        if before:
            logger.error("writes are refused: %s", error)
    except Exception as error:
        logger.error("could not follow the database", exc_info=error)
    else:
        if not before:
            logger.info("the database answers again")
