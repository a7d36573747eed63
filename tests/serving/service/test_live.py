"""From answers to rates: attribution, drift, and a split that simulated shoppers decide."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from twotower.bundle.storage import save_bundle
from twotower.service.live import PopularityDrift, ShownCounts, position_group
from twotower.service.recommendation_id import RecommendationId
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.state import Event
from twotower.service.state.live import Shown


@pytest.fixture
def start(open_contents, weights, tmp_path) -> Iterator:
    save_bundle(tmp_path / "bundle", open_contents, weights)
    other = replace(open_contents, info=open_contents.info.vary(dataset="later"))
    save_bundle(tmp_path / "other", other, weights)
    started: list[Service] = []

    def begin(**changes) -> Service:
        url = f"sqlite:///{tmp_path / 'state.sqlite3'}"
        given = {"bundle": tmp_path / "bundle", "state_url": url, **changes}
        started.append(Service(ServeSettings(**given)))
        return started[-1]

    yield begin
    for service in started:
        service.close()


def test_metrics_and_database_get_each_answer_once_whichever_asks_first() -> None:
    counts = ShownCounts()
    about = RecommendationId("v1", known_user=True)
    counts.add(about, ["a", "b"], 1)
    assert list(counts.news().values()) == [Shown(1, 2, 1)]
    counts.add(about, ["a"], 0)
    taken, units = counts.take()
    assert list(taken.values()) == [Shown(2, 3, 1)]
    counts.put_back(taken, units)
    assert list(counts.news().values()) == [Shown(1, 1, 0)]
    assert list(counts.take()[0].values()) == [Shown(2, 3, 1)]
    assert not counts.news()
    assert counts.items == {"a", "b"}


@pytest.mark.parametrize(
    "about",
    [
        RecommendationId("v10-0123456789ab"),
        RecommendationId("v1~odd", "b", True, "ab" * 16),
        RecommendationId("v", "a", False, "00" * 16),
    ],
)
def test_an_id_says_what_it_was_made_of(about) -> None:
    ids = {about.new() for _ in range(100)}
    assert len(ids) == 100
    assert {RecommendationId.read(one) for one in ids} == {about}


@pytest.mark.parametrize("text", ["", "x", "a~b~c~d~e", "v~a~k~~r", "v~~k~unit~r", "v" * 300])
def test_other_ids_say_nothing(text) -> None:
    assert RecommendationId.read(text) is None


def test_positions_are_grouped() -> None:
    groups = [position_group(place) for place in (1, 2, 3, 4, 10, 11, 1000, None)]
    assert groups == ["1", "2-3", "2-3", "4-10", "4-10", "11+", "11+", "unknown"]


def test_drift_is_none_for_the_training_log_and_large_for_other_items(open_contents) -> None:
    log, items = open_contents.histories.items, open_contents.items.ids
    drift = PopularityDrift(open_contents)
    assert drift.psi == 0
    drift.add(items[row] for row in log)
    assert drift.psi == pytest.approx(0)
    drift.add(items[int(np.bincount(log).argmin())] for _ in range(3 * len(log)))
    assert drift.psi > 0.25
    added = PopularityDrift(open_contents)
    added.add(f"new-{number}" for number in range(50))
    assert added.psi > 0.25


def test_a_user_stays_with_one_bundle_for_a_day(start) -> None:
    service = start()
    assert service.assigned("ann")[1:] == ("", "")
    service.split("other", 0.3)
    arms = {f"u{number}": service.assigned(f"u{number}")[1] for number in range(600)}
    assert {user: service.assigned(user)[1] for user in arms} == arms
    assert 0.2 < [*arms.values()].count("b") / 600 < 0.4
    versions = {service.assigned(user)[0].manifest.model_version: arm for user, arm in arms.items()}
    assert sorted(versions.values()) == ["a", "b"]
    service.split(None)
    assert service.assigned("ann")[1:] == ("", "")


def test_all_services_follow_a_split_and_its_writes(start) -> None:
    one, two = start(), start()
    one.split("other", 0.5)
    two.maintain()
    users = [f"u{number}" for number in range(50)]
    assert [one.assigned(user)[1:] for user in users] == [two.assigned(user)[1:] for user in users]
    event = Event(event_id="1", user_id="u1", item_id="item-01", kind="view", occurred_at=5)
    one.add_events([event])
    for user in users:
        snapshot, _, _ = one.assigned(user)
        assert len(snapshot.past_of("u1")) == 1  # of both bundles
    one.forget(["u1"])
    assert all(len(one.assigned(user)[0].past_of("u1")) == 0 for user in users)


@pytest.mark.parametrize(("rates", "better"), [((0.1, 0.3), "b"), ((0.2, 0.2), None)])
def test_shoppers_decide_a_split(start, rates, better) -> None:
    """Each comes once, and buys with the rate of the bundle that answers."""
    service = start()
    service.split("other", 0.5)
    rng = np.random.default_rng(1)
    events = []
    for number in range(2000):
        user = f"shopper-{number}"
        snapshot, arm, unit = service.assigned(user)
        about = RecommendationId(snapshot.manifest.model_version, arm, False, unit)
        service.shown.add(about, ["item-01", "new"], 1)
        if rng.random() < rates[arm == "b"]:
            events.append(
                Event(
                    event_id=str(number), user_id=user, item_id="item-01", kind="buy",
                    occurred_at=10**12, recommendation_id=about.new(), position=1,
                )
            )  # fmt: skip
    service.add_events(events)
    found = service.live_report(0)
    split = found["split"]
    assert split["a"]["units"] + split["b"]["units"] == 2000
    assert split["a"]["successes"] + split["b"]["successes"] == len(events)
    assert split["better"] == better
    assert split["low"] < rates[1] - rates[0] < split["high"]
    assert [row["arm"] for row in found["models"]] == ["a", "b"]
    for row, rate in zip(found["models"], rates, strict=True):
        assert row["conversion"] == row["events_per_answer"] == pytest.approx(rate, abs=0.04)
        assert (row["new_user_share"], row["new_item_share"]) == (1, 0.5)
    assert found["positions"] == [{"kind": "buy", "position": "1", "events": len(events)}]
    service.live_report(0)
    assert service.live_report(0)["models"] == found["models"]  # counted once


def test_a_bundle_that_cannot_be_used_splits_nothing(start, tmp_path) -> None:
    from twotower.errors import TwoTowerError

    service = start()
    with pytest.raises(TwoTowerError):
        service.split("nowhere")
    service.store.set_split("bundle", "nowhere", 0.5)  # of a service that had it
    service.maintain()
    assert service.assigned("ann")[1:] == ("", "")
