"""Routes that read a JSON body, without what the framework does between the body and the answer."""

from collections.abc import Awaitable, Callable
from inspect import signature
from typing import Any, Final, get_type_hints

from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

_JSON: Final = (b"content-type", b"application/json")
Endpoint = Callable[..., Awaitable[Response]]


class JsonRoute(APIRoute):
    """A route that FastAPI describes, and answers whatever comes otherwise than usual.

    Usual is a body of JSON that fits. It goes from Pydantic to the endpoint, where FastAPI would
    parse it by another parser and resolve dependencies, for a sixth of the time of a whole
    request. What does not fit FastAPI refuses, in its own words. Only for endpoints that take a
    model and the request and answer with a response; the others are FastAPI's alone.

    Attributes
    ----------
    checks
        The route's dependencies, asked before the body is read.
    """

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        model = _body(endpoint)
        self._body = None if model is None else TypeAdapter(model)
        self.checks = [one.dependency for one in options.get("dependencies") or ()]

    @property
    def is_direct(self) -> bool:
        """Whether bodies that fit go straight to the endpoint."""
        return self._body is not None

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        usual = scope["method"] in (self.methods or ()) and _JSON in scope["headers"]
        if self._body is None or not usual:
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive)
        for check in self.checks:
            await check(request)
        body = await request.body()
        try:
            wanted = self._body.validate_json(body)
        except ValidationError:
            await super().handle(scope, _again(body), send)
            return
        response = await self.endpoint(wanted, request)
        await response(scope, receive, send)


def _body(endpoint: Endpoint) -> type[BaseModel] | None:
    """The model that an endpoint takes first, where it takes the request second and no more."""
    hints = get_type_hints(endpoint)
    kinds = [hints[name] for name in signature(endpoint).parameters]
    if len(kinds) == 2 and isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel):
        return kinds[0] if kinds[1] is Request else None
    return None


def _again(body: bytes) -> Receive:
    """A body that was read already."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
