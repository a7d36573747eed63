"""Whatever the schema allows and forbids, sent to every route: none may fail unexpectedly."""

import shutil
import threading
import time

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from twotower.service.api.app import create_app
from twotower.service.settings import ServeSettings

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
OPERATIONS = (
    "GET /v1/users/{user_id}/recommendations",
    "POST /v1/recommendations",
    "POST /v1/recommendations/batch",
    "GET /v1/items/{item_id}/similar",
    "GET /v1/search",
    "GET /v1/items/{item_id}",
    "POST /v1/items",
    "PUT /v1/items/{item_id}",
    "POST /v1/items/availability",
    "PUT /v1/items/{item_id}/availability",
    "DELETE /v1/items/{item_id}",
    "PUT /v1/users/{user_id}",
    "POST /v1/events",
    "DELETE /v1/users/{user_id}",
    "GET /v1/users/{user_id}/export",
    "POST /v1/models/interleave",
    "POST /v1/models/shadow",
    "POST /v1/models/split",
    "GET /v1/activity",
    "GET /v1/live",
    "GET /v1/model",
    "POST /v1/models/reload",
    "GET /health",
    "GET /ready",
    "GET /metrics",
)
TAKES_NOTHING = ("GET /v1/model", "GET /health", "GET /ready", "GET /metrics")
CASES = [(label, GenerationMode.POSITIVE) for label in OPERATIONS] + [
    (label, GenerationMode.NEGATIVE) for label in OPERATIONS if label not in TAKES_NOTHING
]


@pytest.fixture(scope="module")
def api(saved_bundle, keys, tmp_path_factory):
    """The service on a port of this machine, its schema, and a session that may do everything."""
    folder = tmp_path_factory.mktemp("fuzzed")
    shutil.copytree(saved_bundle, folder / "bundle")
    given = {"bundle": folder / "bundle", "keys_file": keys[0], "log_requests": False}
    app = create_app(ServeSettings(**given))
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none", loop="asyncio")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    schema = schemathesis.openapi.from_dict(app.openapi())
    with requests.Session() as session:
        session.headers.update(keys[1]["boss"])
        yield schema, f"http://127.0.0.1:{port}", session
    server.should_exit = True
    thread.join()


def test_every_operation_is_named(api) -> None:
    found = {one.ok().label for one in api[0].get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize(("label", "mode"), CASES)
def test_no_route_fails_unexpectedly(api, label, mode) -> None:
    schema, address, session = api
    method, path = label.split()
    operation = schema[path][method]

    @settings(
        max_examples=12, deadline=None, derandomize=True, database=None,
        phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case) -> None:
        case.call_and_validate(base_url=address, session=session, checks=CHECKS)

    check()
