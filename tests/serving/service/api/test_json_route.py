import asyncio

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Message

from twotower.service.api import items, operations, recommend
from twotower.service.api.app import create_app
from twotower.service.api.auth import Scope
from twotower.service.api.json_route import JsonRoute
from twotower.service.api.problems import RefusedError
from twotower.service.settings import ServeSettings

DIRECT = {
    "/v1/items/availability",
    "/v1/recommendations",
    "/v1/recommendations/batch",
    "/v1/items",
    "/v1/events",
    "/v1/models/reload",
    "/v1/models/interleave",
    "/v1/models/shadow",
    "/v1/models/split",
}
"""Routes that take a JSON body and nothing else."""
BODIES = [
    b'{"history": ["item-03"], "k": 3}',
    b'{"history": ["item-03"], "k": "3"}',
    b'{"history": [], "k": 0}',
    b'{"history": ["item-03"], "unknown": 1}',
    b'{"history": ["item-03"]',
    b"[]",
    b"",
    b"null",
    b'{"user_id": "\\ud800"}',
    b'{"user_id": "\xff"}',
    b'{"text": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"k": 1e400, "text": "game"}',
    b'{"text": "game 17", "filters": {"max_price": NaN}}',
    b'\xef\xbb\xbf{"history": ["item-03"], "k": 3}',
]


@pytest.fixture(scope="module")
def app(saved_bundle) -> FastAPI:
    return create_app(ServeSettings(bundle=saved_bundle, state_url="sqlite://", poll_s=60))


def test_bodies_go_straight_to_these_routes(app) -> None:
    direct = {one.path for one in app.routes if isinstance(one, JsonRoute) and one.is_direct}
    assert direct == DIRECT


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:40]))
def test_an_answer_is_the_one_that_the_framework_gives(client, monkeypatch, body) -> None:
    def answer() -> tuple[int, object]:
        headers = {"Content-Type": "application/json", "X-Request-ID": "same"}
        found = client.post("/v1/recommendations", content=body, headers=headers)
        content = found.json()
        content.pop("recommendation_id", None)  # of this answer alone
        return found.status_code, content

    straight = answer()
    monkeypatch.setattr(JsonRoute, "handle", APIRoute.handle)
    assert straight == answer()


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("application/vnd.shop+json", 200),
        ("text/plain", 422),
        (None, 422),
    ],
)
def test_only_json_is_read(client, kind, status) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    content = b'{"history": ["item-03"]}'
    assert (
        client.post("/v1/recommendations", content=content, headers=headers).status_code == status
    )


def test_the_key_is_looked_at_before_the_body(client, keys) -> None:
    for header, status in (({"Authorization": ""}, 401), (keys[1]["reader"], 403)):
        answer = client.post("/v1/items", content=b'{"item_id": "n"}', headers={
            "Content-Type": "application/json", **header,
        })  # fmt: skip
        assert answer.status_code == status


def test_other_methods_are_refused(client) -> None:
    assert client.get("/v1/recommendations").status_code == 405


def test_a_dependency_of_the_router_is_asked() -> None:
    """Where it would be forgotten, everybody could do everything."""
    for router in (items.router, operations.router, recommend.router):
        for route in router.routes:
            if isinstance(route, JsonRoute) and route.is_direct:
                assert len(route.checks or ()) == len(route.dependencies) == 1


class Body(BaseModel):
    number: int


async def refuse(request: Request) -> None:
    raise HTTPException(403)


async def needs_a_parameter(request: Request, key: str) -> None:
    if key != "right":
        raise HTTPException(403)


@pytest.mark.parametrize("dependency", [refuse, needs_a_parameter])
@pytest.mark.parametrize("level", ["route", "router", "include"])
def test_every_dependency_is_asked_wherever_it_was_added(level, dependency) -> None:
    asked = {name: [Depends(dependency)] if name == level else [] for name in
             ("route", "router", "include")}  # fmt: skip
    router = APIRouter(route_class=JsonRoute, dependencies=asked["router"])

    @router.post("/double", dependencies=asked["route"])
    async def doubled(wanted: Body, request: Request) -> Response:
        return Response(str(2 * wanted.number))

    app = FastAPI()
    if level == "include":
        app.include_router(router, dependencies=asked["include"])
    else:
        app.router.routes += router.routes
    client = TestClient(app)
    assert client.post("/double?key=wrong", json={"number": 2}).status_code == 403
    if dependency is needs_a_parameter:
        assert client.post("/double?key=right", json={"number": 2}).text == "4"


def test_what_takes_more_than_a_body_is_left_to_the_framework() -> None:
    router = APIRouter(route_class=JsonRoute)

    @router.post("/sum/{first}")
    async def added(first: int, second: int) -> int:
        return first + second

    app = FastAPI()
    app.router.routes += router.routes
    assert TestClient(app).post("/sum/3?second=4").json() == 7


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "text/plain", None]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/items"), ("PUT", "/v1/items/x"), ("PUT", "/v1/items/x/availability"),
     ("POST", "/v1/items/availability"),
     ("POST", "/v1/recommendations"), ("POST", "/v1/models/reload")],
)  # fmt: skip
def test_no_body_is_read_before_the_key_is_checked(app, method, path, kind) -> None:
    """`app` reads without keys, so that each of these reaches its route."""
    read = []

    async def receive() -> Message:
        read.append(True)
        return {"type": "http.request", "body": b"{}", "more_body": True}

    answered = []

    async def send(message: Message) -> None:
        answered.append(message)

    headers = [] if kind is None else [(b"content-type", kind.encode())]
    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"", "headers": headers,
        "state": {"scope": Scope.NONE, "key": None}, "app": app,
    }  # fmt: skip
    with pytest.raises(RefusedError):
        asyncio.run(app.router(scope, receive, send))
    assert read == answered == []
