"""Request limits: body size, rate, and number of waiting requests."""

import math
import time
from collections import OrderedDict
from typing import Final, Literal, TypeAlias

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twotower.service.api.problems import overloaded, problem
from twotower.service.api.turns import OverloadedError, Turns
from twotower.service.settings import ServeSettings

_MOST_CALLERS: Final = 10_000
Caller: TypeAlias = tuple[Literal["key", "address"], str]
"""Owner of a token bucket. The tag keeps an address apart from a key of the same name."""


class BodyLimit:
    """Refuses bodies longer than ``most`` bytes with 413, with or without a stated length."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._too_long = f"the body is longer than {most:,} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count received bytes; a body whose stated length is too long is not read at all."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                raise HTTPException(413, self._too_long)
            return message

        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if lengths and (not lengths[0].isdigit() or int(lengths[0]) > self._most):
            refused = problem(
                413, self._too_long, fix="send less at once", headers={"Connection": "close"}
            )
            await refused(scope, receive, send)
            return
        await self._app(scope, counted, send)


class Admission:
    """Admission queue: 503 if too many requests wait, or one waited too long for its turn.

    Health, readiness and metrics skip the queue. ``scope["state"]["came"]`` holds the arrival time
    of a request, on the monotonic clock.
    """

    def __init__(self, app: ASGIApp, turns: Turns) -> None:
        self._app = app
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        scope["state"]["came"] = came = time.monotonic()
        try:
            await self._turns.take(came)
            await self._app(scope, receive, send)
        except OverloadedError as error:  # of another turn, before there is an answer
            await overloaded(error)(scope, receive, send)


class RateLimit:
    """A token bucket per caller: ``rate`` per second (None for no limit) and ``burst`` at once."""

    def __init__(self, rate: float | None, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._buckets: OrderedDict[Caller, tuple[float, float]] = OrderedDict()

    def wait(self, caller: Caller, now: float | None = None) -> float:
        """Seconds until the caller's next request is allowed; 0 takes a token now."""
        if self._rate is None:
            return 0.0
        now = time.monotonic() if now is None else now
        tokens, since = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[caller] = (tokens if wait else tokens - 1, now)
        if len(self._buckets) > _MOST_CALLERS:  # the one that was silent longest is full again
            self._buckets.popitem(last=False)
        return wait


def share_of_one(settings: ServeSettings) -> ServeSettings:
    """Settings of one process, with its share of the rate limit and burst.

    Connections are spread over the processes, which do not share their counts of callers.
    """
    count = settings.processes
    rate = None if settings.rate_limit is None else settings.rate_limit / count
    burst = math.ceil(settings.rate_burst / count)
    return settings.model_copy(update={"rate_limit": rate, "rate_burst": burst})
