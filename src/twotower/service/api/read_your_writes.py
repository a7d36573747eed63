"""Whatever another process of the service acknowledged is in every answer that begins later."""

import asyncio
import logging

import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twotower.service.api.context import Context
from twotower.service.service import SYNC_S, Service
from twotower.service.state import StateUnavailableError

logger = logging.getLogger(__name__)


class CatchingUp:
    """Lets a request wait until the process has taken over what the others had written before it.

    Only where there are several processes. While nothing is written it costs a look at a number. A
    database that does not answer within `SYNC_S` is waited for no longer: answers come from memory,
    and `Service.state` is ``stale``.

    Parameters
    ----------
    app
        The app.
    context
        What all requests share.
    number
        Of this process, which every answer names in the header ``x-process``.
    """

    def __init__(self, app: ASGIApp, context: Context, number: int) -> None:
        self._app = app
        self._context = context
        self._header = (b"x-process", str(number).encode())
        self._running: asyncio.Task[None] | None = None
        self._began = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service = self._context.service
        if service is not None and scope["path"].startswith("/v1/"):
            written = service.written
            if service.caught_up_with < written:
                await self._catch_up(service, written)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self._header]
            await send(message)

        await self._app(scope, receive, answer)

    async def _catch_up(self, service: Service, written: int) -> None:
        """Wait until so many writes are taken over. Requests that wait share one look."""
        if service.store.is_local:  # there is no waiting
            await look(service)
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SYNC_S
        for _ in range(2):  # the look that is under way may have begun too early
            if self._running is None or self._running.done():
                self._running = asyncio.create_task(look(service))
                self._began = loop.time()
            patience = min(deadline, self._began + SYNC_S) - loop.time()
            await asyncio.wait([self._running], timeout=max(0.0, patience))
            if service.caught_up_with >= written or not self._running.done():
                return


async def look(service: Service) -> None:
    """Take over what was written, and log when the database goes and comes.

    Not in one of the workers that batches may hold: every request may be waiting for this. A file
    is read here and now: by a thread it takes several times as long, since the two hand the
    interpreter to each other with every call of the database. A locked file would hold up all
    requests: where the last look was in vain, the next is by a thread.
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
