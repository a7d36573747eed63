"""Admission control: turns on the event loop, the bounds of the queue, and what is left out."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from twotower.inference import Pipeline
from twotower.service.api.turns import OverloadedError, Turns

PATH = "/v1/users/user-03/recommendations"


def test_a_probe_waits_for_one_request_and_not_for_all_before_it() -> None:
    begun: list[object] = []

    async def request(turns: Turns, number: int) -> None:
        await turns.take(time.monotonic())
        begun.append(number)

    async def run() -> None:
        turns = Turns(100, 60)
        tasks = [asyncio.create_task(request(turns, number)) for number in range(50)]
        await asyncio.sleep(0)  # all have come
        assert turns.are_wanted
        for _ in range(3):
            before = len(begun)
            await asyncio.sleep(0)  # as a probe does
            assert len(begun) <= before + 1
        await asyncio.gather(*tasks)
        assert begun == list(range(50))
        await asyncio.sleep(0)
        assert not turns.are_wanted

    asyncio.run(run())


def test_more_than_may_wait_are_refused_at_once_and_those_given_up_take_no_turn() -> None:
    async def run() -> None:
        turns = Turns(2, 60)
        turns.are_wanted = True
        first, second, third = (asyncio.create_task(turns.take(time.monotonic())) for _ in range(3))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 requests are waiting"):
            await third
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        turns._give_next()
        await second

    asyncio.run(run())


def test_one_that_waited_too_long_is_refused() -> None:
    async def run() -> None:
        turns = Turns(9, 0.01)
        turns.are_wanted = True
        late = asyncio.create_task(turns.take(time.monotonic()))
        await asyncio.sleep(0)
        time.sleep(0.05)
        turns._give_next()
        with pytest.raises(OverloadedError, match="has waited for"):
            await late

    asyncio.run(run())


def test_a_batch_gives_way_and_is_not_kept_for_ever() -> None:
    turns = Turns(9, 60)
    began = time.monotonic()
    turns.give_way(60)
    assert time.monotonic() - began < 30
    turns.are_wanted = True
    began = time.monotonic()
    turns.give_way(0.02)
    assert time.monotonic() - began >= 0.08
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(turns.give_way, 60)
        time.sleep(0.05)
        assert not waiting.done()
        turns.are_wanted = False
        waiting.result(30)


def test_blocks_of_batches_are_alone_while_single_requests_come(inside) -> None:
    def at_once(turns: Turns) -> int:
        def work() -> None:
            with turns.block(time.monotonic() + 60), inside:
                time.sleep(0.1)

        inside.most = 0
        with ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(work) for _ in range(3)]:
                done.result()
        return inside.most

    turns = Turns(9, 60)
    assert turns.are_rare
    assert at_once(turns) > 1
    turns.last_single = time.monotonic() + 60  # they go on coming
    assert at_once(turns) == 1


def test_a_block_that_waits_beyond_its_deadline_is_given_up() -> None:
    turns = Turns(9, 60)
    turns.last_single = time.monotonic() + 60
    with turns.block(time.monotonic() + 60), ThreadPoolExecutor(1) as pool:

        def late() -> None:
            with turns.block(time.monotonic() + 0.05):
                pytest.fail("it began")

        with pytest.raises(TimeoutError):
            pool.submit(late).result()
    with pytest.raises(TimeoutError), turns.block(time.monotonic()):
        pytest.fail("it began")
    with turns.block(time.monotonic() + 60):
        pass


def test_where_the_queue_is_full_requests_are_refused_and_health_is_not(served) -> None:
    with served(max_waiting=1) as client:
        turns = client.app.state.context.turns
        turns.most, turns.are_wanted = 0, True
        answer = client.get(PATH)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["detail"] == "too busy: 0 requests are waiting"
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
        turns.most, turns.are_wanted = 1, False
        assert client.get(PATH).status_code == 200


def test_what_waits_too_long_for_a_thread_is_refused(served, monkeypatch) -> None:
    begun, released = threading.Event(), threading.Event()

    def stuck(*_) -> list[object]:
        begun.set()
        released.wait(60)
        return []

    with served(workers=1, max_wait_s=0.3, timeout_s=60) as client:
        monkeypatch.setattr(Pipeline, "search", stuck)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(client.get, "/v1/search?q=game")
            assert begun.wait(60)
            second = pool.submit(client.get, "/v1/search?q=game")
            while client.app.state.context._in_threads != 2:
                time.sleep(0.01)
            time.sleep(0.5)
            released.set()
            assert first.result().status_code == 200
            assert second.result().status_code == 503
            assert "too busy: the request has waited for 0." in second.result().json()["detail"]
        # A batch has threads of its own.
        assert client.post(
            "/v1/recommendations/batch", json={"requests": [{"user_id": "user-03"}]}
        ).is_success


def test_a_late_request_is_answered_without_the_second_stage(served, monkeypatch) -> None:
    async def late(_: Turns, came: float) -> None:
        await asyncio.sleep(0.6)

    asked = {"user_id": "user-03", "rerank": True}
    with served() as client:
        assert client.post("/v1/recommendations", json=asked).json()["skipped"] == []
        plain = client.post("/v1/recommendations", json={**asked, "rerank": False}).json()
        monkeypatch.setattr(Turns, "take", late)
        answer = client.post("/v1/recommendations", json=asked).json()
        assert (answer["items"], answer["skipped"]) == (plain["items"], ["rerank"])
        assert client.get(f"{PATH}?rerank=true").json()["skipped"] == ["rerank"]
        assert client.get(PATH).json()["skipped"] == []
