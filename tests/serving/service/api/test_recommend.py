import json

import pytest

from twotower.inference import Pipeline


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
    assert first["reason"]["text"].startswith("because you bought Game ")


def test_an_unknown_user_is_not_found(client) -> None:
    answer = client.get("/v1/users/eve/recommendations")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "unknown user 'eve'"
    assert "POST /v1/recommendations" in answer.json()["fix"]


def test_somebody_new(client, pipeline) -> None:
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


def test_a_batch_gives_strangers_popular_items_that_are_marked(client) -> None:
    """One who joined after training does not refuse the others."""
    requests = [{"user_id": "user-00"}, {"user_id": "joined-today"}, {"history": ["item-01"]}]
    batch = {"requests": requests, "k": 3}
    answer = client.post("/v1/recommendations/batch", json=batch)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["sources"] == ["model", "popular", "model"]
    assert [len(items) for items in body["answers"]] == [3, 3, 3]
    scores = [item["score"] for item in body["answers"][1]]
    assert scores == sorted(scores, reverse=True)
    skipped = client.post("/v1/recommendations/batch", json={**batch, "unknown": "skip"}).json()
    assert skipped["sources"] == ["model", "none", "model"]
    assert skipped["answers"] == [body["answers"][0], [], body["answers"][2]]
    refused = client.post("/v1/recommendations/batch", json={**batch, "unknown": "fail"})
    assert refused.status_code == 422
    only = client.post("/v1/recommendations/batch", json={"requests": requests[1:2], "k": 2})
    assert only.json()["sources"] == ["popular"]


def test_a_batch_is_answered_as_one_by_one(client) -> None:
    requests = [{"user_id": "user-01"}, {"history": ["item-09"]}, {"text": "game 3"}]
    answer = client.post("/v1/recommendations/batch", json={"requests": requests, "k": 4})
    assert answer.status_code == 200
    for request, items in zip(requests, answer.json()["answers"], strict=True):
        alone = client.post("/v1/recommendations", json={**request, "k": 4})
        assert [one["item_id"] for one in items] == ids(alone)


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
        ({"user_id": "eve"}, "unknown user 'eve'"),
        ({"history": ["item-99"]}, "unknown item 'item-99'"),
        ({"history": ["item-01"], "k": 0}, "k: Input should be greater than or equal to 1"),
        ({"history": ["item-01"], "k": 1001}, "k must be at most 1000, got 1001"),
        ({"history": ["item-01"] * 201}, "items of history must be at most 200, got 201"),
        ({"history": ["item-01"], "colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"history": "item-01"}, "history: Input should be a valid list"),
        ({"history": [""]}, "history.0: String should have at least 1 character"),
        ({"text": ""}, "text: String should have at least 1 character"),
        ({"text": "?!"}, "no item is described by the words '?!'"),
        (
            {"user_id": "user-03", "filters": {"min_price": 9, "max_price": 1}},
            "filters: Value error, min_price must be at most max_price 1, got 9",
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


def test_a_body_that_is_not_marked_as_json_is_told_so(client) -> None:
    answer = client.post("/v1/recommendations", content=b'{"k": 1}')
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["fix"]
