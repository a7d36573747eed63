"""From answers to rates: attribution, drift, and a split that simulated shoppers decide."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa

from twotower.bundle.storage import save_bundle
from twotower.index import ExactConfig, build_index
from twotower.inference.options import RecommendOptions
from twotower.inference.requests import Request
from twotower.service.interleaving import team_draft
from twotower.service.live import PopularityDrift, ShownCounts, position_group
from twotower.service.recommendation_id import RecommendationId
from twotower.service.service import Service
from twotower.service.state import Event, live, tables
from twotower.service.state.live import Shown


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
        RecommendationId("v", "i", False, "7-" + "0f" * 16, "abba-ab"),
    ],
)
def test_an_id_says_what_it_was_made_of(about) -> None:
    ids = {about.new() for _ in range(100)}
    assert len(ids) == 100
    assert {RecommendationId.read(one) for one in ids} == {about}


@pytest.mark.parametrize("text", ["", "x", "a~b~c~d~e", "v~a~k~~r", "v~~k~unit~r", "v" * 300])
def test_other_ids_say_nothing(text) -> None:
    assert RecommendationId.read(text) is None


def test_an_id_has_the_teams_of_as_many_places_as_it_has_room_for() -> None:
    about = RecommendationId("v10-0123456789ab", "i", True, "12-" + "0f" * 16, "ab" * 500)
    text = about.new()
    read = RecommendationId.read(text)
    assert len(text) == 200
    assert read is not None
    assert about.teams.startswith(read.teams)
    assert len(read.teams) > 100
    teams = [about._replace(teams="ab-").team(place) for place in (None, 0, 1, 2, 3, 4)]
    assert teams == [None, None, "a", "b", None, None]


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
    assert service.assigned("ann").arm == ""
    service.split("other", 0.3)
    arms = {f"u{number}": service.assigned(f"u{number}")[1] for number in range(600)}
    assert {user: service.assigned(user)[1] for user in arms} == arms
    assert 0.2 < [*arms.values()].count("b") / 600 < 0.4
    versions = {service.assigned(user)[0].manifest.model_version: arm for user, arm in arms.items()}
    assert sorted(versions.values()) == ["a", "b"]
    service.split(None)
    assert service.assigned("ann")[1:] == ("", "", None)


def test_all_services_follow_a_split_and_its_writes(start) -> None:
    one, two = start(), start()
    one.split("other", 0.5)
    two.maintain()
    users = [f"u{number}" for number in range(50)]
    pairs = [(one.assigned(user), two.assigned(user)) for user in users]
    assert all((ours.arm, ours.unit) == (theirs.arm, theirs.unit) for ours, theirs in pairs)
    event = Event(event_id="1", user_id="u1", item_id="item-01", kind="view", occurred_at=5)
    one.add_events([event])
    for user in users:
        assert len(one.assigned(user).snapshot.past_of("u1")) == 1  # of both bundles
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
        snapshot, arm, unit, _ = service.assigned(user)
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
    rows = {row["arm"]: row for row in found["models"]}
    for arm, rate in zip("ab", rates, strict=True):
        row = rows[arm]
        assert row["conversion"] == row["events_per_answer"] == pytest.approx(rate, abs=0.04)
        assert (row["new_user_share"], row["new_item_share"]) == (1, 0.5)
    assert found["positions"] == [{"kind": "buy", "position": "1", "events": len(events)}]
    service.live_report(0)
    assert service.live_report(0)["models"] == found["models"]  # counted once


def shop(service: Service, liked: dict[str, float], shoppers: int, seed: int, k: int = 8) -> int:
    """Shoppers who buy one item, or none, by how much they like what is shown; how many bought."""
    rng = np.random.default_rng(seed)
    options = RecommendOptions(k, reasons=False)
    events = []
    for number in range(shoppers):
        user = f"shopper-{seed}-{number}"
        snapshot, arm, unit, other = service.assigned(user)
        history = Request(None, (f"item-{rng.integers(60):02}",))
        items = snapshot.pipeline.answers([history], options)[0].items
        teams = ""
        if other is not None:
            beside = other.pipeline.answers([history], options)[0].items
            items, teams = team_draft(items, beside, k, lambda: rng.random() < 0.5)
        about = RecommendationId(snapshot.manifest.model_version, arm, False, unit, teams)
        service.shown.add(about, [one.item_id for one in items], 0)
        tastes = np.array([*(liked[one.item_id] for one in items), rng.lognormal(2.0, 1.0)])
        place = rng.choice(k + 1, p=tastes / tastes.sum())
        if place < k:
            events.append(
                Event(
                    event_id=user, user_id=user, item_id=items[place].item_id, kind="buy",
                    occurred_at=10**12, recommendation_id=about.new(), position=place + 1,
                )
            )  # fmt: skip
    service.add_events(events)
    return len(events)


@pytest.fixture
def liked(open_contents) -> dict[str, float]:
    """How much shoppers like each item."""
    return {item: 6.0 if row % 2 else 1.0 for row, item in enumerate(open_contents.items.ids)}


@pytest.fixture
def start_better(start, open_contents, weights, tmp_path) -> Callable[[], Service]:
    """A service beside whose bundle lies one that ranks liked items higher."""
    vectors = open_contents.item_vectors.copy()
    vectors[0::2] *= 0.6
    better = replace(
        open_contents,
        info=open_contents.info.vary(dataset="better"),
        item_vectors=vectors,
        index=build_index(vectors, ExactConfig()),
    )
    save_bundle(tmp_path / "better", better, weights)
    return start


def test_interleaving_finds_a_better_bundle_with_far_fewer_shoppers(start_better, liked) -> None:
    service = start_better()
    needed = {}
    for interleaved in (True, False):
        mode, share = ("interleave", 1.0) if interleaved else ("split", 0.5)
        service.split("better", share, mode)
        for looked in range(1, 11):
            shop(service, liked, 100, seed=looked + 100 * interleaved)
            found = service.live_report(0)["interleaving" if interleaved else "split"]
            if found["better"] is not None:
                break
        needed[interleaved] = 100 * looked
        assert found["better"] == ("b" if interleaved else None)  # not yet
    assert 5 * needed[True] <= needed[False]


def test_interleaved_bundles_that_are_alike_are_not_called_different(start, liked) -> None:
    service = start()
    service.split("other", 1.0, "interleave")
    bought = 0
    for looked in range(1, 7):
        bought += shop(service, liked, 100, seed=looked)
        found = service.live_report(0)["interleaving"]
        assert found["better"] is None
        assert found["low"] < 0 < found["high"]
    assert found["units"] == found["a"] + found["b"] + found["ties"]
    assert found["units"] > 200
    assert (found["bundle"], found["share"], found["unplaced"]) == ("other", 1.0, 0)
    with service.store.engine.connect() as connection:
        table = tables.credits
        assert connection.execute(sa.select(sa.func.sum(table.c.a + table.c.b))).scalar() == bought


def test_events_count_for_the_bundle_that_their_item_came_from(start) -> None:
    service = start()
    service.split("other", 1.0, "interleave")
    snapshot, arm, unit, other = service.assigned("ann")
    assert (arm, other is None) == ("i", False)
    about = RecommendationId(snapshot.manifest.model_version, arm, True, unit, "ab-b")
    older = about._replace(unit=unit.replace("1-", "0-", 1))

    def event(number: int, position: int | None, **changes) -> Event:
        given = {
            "event_id": str(number), "user_id": "ann", "item_id": f"item-{number:02}",
            "kind": "view", "occurred_at": 10**12, "recommendation_id": about.new(),
            "position": position, **changes,
        }  # fmt: skip
        return Event(**given)

    def won() -> tuple[int, int, int, int]:
        found = service.live_report(0)["interleaving"]
        return tuple(found[name] for name in ("a", "b", "ties", "unplaced"))

    assert won() == (0, 0, 0, 0)
    first = [event(1, 1), event(2, 2)]
    service.add_events(first)
    assert won() == (0, 0, 1, 0)
    service.add_events([first[0], event(6, 4), first[0]])  # what is sent again counts once
    assert won() == (0, 1, 0, 0)
    service.add_events([event(3, 3), event(4, None), event(5, 9)])
    assert won() == (0, 1, 0, 3)
    service.add_events([event(8, 1, recommendation_id=older.new())])  # of an earlier split
    service.add_events([event(9, 1, quantity=-1.0)])  # a return
    assert won() == (0, 1, 0, 3)
    service.split(None)
    assert service.live_report(0)["interleaving"] is None


def test_a_part_of_the_users_can_be_interleaved(start) -> None:
    service = start()
    service.split("other", 0.3, "interleave")
    arms = [service.assigned(f"u{number}").arm for number in range(600)]
    assert 0.2 < arms.count("i") / 600 < 0.4
    assert arms.count("") == 600 - arms.count("i")


def test_a_bundle_that_cannot_be_used_splits_nothing(start, tmp_path) -> None:
    from twotower.errors import TwoTowerError

    service = start()
    with pytest.raises(TwoTowerError):
        service.split("nowhere")
    service.store.write(live.set_split, "bundle", "nowhere", 0.5)  # of a service that had it
    service.maintain()
    assert service.assigned("ann").arm == ""
