import json
import logging
import re
import shutil
import time
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from twotower.bundle import save_bundle
from twotower.errors import InputError
from twotower.inference import Pipeline
from twotower.service.api.logs import JsonLines
from twotower.service.state import StateUnavailableError


def samples(client) -> dict:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (one.name, *sorted(one.labels.items())): one.value
        for family in families
        for one in family.samples
    }


def test_health_readiness_and_model(client, open_contents) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    ready = client.get("/ready").json()
    assert ready["status"] == "ready"
    assert ready["state"] == "up"
    model = client.get("/v1/model").json()
    assert model["model_version"] == ready["model_version"]
    assert (model["users"], model["items"], model["items_added"]) == (12, 60, 0)
    assert model["index"] == {"kind": "exact"}
    assert model["takes_new_items"] is True


def test_what_is_counted(client) -> None:
    client.get("/v1/users/user-03/recommendations")
    client.post("/v1/recommendations", json={"history": ["item-01"], "rerank": True})
    client.get("/v1/users/eve/recommendations?strict=true")
    client.get("/nowhere")
    event = {
        "event_id": "e",
        "user_id": "u",
        "item_id": "i",
        "kind": "buy",
        "occurred_at": 1_700_000_000_000,
    }
    for _ in range(2):
        client.post("/v1/events", json={"events": [event]})
    counted = samples(client)
    route = ("route", "/v1/users/{user_id}/recommendations")
    assert counted["twotower_requests_total", route, ("status", "200")] == 1
    assert counted["twotower_requests_total", route, ("status", "404")] == 1
    assert counted["twotower_requests_total", ("route", "none"), ("status", "404")] == 1
    assert counted["twotower_request_seconds_count", route] == 2
    assert counted["twotower_recommended_users_total", ("kind", "known")] == 1
    assert counted["twotower_recommended_users_total", ("kind", "new")] == 1
    for stage in ("encode", "search", "present"):
        assert counted["twotower_stage_seconds_count", ("stage", stage)] == 2
    assert counted["twotower_stage_seconds_count", ("stage", "rerank")] == 1
    assert counted["twotower_events_total", ("recorded", "new")] == 1
    assert counted["twotower_events_total", ("recorded", "again")] == 1
    assert counted["twotower_items",] == 60
    assert counted["twotower_state_up",] == 1


def test_openapi_has_examples_and_problems(client) -> None:
    document = client.get("/openapi.json").json()
    assert {path for path in document["paths"] if path.startswith("/v1")} == {
        "/v1/users/{user_id}/recommendations",
        "/v1/recommendations",
        "/v1/recommendations/batch",
        "/v1/items/{item_id}/similar",
        "/v1/search",
        "/v1/items/{item_id}",
        "/v1/items",
        "/v1/items/availability",
        "/v1/items/{item_id}/availability",
        "/v1/events",
        "/v1/live",
        "/v1/models/interleave",
        "/v1/models/shadow",
        "/v1/models/split",
        "/v1/users/{user_id}",
        "/v1/users/{user_id}/export",
        "/v1/model",
        "/v1/activity",
        "/v1/models/reload",
    }
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            assert described["description"], (path, method)
            body = described.get("requestBody")
            if body:
                ref = body["content"]["application/json"]["schema"]["$ref"]
                assert "example" in schemas[ref.rpartition("/")[2]], (path, method)
            if path.startswith("/v1"):
                problem = described["responses"]["422"]["content"]["application/problem+json"]
                assert problem["schema"]["$ref"] == "#/components/schemas/Problem"
                assert described["security"] == [{"HTTPBearer": []}]
    assert "Problem" in schemas


def test_the_examples_are_answered(client) -> None:
    """Every example fits its own schema: the service refuses none of them as malformed."""
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            body = described.get("requestBody")
            if body:
                ref = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                address = path.format(item_id="item-07", user_id="user-03")
                answer = client.request(method, address, json=schemas[ref]["example"])
                malformed = "see /docs" in (answer.json().get("fix") or "")
                assert not malformed, answer.text


def test_the_documentation_needs_no_other_host(client) -> None:
    page = client.get("/docs").text
    assert "://" not in page.replace("http://www.w3.org", "")
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"/docs-files/{name}" in page
        assert client.get(f"/docs-files/{name}").status_code == 200


