"""What is counted of a bundle that answers unseen, in one process and in all of them."""

import logging
import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from twotower.service import shadow as shadow_module
from twotower.service.service import Service
from twotower.service.shadow import Listed, Shadow, SpareThread, shadow_report
from twotower.service.state import Event, StateUnavailableError, live, tables
from twotower.service.state.distinct import KEPT, DistinctItems
from twotower.service.state.shadow import ListCounts, bucket_end, time_bucket


@pytest.fixture
def listed(open_contents):
    """A list of items, by number."""

    def make(*numbers: int, seconds: float = 0.001, version: str = "v") -> Listed:
        return Listed(version, open_contents, [f"item-{one:02}" for one in numbers], seconds)

    return make


def counted(service: Service) -> dict:
    found = service.live_report(0)["shadow"]
    return {name: found[name] for name in ("shadowed", "dropped", "failed")}


def test_lists_that_are_alike_agree_and_others_as_far_as_they_share_items(listed) -> None:
    shadow = Shadow()
    same = shadow.compare(listed(1, 2, 3), listed(1, 2, 3))
    assert (same.overlap, same.same_first) == (1, True)
    other = shadow.compare(listed(1, 2, 3, 4, seconds=0.003), listed(5, 1, seconds=0.004))
    assert (other.overlap, other.same_first) == (0.25, False)
    nothing = shadow.compare(listed(), listed())
    assert (nothing.overlap, nothing.same_first) == (1, True)
    shadow.drop()
    found = shadow_report(shadow.take())
    assert (found["shadowed"], found["dropped"], found["failed"]) == (3, 1, 0)
    assert found["overlap"] == pytest.approx(2.25 / 3)
    assert found["same_first"] == pytest.approx(2 / 3)
    assert [found[arm]["items"] for arm in "ab"] == [4, 4]
    assert found["a"]["mean_ms"] == pytest.approx(5 / 3)
    assert found["b"]["p99_ms"] == pytest.approx(4, rel=0.05)


def test_items_without_training_events_are_told_from_others(listed, open_contents) -> None:
    log = open_contents.histories
    untrained = replace(log, items=log.items * 0)  # all events are of the first item
    other = replace(open_contents, histories=untrained)
    alike = Shadow().compare(listed(0, 1, 2), listed(0, 1, 99)._replace(contents=other))
    assert alike.untrained == {"a": 0, "b": 2}


def test_nothing_has_no_rates() -> None:
    found = shadow_report(Shadow().take())
    assert found["overlap"] is found["same_first"] is found["a"]["p99_ms"] is None
    assert found["b"] == {"mean_ms": None, "p99_ms": None, "untrained_share": None, "items": 0}


def test_what_could_not_be_written_is_counted_with_what_came_later(listed) -> None:
    shadow = Shadow()
    shadow.compare(listed(1, 2), listed(2, 3))
    shadow.put_back(shadow.take())
    shadow.compare(listed(1, 4), listed(1, 4))
    counts = shadow.take()
    assert (counts.shadowed, counts.overlap, counts.a.items.count) == (2, 1.5, 3)
    assert not shadow.take().requests


