import threading
import time

import pytest
from starlette.testclient import TestClient

from twotower.inference import Pipeline
from twotower.service.api.limits import RateLimit


def test_a_bucket_empties_and_fills() -> None:
    limit = RateLimit(rate=2, burst=3)
    a, b = ("key", "a"), ("key", "b")
    assert [limit.wait(a, now=10.0) for _ in range(3)] == [0, 0, 0]
    assert limit.wait(a, now=10.0) == pytest.approx(0.5)
    assert limit.wait(b, now=10.0) == 0  # others have their own
    assert limit.wait(a, now=10.25) == pytest.approx(0.25)
    assert limit.wait(a, now=10.5) == 0
    assert limit.wait(a, now=10.5) == pytest.approx(0.5)
    assert [limit.wait(a, now=100.0) for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]


def test_no_rate_is_no_limit() -> None:
    assert all(RateLimit(None, 1).wait(("key", "a")) == 0 for _ in range(100))


def test_callers_are_forgotten_before_they_fill_the_memory() -> None:
    limit = RateLimit(rate=1, burst=1)
    for number in range(20_000):
        limit.wait(("address", str(number)), now=float(number))
    assert len(limit._buckets) == 10_000


def test_each_key_has_a_rate_of_its_own(served, keys) -> None:
    with served(rate_limit=0.001, rate_burst=2) as client:
        path = "/v1/users/user-03/recommendations"
        assert [client.get(path).status_code for _ in range(3)] == [200, 200, 429]
        answer = client.get(path)
        assert int(answer.headers["retry-after"]) > 1
        assert answer.json()["detail"] == "more than 0.001 requests a second"
        assert client.get(path, headers=keys[1]["reader"]).status_code == 200
        assert client.get("/health").status_code == 200


def test_what_takes_too_long_is_given_up(served, monkeypatch) -> None:
    released = threading.Event()
    with served(timeout_s=0.2) as client:
        service = client.app.state.context.service
        monkeypatch.setattr(service.pipeline, "search", lambda *_: released.wait(10))
        answer = client.get("/v1/search?q=game")
        assert answer.status_code == 504
        assert answer.json()["detail"] == "not answered within 0.2 s"
        assert client.get("/v1/users/user-03/recommendations").status_code == 200
        released.set()


def test_a_reload_may_take_longer(served, monkeypatch) -> None:
    with served(timeout_s=0.05, reload_timeout_s=4) as client:
        service = client.app.state.context.service
        whole = service.reload

        def slow(name: str | None) -> object:
            time.sleep(0.1)
            return whole(name)

        monkeypatch.setattr(service, "reload", slow)
        asked = {"url": "/v1/models/reload", "json": {}}
        assert client.post(**asked).status_code == 200
        monkeypatch.setattr(service, "reload", lambda _: time.sleep(4.5))
        answer = client.post(**asked)
        assert (answer.status_code, answer.json()["detail"]) == (504, "not answered within 4 s")


def test_an_address_does_not_use_up_the_rate_of_a_key_named_like_it(served, keys) -> None:
    with served(rate_limit=0.001, rate_burst=2, anonymous_read=True) as client:
        path = "/v1/users/user-03/recommendations"
        named_like_it = TestClient(client.app, client=("boss", 1))
        assert [named_like_it.get(path).status_code for _ in range(3)] == [200, 200, 429]
        assert client.get(path).status_code == 200


def test_wrong_keys_are_limited(served) -> None:
    with served(rate_limit=0.001, rate_burst=2) as client:
        wrong = {"Authorization": "Bearer tt_wrong"}
        path = "/v1/users/user-03/recommendations"
        statuses = [client.get(path, headers=wrong).status_code for _ in range(4)]
        assert statuses == [401, 401, 429, 429]
        assert client.get(path).status_code == 200  # a right one is not


def batch(users: int, history: int, k: int) -> dict[str, object]:
    return {"requests": [{"history": ["item-03"] * history}] * users, "k": k, "reasons": False}


def test_a_request_over_its_work_budget_is_refused_with_the_numbers(served) -> None:
    with served(max_work=10_000) as client:
        path = "/v1/recommendations/batch"
        assert client.post(path, json=batch(4, 200, 10)).status_code == 200  # 4 x 10 x (200 + 50)
        answer = client.post(path, json=batch(5, 200, 10))
        assert answer.status_code == 422
        assert answer.json()["detail"] == (
            "5 requests with k 10 and their histories are 12,500 units of work, 10,000 are allowed"
        )
        assert "k times (the items of its history + 50)" in answer.json()["fix"]
        alone = client.post("/v1/recommendations", json={"history": ["item-03"] * 200, "k": 50})
        assert alone.status_code == 422
        # What is stored of a user counts too: user-05 has 8 events.
        known = {"requests": [{"user_id": "user-05"}] * 17, "k": 10}
        assert client.post(path, json=known).status_code == 200
        known["requests"] *= 2
        assert "19,720 units of work" in client.post(path, json=known).json()["detail"]


def test_a_batch_stops_at_its_deadline(served, monkeypatch) -> None:
    """The worker must be free when the answer is late, not when all of it would be done."""
    blocks = []
    whole = Pipeline.answers

    def slow(self, requests, *args, **kwargs):
        blocks.append(len(requests))
        time.sleep(0.1)
        return whole(self, requests, *args, **kwargs)

    monkeypatch.setattr(Pipeline, "answers", slow)
    with served(timeout_s=0.25, workers=1) as client:
        answer = client.post("/v1/recommendations/batch", json=batch(1000, 1, 1))
        assert answer.status_code == 504
        time.sleep(0.4)
        assert 1 <= len(blocks) <= 4  # of 16
        assert max(blocks) <= 64


def test_there_are_never_more_threads_than_workers(served, monkeypatch, inside) -> None:
    """A request that timed out leaves its worker when the work ends, and no sooner."""
    released = threading.Event()

    def stuck(*_) -> list[object]:
        with inside:
            released.wait(10)
        return []

    with served(timeout_s=0.2, workers=2) as client:
        monkeypatch.setattr(Pipeline, "search", stuck)
        statuses = [client.get("/v1/search?q=game").status_code for _ in range(5)]
        assert statuses == [504] * 5
        assert inside.most == 2
        released.set()
        deadline = time.monotonic() + 30
        while client.get("/v1/search?q=game").status_code != 200:
            assert time.monotonic() < deadline
        assert inside.most == 2