def test_the_examples_are_of_the_bundle(client, open_contents) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert schemas["RecommendRequest"]["example"]["history"] == list(open_contents.items.ids[:2])
    for path in ("/v1/recommendations", "/v1/recommendations/batch"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        example = schemas[body["schema"]["$ref"].rpartition("/")[2]]["example"]
        answer = client.post(path, json=example)
        assert answer.status_code == 200, answer.text


def test_activity_counts_events_by_hour_and_names_reloads(client) -> None:
    event = {"user_id": "u", "item_id": "item-01", "occurred_at": time.time_ns() // 1_000_000}
    events = [
        event | {"event_id": f"e{n}", "kind": kind}
        for n, kind in enumerate(["view", "view", "buy"])
    ]
    assert client.post("/v1/events", json={"events": events}).is_success
    assert client.post("/v1/models/reload", json={}).is_success
    found = client.get("/v1/activity").json()
    assert sum(one["events"] for one in found["events"] if one["kind"] == "view") == 2
    assert [one["outcome"] for one in found["reloads"]] == ["swapped"]
    assert client.get("/v1/activity", params={"hours": 0}).status_code == 422


def other_bundle(contents, weights, folder, seed=1) -> None:
    save_bundle(folder, contents, {name: array + seed for name, array in weights.items()})


def test_reload_swaps_the_bundle_and_keeps_what_was_added(
    client, open_contents, weights, tmp_path
) -> None:
    client.post("/v1/items", json={"item_id": "n1", "title": "Game 100"})
    event = {
        "event_id": "e",
        "user_id": "bob",
        "item_id": "n1",
        "kind": "buy",
        "occurred_at": 1_700_000_000_000,
    }
    client.post("/v1/events", json={"events": [event]})
    before = client.get("/v1/model").json()["model_version"]
    other_bundle(open_contents, weights, tmp_path / "bundle")
    answer = client.post("/v1/models/reload", json={})
    assert answer.status_code == 200
    assert answer.json()["model_version"] != before
    assert client.get("/v1/items/n1").json()["source"] == "added"
    assert client.get("/v1/users/bob/recommendations").status_code == 200
    other_bundle(open_contents, weights, tmp_path / "next", seed=2)
    named = client.post("/v1/models/reload", json={"bundle": "next"})
    assert named.json()["model_version"] != answer.json()["model_version"]
    assert samples(client)["twotower_reloads_total", ("outcome", "swapped")] == 2


def test_a_bundle_of_other_items_is_served_with_a_warning(
    client, open_contents, weights, tmp_path, caplog
) -> None:
    other_bundle(open_contents, weights, tmp_path / "bundle")
    assert client.post("/v1/models/reload", json={}).is_success
    assert "of the items of the bundle before it" not in caplog.text
    catalogue = open_contents.catalogue
    ids = [f"other-{row}" if row % 4 else name for row, name in enumerate(catalogue["item_id"])]
    others = replace(open_contents, catalogue=catalogue.with_columns(item_id=pl.Series(ids)))
    other_bundle(others, weights, tmp_path / "next", seed=2)
    assert client.post("/v1/models/reload", json={"bundle": "next"}).is_success
    assert "it has 25% of the items of the bundle before it" in caplog.text


def corrupt(folder, saved):
    path = folder / "item_vectors.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(folder, saved):
    path = folder / "catalogue.parquet"
    path.write_bytes(path.read_bytes()[:-10])


def remove(folder, saved):
    (folder / "index.json").unlink()


def mix(folder, saved):
    (folder / "towers.safetensors").write_bytes((saved / "towers.safetensors").read_bytes())


def break_manifest(folder, saved):
    (folder / "manifest.json").write_text("{")


def empty(folder, saved):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("damage", [corrupt, truncate, remove, mix, break_manifest, empty])
def test_a_bad_bundle_is_refused_and_the_old_one_goes_on(
    client, open_contents, weights, tmp_path, saved_bundle, damage
) -> None:
    other_bundle(open_contents, weights, tmp_path / "next")
    damage(tmp_path / "next", saved_bundle)
    before = client.get("/v1/model").json()
    answer = client.post("/v1/models/reload", json={"bundle": "next"})
    assert answer.status_code == 422
    assert re.match("next[/ ]", answer.json()["detail"])
    assert str(tmp_path) not in answer.text
    assert client.get("/v1/model").json() == before
    assert client.get("/v1/users/user-03/recommendations").status_code == 200


def test_a_bundle_that_answers_nonsense_is_refused(
    client, open_contents, weights, tmp_path, linear_tower, tower_weights
) -> None:
    bad = {name: np.full_like(weight, np.nan) for name, weight in tower_weights.items()}
    broken = replace(open_contents, user_tower=linear_tower(bad))
    save_bundle(tmp_path / "next", broken, weights)
    answer = client.post("/v1/models/reload", json={"bundle": "next"})
    assert answer.status_code == 422
    assert "does not answer a request" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["../bundle", "a/b", "", ".hidden", "x" * 200, "/etc"])
def test_reload_reads_beside_the_bundle_only(client, name) -> None:
    answer = client.post("/v1/models/reload", json={"bundle": name})
    assert answer.status_code == 422
    assert "must be the name of a folder" in answer.json()["detail"]


def test_one_reload_at_a_time(client) -> None:
    service = client.app.state.context.service
    with service._reloading:
        answer = client.post("/v1/models/reload", json={})
    assert answer.status_code == 409


def test_without_the_database_reads_go_on_and_writes_are_refused(client, monkeypatch) -> None:
    service = client.app.state.context.service
    new = {"item_id": "n1", "title": "Game"}

    def gone(*_):
        raise StateUnavailableError("the state database does not answer (OperationalError)")

    with monkeypatch.context() as patch:
        for name in ("create_item", "put_item", "changes", "add_events"):
            patch.setattr(service.store, name, gone)
        answer = client.post("/v1/items", json=new)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        with pytest.raises(StateUnavailableError):
            service.catch_up()
        assert client.get("/ready").json()["state"] == "down"
        assert samples(client)["twotower_state_up",] == 0
        assert client.get("/v1/users/user-03/recommendations").status_code == 200
    assert client.post("/v1/items", json=new).status_code == 201
    assert client.get("/ready").json()["state"] == "up"


def test_the_database_goes_and_comes_back(served, postgres) -> None:
    event = {"event_id": "e1", "user_id": "bob", "item_id": "item-01", "kind": "buy",
             "occurred_at": 1_700_000_000_000}  # fmt: skip
    with served(state_url=postgres.new_database(), poll_s=0.05) as client:
        assert client.post("/v1/events", json={"events": [event]}).status_code == 200
        postgres.stop()
        try:
            second = {"events": [{**event, "event_id": "e2"}]}
            refused = client.post("/v1/events", json=second)
            assert refused.status_code == 503
            assert "127.0.0.1" not in refused.text
            assert client.get("/v1/users/bob/recommendations").status_code == 200
            end = time.monotonic() + 10  # until the next look
            while client.get("/ready").json()["state"] == "up" and time.monotonic() < end:
                time.sleep(0.02)
            assert client.get("/ready").json()["state"] == "down"
        finally:
            postgres.start()
        assert client.post("/v1/events", json=second).json()["events"][0]["recorded"] is True
        assert client.get("/ready").json()["state"] == "up"


def test_a_full_disk_refuses_items_and_loses_none(client) -> None:
    import sqlalchemy as sa

    engine = client.app.state.context.service.store.engine
    client.post("/v1/items", json={"item_id": "before", "title": "Game"})
    with engine.connect() as connection:
        pages = connection.scalar(sa.text("PRAGMA page_count"))

    def limit(connection, *_) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    sa.event.listen(engine, "checkout", limit)
    big = {"item_id": "big", "title": "Game", "description": "x" * 20_000}
    answer = client.post("/v1/items", json=big)
    assert answer.status_code == 503
    assert "the disk is full" in answer.json()["detail"]
    assert client.get("/v1/items/big").status_code == 404
    assert client.get("/v1/items/before").status_code == 200
    sa.event.remove(engine, "checkout", limit)
    engine.dispose()
    assert client.post("/v1/items", json=big).status_code == 201


def test_an_unexpected_failure_says_nothing_of_the_inside(client, monkeypatch, caplog) -> None:
    def fail(*_, **__):
        raise RuntimeError("password hunter2 in /etc/secrets")

    monkeypatch.setattr(Pipeline, "answers", fail)
    with caplog.at_level(logging.ERROR, "twotower"):
        answer = client.get("/v1/users/user-03/recommendations", headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == 500
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine-1"
    lines = [JsonLines().format(record) for record in caplog.records]
    for text in (answer.text, *lines):
        assert "hunter2" not in text
        assert "Traceback" not in text
        assert ".py" not in text
    logged = json.loads(lines[-1])
    assert logged["error"] == "RuntimeError"
    assert any(place.startswith("twotower.service.api.recommend:") for place in logged["at"])
    assert samples(client)["twotower_errors_total", ("kind", "RuntimeError")] == 1


def test_every_request_has_a_line_in_the_log(client, caplog) -> None:
    with caplog.at_level(logging.INFO, "twotower"):
        client.get("/v1/users/user-03/recommendations", headers={"X-Request-ID": "bad id\n"[:6]})
    entry = json.loads(JsonLines().format(caplog.records[-1]))
    assert entry["message"] == "request"
    assert entry["route"] == "/v1/users/{user_id}/recommendations"
    assert entry["status"] == 200
    assert entry["key"] == "boss"
    assert entry["ms"] > 0
    assert "user-03" not in json.dumps(entry)  # who asked is nobody's business


def test_a_broken_keys_file_stops_the_start(served, tmp_path) -> None:
    (tmp_path / "keys").write_text("nonsense")
    with (
        pytest.raises(InputError, match="line 1 of the keys file"),
        served(keys_file=tmp_path / "keys"),
    ):
        pass
