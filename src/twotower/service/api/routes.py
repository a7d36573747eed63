"""Helpers of the routes: the app's context, scopes, and JSON responses."""

from typing import Any

import orjson
from fastapi import Security
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from twotower.service.api.auth import Scope
from twotower.service.api.context import Context
from twotower.service.api.problems import RefusedError, key_is_made, key_needed
from twotower.service.api.rules import USUAL_RATINGS, rating_scale
from twotower.service.service import Service

# Not FastAPI dependencies: resolving one takes longer than a stage of a request.


def context(request: Request) -> Context:
    """State shared by the app's routes."""
    found: Context = request.app.state.context
    return found


def served(request: Request) -> tuple[Context, Service]:
    """State shared by the app's routes, and the service; 503 until it is loaded."""
    shared = context(request)
    if shared.service is None:
        raise RefusedError(503, "the service is starting", fix="wait until /ready says so")
    return shared, shared.service


class _Needs(HTTPBearer):
    """A dependency that requires a key of at least this scope.

    The envelope has already looked up the key; as a security scheme, this also appears in the
    OpenAPI document.
    """

    def __init__(self, scope: Scope) -> None:
        super().__init__(auto_error=False, description="An API key.", scheme_name="HTTPBearer")
        self._scope = scope

    async def __call__(self, request: HTTPConnection) -> None:
        if request.state.scope >= self._scope:
            return
        name = self._scope.name.lower()
        if request.state.key is None:
            raise key_needed(f"this needs a key of scope {name}", name)
        raise RefusedError(
            403, f"this needs a key of scope {name}", value=request.state.scope.name.lower(),
            fix=f"use another key; {key_is_made(name)}",
        )  # fmt: skip


def needs(scope: Scope) -> Any:
    """A dependency that requires a key of at least this scope."""
    return Security(_Needs(scope))


def fast(content: Any, status: int = 200) -> Response:
    """A JSON response; dataclasses are serialised directly, NaN as null."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def unknown_item(item_id: str) -> RefusedError:
    """404 for an unknown item in the URL."""
    fix = "search for it: /v1/search?q=title"
    return RefusedError(404, f"unknown item {item_id!r}", fix=fix)


def within(name: str, value: int, most: int) -> None:
    """422 if a value exceeds the service's limit."""
    if value > most:
        what = f"{name} must be at most {most}, got {value}"
        raise RefusedError(422, what, value=value, fix=f"send at most {most}")


def check_rating(service: Service, name: str, rating: float | None) -> None:
    """422 if `prepare` would reject a rating."""
    if rating is None:
        return
    scale = service.pipeline.contents.info.rating_scale
    log = service.pipeline.rating_range
    if scale is None and log is None:  # then no rating is trained on
        return
    low, high = scale or rating_scale(log or USUAL_RATINGS)
    if not low <= rating <= high:
        what = f"{name}: {rating:g} is not on the scale of the training log"
        raise RefusedError(422, what, value=rating, fix=f"send {low:g} to {high:g}")