@pytest.mark.parametrize("count", [0, 10, KEPT - 1, 60_000])
def test_different_items_are_counted_over_all_processes(count) -> None:
    ids = [f"item-{number}" for number in range(count)]
    parts = [ids[::2], ids[1::3], ids[: count // 2], ids]
    total = DistinctItems()
    for part in parts:
        total = total + DistinctItems.of_bytes(DistinctItems.of(part).to_bytes())
    assert total.count == pytest.approx(count, rel=0.05 if count > KEPT else 0)
    assert len(total.to_bytes()) <= 8 * KEPT


def test_times_are_told_within_five_percent() -> None:
    for seconds in (1e-5, 1.1e-5, 0.00123, 0.5, 77.0):
        assert seconds * (1 - 1e-9) <= bucket_end(time_bucket(seconds)) <= 1.0501 * seconds
    assert time_bucket(0.0) == 0
    times = ListCounts()
    for number in range(1, 201):
        one = ListCounts(seconds=number / 1000)
        one.times[time_bucket(number / 1000)] += 1
        times = times + one
    assert times.percentile_s(0.99) == pytest.approx(0.198, rel=0.05)
    assert ListCounts().percentile_s(0.99) is None


def test_a_spare_thread_does_one_thing_at_a_time_and_rests(monkeypatch) -> None:
    begun, released = threading.Event(), threading.Event()

    def stuck() -> None:
        begun.set()
        released.wait(60)

    monkeypatch.setattr(shadow_module, "_RESTS", 1e6)
    thread = SpareThread("test")
    assert thread.offer(stuck)
    assert begun.wait(60)
    assert not thread.offer(stuck)
    assert thread.busy_s > 0
    released.set()
    assert thread.idle.wait(60)
    assert not thread.offer(stuck)  # it rests
    assert thread.busy_s == 0
    thread.close()


def test_failures_are_counted_and_the_log_has_one_of_them(caplog, monkeypatch) -> None:
    shadow = Shadow()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            shadow.fail(RuntimeError("broken"))
    assert shadow.take().failed == 3
    assert [one.message for one in caplog.records] == ["the shadow bundle failed at a request"]
    caplog.clear()
    monkeypatch.setattr(shadow_module, "_LOGGED_EVERY_S", 0)
    monkeypatch.setattr(SpareThread, "busy_s", 11.0)
    shadow.drop()
    assert caplog.messages == ["the shadow bundle has not answered a request for 11 s"]


def test_a_shadow_answers_nobody_and_is_credited_with_nothing(start) -> None:
    service = start()
    assert service.shadowed("ann") is None
    begun = service.split("other", 0.3, "shadow")
    assert begun.ended is None
    users = [f"u{number}" for number in range(600)]
    assert {service.assigned(user)[1:] for user in users} == {("", "", None)}
    assert all(service.assigned(user).snapshot is service.current for user in users)
    within = [user for user in users if service.shadowed(user) is not None]
    assert within == [user for user in users if service.shadowed(user) is not None]
    assert 0.2 < len(within) / 600 < 0.4
    _, other = service.shadowed(within[0])
    assert other.manifest.info.dataset == "later"
    event = Event(
        event_id="1", user_id="ann", item_id="item-01", kind="buy", occurred_at=10**12,
        recommendation_id=f"v~b~k~{begun.split.revision}-{'0f' * 16}~000000000001", position=1,
    )  # fmt: skip
    service.add_events([event])
    assert service.store.read(live.arms, begun.split.revision) == {}


def test_services_follow_a_shadow_and_their_counts_add_up(start, listed) -> None:
    one, two = start(), start()
    one.split("other", 1.0, "shadow")
    two.maintain()
    for place, service in enumerate((one, two)):
        shadow, _ = service.shadowed("ann")
        shadow.compare(listed(1, 2), listed(1, 3 + place))
        shadow.drop()
    two.shadowed(None)[0].fail(RuntimeError("broken"))
    two.live_report(0)
    assert counted(one) == {"shadowed": 2, "dropped": 2, "failed": 1}
    found = one.live_report(0)["shadow"]  # counted once
    assert (found["bundle"], found["share"], found["overlap"], found["same_first"]) == (
        "other", 1.0, 0.5, 1.0,
    )  # fmt: skip
    assert [found[arm]["items"] for arm in "ab"] == [2, 3]

    two.shadowed(None)[0].drop()
    assert two.split("other", 0.5, "shadow").ended == "shadow"
    assert counted(two) == {"shadowed": 0, "dropped": 0, "failed": 0}
    one.shadowed(None)[0].drop()  # it has not heard of that yet
    one.live_report(0)
    with one.store.engine.connect() as connection:
        for table in (tables.shadows, tables.shadow_lists):
            assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0


def test_there_is_one_comparison_at_a_time(start) -> None:
    service = start()
    modes = ("shadow", "split", "shadow", "interleave")
    ended = [service.split("other", 0.5, mode).ended for mode in modes]
    assert ended == [None, "shadow", "split", "shadow"]
    assert service.shadowed("ann") is None
    service.split("other", 0.5, "shadow")
    found = service.live_report(0)
    assert found["shadow"] is not None
    assert found["split"] is found["interleaving"] is None
    assert service.split(None).ended == "shadow"
    assert service.live_report(0)["shadow"] is None
    assert service.split(None).ended is None


def test_counts_wait_for_a_database_that_is_gone(start, listed, monkeypatch) -> None:
    service = start()
    service.split("other", 1.0, "shadow")
    service.shadowed("ann")[0].compare(listed(1), listed(1))

    def gone(*_) -> None:
        raise StateUnavailableError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(service.store, "write", gone)
        with pytest.raises(StateUnavailableError):
            service.live_report(0)
    assert counted(service)["shadowed"] == 1
