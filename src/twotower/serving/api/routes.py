"""What the routes share: the app's context, scopes, and answers that are written fast."""

from typing import Annotated, Any

import orjson
from fastapi import Depends, Security
from fastapi.security import HTTPBearer
from starlette.requests import Request
from starlette.responses import Response

from twotower.serving.api.auth import Scope
from twotower.serving.api.context import Context
from twotower.serving.api.problems import problem
from twotower.serving.service import Service

_BEARER = HTTPBearer(auto_error=False, description="An API key.")


class RefusedError(Exception):
    """A request is answered with a problem instead."""

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(response.status_code)


async def on_refused(_: Request, error: Exception) -> Response:
    """The problem that a route gave up with."""
    assert isinstance(error, RefusedError)
    return error.response


# Dependencies are coroutines, because the framework runs plain functions in threads.


async def context(request: Request) -> Context:
    """What the app's routes share."""
    found: Context = request.app.state.context
    return found


async def service(request: Request) -> Service:
    """What answers; 503 until it is loaded."""
    found: Service | None = request.app.state.context.service
    if found is None:
        raise RefusedError(problem(503, "the service is starting", fix="wait until /ready says so"))
    return found


def needs(scope: Scope) -> Any:
    """A dependency that lets only keys of at least this scope through."""

    async def check(request: Request, _: Annotated[Any, Security(_BEARER)]) -> None:
        if request.state.scope >= scope:
            return
        name = scope.name.lower()
        if request.state.key is None:
            raise RefusedError(
                problem(
                    401, f"this needs a key of scope {name}",
                    fix="send one as 'Authorization: Bearer KEY'",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            )  # fmt: skip
        raise RefusedError(
            problem(
                403, f"this needs a key of scope {name}", value=request.state.scope.name.lower(),
                fix="use another key",
            )
        )  # fmt: skip

    return Depends(check)


def fast(content: Any, status: int = 200) -> Response:
    """An answer as JSON; dataclasses are written as they are, NaN as null."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def not_found(what: str, fix: str) -> RefusedError:
    """404 for something that the address names."""
    return RefusedError(problem(404, what, fix=fix))


def within(name: str, value: int, most: int) -> None:
    """422 where more is asked for than the service is set to give."""
    if value > most:
        raise RefusedError(
            problem(422, f"{name} must be at most {most}, got {value}", value=value,
                    fix=f"send at most {most}")
        )  # fmt: skip
