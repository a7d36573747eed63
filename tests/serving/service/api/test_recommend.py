import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twotower.bundle.contents import BundleContents
from twotower.inference import Pipeline
from twotower.service.api.problems import Problem
from twotower.service.api.schemas import RecommendAnswer

ROOT = Path(__file__).resolve().parents[4]


def ids(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["item_id"] for one in answer.json()["items"]]


@pytest.fixture
def pipeline(open_contents) -> Pipeline:
    return Pipeline(open_contents)


def expected(found) -> list[str]:
    return [one.item_id for one in found]


def test_a_known_user(client, pipeline) -> None:
    answer = client.get("/v1/users/user-03/recommendations?k=7")
    assert ids(answer) == expected(pipeline.recommend("user-03", k=7))
    body = answer.json()
    assert body["user"] == "known"
    assert body["model_version"].startswith("v5-")
    first = body["items"][0]
    assert first["rank"] == 1
    assert first["score"] == first["retrieval_score"]
    said = [one["reason"]["text"] for one in body["items"] if one["reason"]]
    assert said
    assert all(re.fullmatch(r"because you gave Game \d+ a rating of [345]", text) for text in said)


def test_an_unknown_user_is_not_found_where_that_is_asked(client) -> None:
    answer = client.get("/v1/users/eve/recommendations?strict=true")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "unknown user 'eve'"
    assert "POST /v1/recommendations" in answer.json()["fix"]


def test_a_cold_start_user(client, pipeline) -> None:
    history = ["item-03", "item-07"]
    answer = client.post("/v1/recommendations", json={"history": history, "k": 5})
    assert ids(answer) == expected(pipeline.recommend(history=history, k=5))
    assert answer.json()["user"] == "new"
    seen = client.post(
        "/v1/recommendations", json={"history": history, "k": 60, "exclude_seen": False}
    )
    assert set(history) < set(ids(seen))


def test_words(client, pipeline) -> None:
    answer = client.post("/v1/recommendations", json={"text": "game 17", "k": 5})
    assert ids(answer) == expected(pipeline.recommend(text="game 17", k=5))


def test_filters_and_reranking(client, pipeline) -> None:
    filters = {"categories": ["genre-1"], "block": ["item-05"], "max_per_category": 3}
    found = ids(client.post("/v1/recommendations", json={"user_id": "user-03", "filters": filters}))
    assert len(found) == 3
    assert all(int(one[-2:]) % 4 == 1 for one in found)
    answer = client.post("/v1/recommendations", json={"user_id": "user-03", "rerank": True})
    assert ids(answer) == expected(pipeline.recommend("user-03", rerank=True))


def test_a_batch_is_answered_as_one_by_one(client) -> None:
    requests = [{"user_id": "user-01"}, {"history": ["item-09"]}, {"text": "game 3"}]
    answer = client.post("/v1/recommendations/batch", json={"requests": requests, "k": 4})
    assert answer.status_code == 200
    for request, found in zip(requests, answer.json()["answers"], strict=True):
        alone = client.post("/v1/recommendations", json={**request, "k": 4})
        assert [one["item_id"] for one in found["items"]] == ids(alone)
        assert alone.json().keys() == {"model_version", "skipped", "teams", *found}


