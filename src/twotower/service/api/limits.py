"""Limits of request bodies, request rates, and of how many requests wait."""

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
"""Who has a bucket. An address must not share that of a key which is named like it."""


class BodyLimit:
    """Refuses bodies that are longer than ``most`` bytes with 413, however they are sent."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._too_long = f"the body is longer than {most:,} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what is received; where its length is stated, a long body is not read at all."""
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
    """Lets a request wait for its turn; 503 where too many wait, or it has waited too long.

    Health, readiness and metrics take no turn. ``scope["state"]["came"]`` tells the app when a
    request came, by the monotonic clock.
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
    """A token bucket for each caller: ``rate`` per second, None for any, and ``burst`` at once."""

    def __init__(self, rate: float | None, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._buckets: OrderedDict[Caller, tuple[float, float]] = OrderedDict()

    def wait(self, caller: Caller, now: float | None = None) -> float:
        """Seconds until the caller's next request is welcome; 0 takes a token now."""
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
    """The settings of one of the processes: with its share of the rate, and of the burst.

    Connections are spread over the processes, which do not tell each other who has come.
    """
    count = settings.processes
    rate = None if settings.rate_limit is None else settings.rate_limit / count
    burst = math.ceil(settings.rate_burst / count)
    return settings.model_copy(update={"rate_limit": rate, "rate_burst": burst})
