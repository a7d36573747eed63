"""Middleware of every request: id, API key, rate limit, timeout, log line, metrics."""

import asyncio
import logging
import random
import re
import time
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twotower.service.api.auth import KeysFile
from twotower.service.api.auth import Scope as KeyScope
from twotower.service.api.context import OPEN_TO_ALL, Context, request_id
from twotower.service.api.limits import Caller, RateLimit
from twotower.service.api.problems import key_needed, problem

logger = logging.getLogger(__name__)

_ID: Final = re.compile(r"[\w.-]{1,64}")
CLIENT_LEFT: Final = 499
"""Status logged and counted if a client disconnects before sending its body, as in nginx."""
RELOAD: Final = "/v1/models/reload"
_LONG: Final = frozenset({RELOAD, "/v1/models/split", "/v1/models/interleave", "/v1/models/shadow"})
"""Routes that load a bundle and may take longer than others."""


class Envelope:
    """Outermost middleware: whatever happens inside, the caller gets a response and a log line."""

    def __init__(self, app: ASGIApp, context: Context, keys: KeysFile) -> None:
        self._app = app
        self._context = context
        self._keys = keys
        settings = context.settings
        self._anonymous = KeyScope.READ if settings.reading_is_free else KeyScope.NONE
        self._rates = RateLimit(settings.rate_limit, settings.rate_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        name = given if _ID.fullmatch(given) else f"{random.getrandbits(64):016x}"
        token = request_id.set(name)
        settings = self._context.settings
        limit = settings.reload_timeout_s if scope["path"] in _LONG else settings.timeout_s
        scope.setdefault("state", {})["deadline"] = asyncio.get_running_loop().time() + limit
        status, arrived = 0, True

        async def receiving() -> Message:
            nonlocal arrived
            arrived = False  # so long as this waits
            message = await receive()
            arrived = True
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name.encode())]
            await send(message)

        try:
            refused = self._refused(scope, headers)
            if refused is not None:
                await refused(scope, receive, answer)
            else:
                async with asyncio.timeout(limit):
                    await self._app(scope, receiving, answer)
        except ClientDisconnect:
            status = status or CLIENT_LEFT
        except Exception as error:
            response = self._failed(error, limit) if arrived else _late(limit)
            if not status:
                await response(scope, receive, answer)
        finally:
            self._note(scope, status, time.perf_counter() - began)
            request_id.reset(token)

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request with a wrong key or at too high a rate, else None."""
        if scope["path"] in OPEN_TO_ALL:
            return None
        kind, _, secret = headers.get("authorization", "").partition(" ")
        client = scope.get("client")
        caller: Caller = ("address", client[0] if client else "-")
        state = scope["state"]
        state["scope"], state["key"] = self._anonymous, None
        key = self._keys.find(secret.strip()) if kind.lower() == "bearer" else None
        if key is not None:
            caller = ("key", key.name)
            state["scope"], state["key"] = key.scope, key.name
        wait = self._rates.wait(caller)  # a wrong key costs its sender's address a request
        if wait > 0:
            return problem(
                429, f"more than {self._context.settings.rate_limit:g} requests a second",
                fix=f"wait {wait:.2f} s",
                headers={"Retry-After": str(max(1, round(wait)))},
            )  # fmt: skip
        if key is None and (kind or secret):
            return key_needed("the key is not known", "read").response
        return None

    def _failed(self, error: Exception, limit: float) -> Response:
        if isinstance(error, TimeoutError):
            logger.warning("a request took too long")
            self._context.metrics.errors.labels("timeout").inc()
            fix = "ask for less at once, or try again"
            return problem(504, f"not answered within {limit:g} s", fix=fix)
        logger.error("a request failed", exc_info=error)
        self._context.metrics.errors.labels(type(error).__name__).inc()
        return problem(500, "something went wrong", fix="look for the request id in the log")

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path_format", "none")
        self._context.metrics.answered(route, status, seconds)
        if self._context.settings.log_requests:
            fields = {
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(1000 * seconds, 3),
                "key": scope.get("state", {}).get("key"),
            }
            logger.info("request", extra={"fields": fields})


def _late(limit: float) -> Response:
    """Response to a client that does not send its body in time; not a server error."""
    return problem(
        408, f"no whole body within {limit:g} s", fix="send it at once",
        headers={"Connection": "close"},
    )  # fmt: skip
