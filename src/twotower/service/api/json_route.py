"""Fast JSON routes: bodies are validated without the framework's dependency resolution."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import cached_property
from inspect import iscoroutinefunction, isfunction, signature
from typing import Any, Final, get_args, get_origin, get_type_hints

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from twotower.service.api.context import OPEN_TO_ALL
from twotower.service.api.problems import RefusedError

_JSON: Final = (b"content-type", b"application/json")
Endpoint = Callable[..., Awaitable[Response]]


class JsonRoute(APIRoute):
    """A FastAPI route with a fast path for valid JSON bodies.

    A valid JSON body goes straight from Pydantic to the endpoint. FastAPI would use another parser
    and resolve dependencies, which takes a sixth of a whole request's time. FastAPI still describes
    the route and answers invalid bodies with its own errors. Only for endpoints that take a model
    and the request and return a response; others are left to FastAPI.

    Every dependency of the route runs first, whatever the content type. If one takes more than the
    request, or the route belongs to a router that an app includes (which may add dependencies),
    FastAPI handles everything.
    """

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        model = _body(endpoint)
        self._body = None if model is None else TypeAdapter(model)
        self._router: object = None  # the app's, where that holds the route itself

    @property
    def is_direct(self) -> bool:
        """Whether valid bodies go straight to the endpoint."""
        return self._body is not None and self.checks is not None

    @cached_property
    def checks(self) -> list[Callable[[Request], Awaitable[object]]] | None:
        """The route's dependencies; None if one of them is not a coroutine of the request."""
        found = []
        for dependency in self.dependant.dependencies:
            call: Any = dependency.call
            takes_request = dependency.request_param_name or dependency.http_connection_param_name
            if (
                call is None
                or not takes_request
                or len(signature(call).parameters) != 1
                or not iscoroutinefunction(call if isfunction(call) else type(call).__call__)
            ):
                return None
            found.append(call)
        return found

    @cached_property
    def parameters(self) -> dict[str, None]:
        """Names of the query parameters of the route and its dependencies."""
        return dict.fromkeys(_query_names(self.dependant))

    @cached_property
    def lists(self) -> frozenset[str]:
        """Query parameters that may be repeated."""
        kinds = {field.alias: field.field_info.annotation for field in self.dependant.query_params}
        return frozenset(name for name, kind in kinds.items() if _is_list(kind))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["router"] is not self._router:
            routes = scope["router"].routes
            self._router = scope["router"] if any(route is self for route in routes) else None
        if self._router is None or scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive)
        for check in self.checks or ():
            await check(request)
        if scope["query_string"] and scope["path"] not in OPEN_TO_ALL:
            self._check_query(request)
        if self.body_field is None:
            await super().handle(scope, receive, send)
            return
        body = await _read(receive)
        if self._body is None or self.checks is None or _JSON not in scope["headers"]:
            await super().handle(scope, _again(body), send)
            return
        try:
            wanted = self._body.validate_json(body)
        except ValidationError:
            await super().handle(scope, _again(body), send)
            return
        response = await self.endpoint(wanted, request)
        await response(scope, receive, send)

    def _check_query(self, request: Request) -> None:
        """`RefusedError` at an unknown or repeated query parameter."""
        counts = Counter(name for name, _ in request.query_params.multi_items())
        for name, count in counts.items():
            if name not in self.parameters:
                wanted = ", ".join(self.parameters) or "no parameters"
                takes = f"it takes {wanted}"
                if self.body_field is not None:
                    takes += " in its address, and a JSON body: see /docs"
                elif self.path.endswith("/recommendations"):
                    takes += "; POST /v1/recommendations takes filters"
                what = f"{name[:100]}: not a parameter of this request"
                raise RefusedError(422, what, fix=takes)
            if count > 1 and name not in self.lists:
                values = ", ".join(request.query_params.getlist(name))
                what = f"{name} is given {count} times"
                raise RefusedError(422, what, value=values, fix="give it once")


def _body(endpoint: Endpoint) -> type[BaseModel] | None:
    """The body model of an endpoint whose only parameters are a model and the request, or None."""
    hints = get_type_hints(endpoint)
    kinds = [hints[name] for name in signature(endpoint).parameters]
    if len(kinds) == 2 and isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel):
        return kinds[0] if kinds[1] is Request else None
    return None


def _is_list(kind: Any) -> bool:
    """Whether an annotation is a list or an optional list."""
    return any(get_origin(part) is list for part in (kind, *get_args(kind)))


def _query_names(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for dependency in dependant.dependencies:
        yield from _query_names(dependency)


async def _read(receive: Receive) -> bytes:
    """The body, as `Request.body` reads it, without an asynchronous generator around it."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _again(body: bytes) -> Receive:
    """A `Receive` that replays a body already read."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
