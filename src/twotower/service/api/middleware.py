"""What surrounds every request: its id, its key, its time, its log line, its metrics."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twotower.service.api.auth import ApiKey, find_key
from twotower.service.api.auth import Scope as KeyScope
from twotower.service.api.context import Context, request_id
from twotower.service.api.limits import RateLimit
from twotower.service.api.problems import problem

logger = logging.getLogger(__name__)

_ID: Final = re.compile(r"[\w.-]{1,64}")
OPEN_TO_ALL: Final = frozenset({"/health", "/ready"})
"""Neither keys nor rates count here: what runs the service must always get an answer."""
RELOAD: Final = "/v1/models/reload"
"""It may take longer than other requests."""


class Envelope:
    """Surrounds the app. Whatever happens inside, the caller gets an answer and the log a line.

    Parameters
    ----------
    app
        The app.
    context
        What all requests share.
    keys
        The API keys.
    """

    def __init__(self, app: ASGIApp, context: Context, keys: Sequence[ApiKey]) -> None:
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
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        name = given if _ID.fullmatch(given) else secrets.token_hex(8)
        token = request_id.set(name)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name.encode())]
            await send(message)

        try:
            refused = self._refused(request)
            if refused is not None:
                await refused(scope, receive, answer)
            else:
                async with asyncio.timeout(self._limit(scope["path"])):
                    await self._app(scope, receive, answer)
        except Exception as error:
            response = self._failed(error, self._limit(scope["path"]))
            if not status:
                await response(scope, receive, answer)
        finally:
            self._note(scope, status, time.perf_counter() - began)
            request_id.reset(token)

    def _refused(self, request: Request) -> Response | None:
        """The answer to a request with a wrong key or at too high a rate, else None."""
        if request.scope["path"] in OPEN_TO_ALL:
            return None
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        caller = request.client.host if request.client else "-"
        request.state.scope, request.state.key = self._anonymous, None
        if kind or secret:
            key = find_key(self._keys, secret.strip()) if kind.lower() == "bearer" else None
            if key is None:
                return problem(
                    401, "the key is not known",
                    fix="send a key as 'Authorization: Bearer KEY'",
                    headers={"WWW-Authenticate": "Bearer"},
                )  # fmt: skip
            caller = request.state.key = key.name
            request.state.scope = key.scope
        wait = self._rates.wait(caller)
        if wait > 0:
            return problem(
                429, f"more than {self._context.settings.rate_limit:g} requests a second",
                fix=f"wait {wait:.2f} s",
                headers={"Retry-After": str(max(1, round(wait)))},
            )  # fmt: skip
        return None

    def _limit(self, path: str) -> float:
        settings = self._context.settings
        return settings.reload_timeout_s if path == RELOAD else settings.timeout_s

    def _failed(self, error: Exception, limit: float) -> Response:
        kind = type(error).__name__
        if isinstance(error, TimeoutError):
            logger.warning("a request took too long")
            self._context.metrics.errors.labels("timeout").inc()
            return problem(
                504, f"not answered within {limit:g} s",
                fix="ask for less at once, or try again",
            )  # fmt: skip
        logger.error("a request failed", exc_info=error)
        self._context.metrics.errors.labels(kind).inc()
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
