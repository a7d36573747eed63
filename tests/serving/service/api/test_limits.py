import threading
import time

import pytest

from twotower.service.api.limits import RateLimit


def test_a_bucket_empties_and_fills() -> None:
    limit = RateLimit(rate=2, burst=3)
    assert [limit.wait("a", now=10.0) for _ in range(3)] == [0, 0, 0]
    assert limit.wait("a", now=10.0) == pytest.approx(0.5)
    assert limit.wait("b", now=10.0) == 0  # others have their own
    assert limit.wait("a", now=10.25) == pytest.approx(0.25)
    assert limit.wait("a", now=10.5) == 0
    assert limit.wait("a", now=10.5) == pytest.approx(0.5)
    assert [limit.wait("a", now=100.0) for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]


def test_no_rate_is_no_limit() -> None:
    assert all(RateLimit(None, 1).wait("a") == 0 for _ in range(100))


def test_callers_are_forgotten_before_they_fill_the_memory() -> None:
    limit = RateLimit(rate=1, burst=1)
    for number in range(20_000):
        limit.wait(str(number), now=float(number))
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