def test_similar_items_and_search(client, pipeline) -> None:
    similar = client.get("/v1/items/item-08/similar?k=4")
    assert ids(similar) == expected(pipeline.similar_items("item-08", 4))
    assert client.get("/v1/items/nothing/similar").status_code == 404
    found = client.get("/v1/search", params={"q": "game 17", "k": 3})
    assert ids(found)[0] == "item-17"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "a request needs a user id or a history, got neither"),
        ({"user_id": "eve", "strict": True}, "unknown user 'eve'"),
        ({"history": ["item-99"], "strict": True}, "unknown item 'item-99'"),
        ({"history": ["item-01"], "k": 0}, "k: Input should be greater than or equal to 1"),
        ({"history": ["item-01"], "k": 1001}, "k must be at most 1000, got 1001"),
        ({"history": ["item-01"] * 201}, "items of history must be at most 200, got 201"),
        ({"history": ["item-01"], "colour": "red"}, "colour: unknown key"),
        ({"history": "item-01"}, "history: Input should be a valid list"),
        ({"history": [""]}, "history.0: String should have at least 1 character"),
        ({"text": ""}, "text: String should have at least 1 character"),
        ({"text": "?!"}, "no item is described by the words '?!'"),
        (
            {"user_id": "user-03", "filters": {"min_price": 9, "max_price": 1}},
            "filters: min_price must be at most max_price 1, got 9",
        ),
    ],
)
def test_what_cannot_be_used_is_said(client, body, detail) -> None:
    answer = client.post("/v1/recommendations", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["detail"] == detail
    assert problem["status"] == 422
    assert problem["type"] == "urn:twotower:problem:422"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["fix"]


@pytest.mark.parametrize(
    ("path", "body", "fix"),
    [
        ("recommendations", {"usr_id": "eve"}, "did you mean user_id? it is one of user_id, "),
        ("recommendations", {"filters": {"colour": 1}}, "it is one of categories, not_categ"),
        (
            "recommendations/batch",
            {"requests": [{"user_id": "eve"}, {"user": "eve"}]},
            "did you mean user_id? it is one of user_id, history, ",
        ),
        ("events", {"events": [{"user": "eve"}]}, "did you mean user_id? it is one of "),
    ],
)
def test_an_unknown_key_gets_the_known_ones(client, path, body, fix) -> None:
    problem = client.post(f"/v1/{path}", json=body).json()
    assert problem["status"] == 422, problem
    assert problem["fix"].startswith(fix)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"nonsense", 400),
        (b'{"text": "\xff\xfe"}', 400),
        (b"[" * 100_000 + b"]" * 100_000, 400),
        (b'{"filters":' * 50_000 + b"1" + b"}" * 50_000, 400),
        (b'{"k": 1' + b"0" * 5000 + b"}", 400),
        (b'{"history": ["\\ud800"]}', 422),
        (b'{"k": NaN}', 422),
        (b'{"history": ["a\\u0000b"]}', 422),
        (b"[1, 2]", 422),
        (b'"text"', 422),
        (b" " * 2_000_000, 413),
        (json.dumps({"history": ["x" * 100] * 20_000}).encode(), 413),
    ],
)
def test_bad_bodies_are_refused_and_the_next_one_is_answered(client, content, status) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post("/v1/recommendations", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert client.get("/v1/users/user-03/recommendations").status_code == 200


def test_a_long_body_without_a_length_is_refused(client) -> None:
    def parts():
        for _ in range(40):
            yield b" " * 100_000

    answer = client.post(
        "/v1/recommendations", content=parts(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


def test_a_body_that_is_not_marked_as_json_is_refused_with_the_reason(client) -> None:
    answer = client.post("/v1/recommendations", content=b'{"k": 1}')
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["fix"]


def test_unknown_items_of_a_history_are_passed_over_and_named(client, pipeline) -> None:
    history = ["item-03", "listed-today", "item-07", "listed-today", "gone"]
    for asker in ({}, {"user_id": "user-03"}):
        answer = client.post("/v1/recommendations", json={**asker, "history": history, "k": 5})
        best = pipeline.recommend(history=["item-03", "item-07"], k=5, **asker)
        assert ids(answer) == expected(best)
        assert answer.json()["unknown_items"] == ["listed-today", "gone"]
        assert answer.json()["source"] == "model"
    known = client.post("/v1/recommendations", json={"history": ["item-03"]}).json()
    assert (known["unknown_items"], known["source"]) == ([], "model")


POPULAR = {"source": "popular", "user": "new"}


def most_bought(contents, k: int) -> list[tuple[str, float]]:
    events = np.bincount(contents.histories.items, minlength=len(contents.items))
    rows = sorted(range(len(events)), key=lambda row: (-events[row], row))[:k]
    return [(contents.items.ids[row], float(events[row])) for row in rows]


@pytest.mark.parametrize(
    ("body", "unknown"),
    [
        ({"user_id": "eve"}, []),
        ({"user_id": "eve", "history": ["listed-today"]}, ["listed-today"]),
        ({"history": ["listed-today", "gone"]}, ["listed-today", "gone"]),
    ],
)
def test_without_anything_to_go_by_there_are_popular_items(
    client, open_contents, body, unknown
) -> None:
    answer = client.post("/v1/recommendations", json={**body, "k": 7}).json()
    assert {**POPULAR, "unknown_items": unknown}.items() <= answer.items()
    found = [(one["item_id"], one["score"]) for one in answer["items"]]
    assert found == most_bought(open_contents, 7)
    assert all(one["reason"] is one["retrieval_score"] is None for one in answer["items"])
    refused = client.post("/v1/recommendations", json={**body, "strict": True})
    assert refused.status_code == 422


def test_who_did_only_what_is_not_served_gets_popular_items(client, open_contents) -> None:
    event = {
        "event_id": "e", "user_id": "eve", "item_id": "not-served", "kind": "view",
        "occurred_at": 1_700_000_000_000,
    }  # fmt: skip
    assert client.post("/v1/events", json={"events": [event]}).status_code == 200
    path = "/v1/users/eve/recommendations"
    for k in (2, 5):
        answer = client.get(f"{path}?k={k}").json()
        assert POPULAR.items() <= answer.items()
        assert ids(client.get(f"{path}?k={k}")) == [one for one, _ in most_bought(open_contents, k)]
    assert client.get(f"{path}?strict=true").status_code == 404


def test_popular_items_pass_filters_and_can_be_had(client, open_contents) -> None:
    first = most_bought(open_contents, 1)[0][0]
    client.put(f"/v1/items/{first}/availability", json={"available": False})
    second = ids(client.get("/v1/users/eve/recommendations?k=1"))[0]
    assert second != first
    filters = {"block": [second], "categories": ["genre-1"], "max_per_category": 2}
    found = ids(client.post("/v1/recommendations", json={"user_id": "eve", "filters": filters}))
    wanted = [
        name
        for name, _ in most_bought(open_contents, 60)
        if int(name[-2:]) % 4 == 1 and name not in (first, second)
    ]
    assert found == wanted[:2]


def test_one_that_is_unknown_does_not_fail_a_batch(client, open_contents) -> None:
    requests = [{"user_id": "user-01"}, {"user_id": "eve"}, {"history": ["gone", "item-09"]}]
    body = {"requests": requests, "k": 3}
    answers = client.post("/v1/recommendations/batch", json=body).json()["answers"]
    assert [one["source"] for one in answers] == ["model", "popular", "model"]
    assert [one["unknown_items"] for one in answers] == [[], [], ["gone"]]
    assert [one["user"] for one in answers] == ["known", "new", "new"]
    popular = [one["item_id"] for one in answers[1]["items"]]
    assert popular == [one for one, _ in most_bought(open_contents, 3)]
    refused = client.post("/v1/recommendations/batch", json={**body, "strict": True})
    assert refused.status_code == 422


PATH = "/v1/users/user-03/recommendations"


@pytest.mark.parametrize(
    ("method", "path", "detail", "fix"),
    [
        ("GET", f"{PATH}?k=1&categories=Racing", "categories: not a parameter of this request",
         "it takes k, rerank, strict, context, time; POST /v1/recommendations takes filters"),
        ("GET", f"{PATH}?K=1", "K: not a parameter of this request",
         "it takes k, rerank, strict, context, time; POST /v1/recommendations takes filters"),
        ("GET", f"{PATH}?k=1&k=2", "k is given 2 times", "give it once"),
        ("GET", "/v1/search?q=game&category=a", "category: not a parameter of this request",
         "it takes q, k"),
        ("GET", "/v1/items/item-08/similar?n=3", "n: not a parameter of this request",
         "it takes k"),
        ("GET", "/v1/items/item-08?k=3", "k: not a parameter of this request",
         "it takes no parameters"),
        ("GET", "/v1/model?x", "x: not a parameter of this request", "it takes no parameters"),
        ("GET", "/metrics?name[]=up", "name[]: not a parameter of this request",
         "it takes no parameters"),
        ("POST", "/v1/recommendations?k=3", "k: not a parameter of this request",
         "it takes no parameters in its address, and a JSON body: see /docs"),
        ("DELETE", "/v1/items/item-08?force=1", "force: not a parameter of this request",
         "it takes no parameters"),
    ],
)  # fmt: skip
def test_a_parameter_that_a_request_does_not_take_is_refused(
    client, method, path, detail, fix
) -> None:
    body = {"history": ["item-03"]} if method == "POST" else None
    answer = client.request(method, path, json=body)
    assert answer.status_code == 422
    assert (answer.json()["detail"], answer.json()["fix"]) == (detail, fix)
    assert client.get("/v1/items/item-08").status_code == 200


@pytest.mark.parametrize(
    ("body", "place"),
    [({"user_id": 9007199254740993}, "user_id"), ({"history": [9007199254740993]}, "history.0")],
)
def test_an_id_that_is_sent_as_a_number_is_to_be_quoted(client, body, place) -> None:
    answer = client.post("/v1/recommendations", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"{place}: ")
    assert answer.json()["fix"] == 'send it as text, in quotes: "9007199254740993"'


def test_probes_may_carry_parameters(client) -> None:
    assert client.get("/health?from=balancer").status_code == 200
    assert client.get("/ready?from=balancer").status_code == 200


def test_an_answer_names_the_model_that_gave_it(client, monkeypatch) -> None:
    """A reload between the answer and its writing must not change the name."""
    service = client.app.state.context.service
    before = service.current
    manifest = before.manifest.model_copy(update={"model_version": "v5-another"})

    def reloads(method):
        def call(self, *args, **kwargs):
            found = method(self, *args, **kwargs)
            service.current = replace(before, manifest=manifest)
            return found

        return call

    for name in ("answers", "similar_items", "search"):
        monkeypatch.setattr(Pipeline, name, reloads(getattr(Pipeline, name)))
    for method, path, body in (
        ("GET", PATH, None),
        ("POST", "/v1/recommendations", {"text": "game 3"}),
        ("POST", "/v1/recommendations/batch", {"requests": [{"user_id": "user-01"}]}),
        ("GET", "/v1/items/item-08/similar", None),
        ("GET", "/v1/search?q=game", None),
    ):
        service.current = before
        answer = client.request(method, path, json=body)
        assert answer.json()["model_version"] == before.manifest.model_version
        assert service.current is not before


def test_a_request_that_does_not_say_is_reranked_where_validation_was_better(
    served, monkeypatch
) -> None:
    path = "/v1/users/user-03/recommendations"

    def is_reranked(client, query: str = "") -> bool:
        (item, *_) = client.get(path + query).json()["items"]
        return item["rerank_score"] is not None

    with served() as client:
        assert not client.get("/v1/model").json()["reranks"]
        assert not is_reranked(client)
    monkeypatch.setattr(BundleContents, "reranks", True)
    with served() as client:
        assert client.get("/v1/model").json()["reranks"]
        assert is_reranked(client)
        assert not is_reranked(client, "?rerank=false")
    with served(rerank=False) as client:
        assert not client.get("/v1/model").json()["reranks"]
        assert not is_reranked(client)
        assert is_reranked(client, "?rerank=true")


def shape(value: object) -> object:
    """The names in an answer and their order, without what they hold."""
    if isinstance(value, dict):
        return [(name, shape(inner)) for name, inner in value.items()]
    return [shape(value[0])] if isinstance(value, list) and value else None


@pytest.mark.parametrize(
    ("document", "before", "body"),
    [
        ("README.md", "$ curl -s localhost", {"history": ["item-01", "item-02"], "k": 1}),
        ("docs/serving.md", "```json", {"history": ["item-01"], "k": 5000}),
    ],
)
def test_documents_show_the_fields_of_an_answer(client, document, before, body) -> None:
    text = (ROOT / document).read_text()
    after = text[text.index(before) :]
    documented, _ = json.JSONDecoder().raw_decode(after, after.index("\n{") + 1)
    answered = client.post("/v1/recommendations", json=body).json()
    assert shape(answered) == shape(documented)
    schema = RecommendAnswer if "items" in documented else Problem
    assert documented.keys() == schema.model_fields.keys()
