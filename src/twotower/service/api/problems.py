"""Errors as problem details (RFC 9457), with what is wrong, the value seen, and the fix."""

import json
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from twotower.config import first_problem, known_keys
from twotower.errors import ArtefactError, InputError, TwoTowerError
from twotower.service.api.context import request_id
from twotower.service.api.turns import OverloadedError
from twotower.service.state import StateConflictError, StateUnavailableError

MEDIA_TYPE: Final = "application/problem+json"
_LONGEST: Final = 200

TITLES: Final = {
    400: "The body cannot be read",
    401: "A key is needed",
    403: "The key does not allow this",
    404: "Not found",
    405: "The method is not allowed here",
    408: "The request did not come in time",
    409: "There is something else already",
    413: "The body is too long",
    422: "The request cannot be used",
    429: "Too many requests",
    431: "The headers are too long",
    500: "Something went wrong",
    503: "Not possible at the moment",
    504: "It took too long",
}


class Problem(BaseModel):
    """Why a request was not answered (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:twotower:problem:422",
                "title": TITLES[422],
                "status": 422,
                "detail": "k: Input should be greater than or equal to 1",
                "value": "0",
                "fix": "see /docs for what this request takes",
                "request_id": "4f1c2a90b7d34e0c",
            }
        }
    )

    type: str
    """Stable identifier of the kind of problem."""
    title: str
    """The kind of problem in words."""
    status: int
    """The response's status code."""
    detail: str
    """What is wrong."""
    value: str | None = Field(None)
    """The value received, cut to 200 characters."""
    fix: str | None = None
    """How to fix it."""
    request_id: str
    """Id of the request in the log."""


def problem(
    status: int,
    detail: str,
    *,
    value: object = None,
    fix: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """A problem as a response. ASCII only: the input may be invalid Unicode."""
    content = {
        "type": f"urn:twotower:problem:{status}",
        "title": TITLES.get(status, "The request was not answered"),
        "status": status,
        "detail": detail[: 5 * _LONGEST],
        "value": None if value is None else str(value)[:_LONGEST],
        "fix": fix,
        "request_id": request_id.get(),
    }
    return Response(json.dumps(content), status, headers=headers, media_type=MEDIA_TYPE)


class RefusedError(Exception):
    """Raised to answer a request with a `problem`."""

    def __init__(self, status: int, detail: str, **about: Any) -> None:
        self.response = problem(status, detail, **about)
        super().__init__(status)


def key_needed(detail: str, scope: str) -> RefusedError:
    """401 with instructions to create a key; the same whether or not the service has any."""
    fix = f"send one as 'Authorization: Bearer KEY'; {key_is_made(scope)}"
    return RefusedError(401, detail, fix=fix, headers={"WWW-Authenticate": "Bearer"})


def key_is_made(scope: str) -> str:
    """The commands that create a key of a scope and pass it to the service."""
    return (
        f"the service's operator makes one with 'twotower key NAME --scope {scope} --keys FILE', "
        "and serves with '--keys FILE'"
    )


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI descriptions of the problems that a route may return."""
    common = (401, 403, 408, 413, 422, 429, 503, 504)
    return {
        status: {
            "description": TITLES[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*common, 400, *statuses})
    }


async def on_validation_error(request: Request, error: Exception) -> Response:
    """422 for input that does not fit the schema (400 if it is not JSON); names the first error."""
    assert isinstance(error, RequestValidationError)
    first = first_problem(error.errors())
    place = first.place.removeprefix("body").removeprefix(".") or "body"
    if first.kind == "json_invalid":
        return problem(400, "the body is not JSON", fix="send a JSON object in UTF-8")
    if place == "body" and isinstance(first.value, bytes):
        fix = "send a JSON object with 'Content-Type: application/json'"
        return problem(422, "the body is not marked as JSON", fix=fix)
    more = f" (and {first.others} more)" if first.others else ""
    field = getattr(request.scope.get("route"), "body_field", None)
    body = None if field is None else field.field_info.annotation
    known = known_keys(first._replace(path=first.path[1:]), body)
    fix = known or "see /docs for what this request takes"
    if first.kind == "string_type" and type(first.value) in (int, float):
        fix = f'send it as text, in quotes: "{first.value}"'
    return problem(422, f"{place}: {first.what}{more}", value=_shown(first.value), fix=fix)


async def on_refused(_: Request, error: Exception) -> Response:
    """The problem that a route raised."""
    assert isinstance(error, RefusedError)
    return error.response


async def on_http_error(request: Request, error: Exception) -> Response:
    """Errors raised by the framework itself."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    headers = dict(error.headers or {})
    if status == 404:
        return problem(404, "there is nothing at this address", fix="see /docs for the addresses")
    if status == 405:
        return problem(405, f"{request.method} is not possible here", headers=headers)
    if status == 400:
        return problem(400, "the body is not JSON", fix="send a JSON object in UTF-8")
    return problem(status, str(error.detail), headers=headers)


def overloaded(error: OverloadedError) -> Response:
    """503 for an overloaded service."""
    return problem(
        503, f"too busy: {error}", fix="send it again as Retry-After says, or fewer at once",
        headers={"Retry-After": "1"},
    )  # fmt: skip


async def on_our_error(_: Request, error: Exception) -> Response:
    """Errors of this package."""
    assert isinstance(error, TwoTowerError)
    if isinstance(error, OverloadedError):
        return overloaded(error)
    if isinstance(error, InputError):
        return problem(422, error.what, fix=error.fix)
    if isinstance(error, StateConflictError):
        return problem(409, error.what, fix=error.fix)
    if isinstance(error, StateUnavailableError):
        return problem(
            503, str(error), fix="try again; what was sent twice counts once",
            headers={"Retry-After": "1"},
        )  # fmt: skip
    if isinstance(error, ArtefactError):
        return problem(422, str(error), fix="the bundle that was served before goes on")
    return problem(500, "something went wrong", fix="look for the request id in the log")


def _shown(value: object) -> str | None:
    """A short form of the input, without traversing all of it."""
    if value is None:
        return None
    if isinstance(value, dict | list):
        return f"{type(value).__name__} of {len(value)}"
    return str(value)[:_LONGEST] if isinstance(value, str) else repr(value)[:_LONGEST]
