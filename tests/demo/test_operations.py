from datetime import UTC, date, datetime

import numpy as np
import pytest

from twotower.data import Histories
from twotower.data.events import EventRules
from twotower.demo.loaded_bundle import LoadedBundle
from twotower.demo.operations import (
    counted,
    event_notes,
    item_listing,
    matching,
    newest_first,
    spread,
    user_listing,
)

METRICS = """
twotower_requests_total{route="/v1/recommendations",status="200"} 8.0
twotower_requests_total{route="/v1/recommendations",status="500"} 2.0
twotower_request_seconds_bucket{route="/v1/recommendations",le="0.001"} 6.0
twotower_request_seconds_bucket{route="/v1/recommendations",le="0.01"} 9.0
twotower_request_seconds_bucket{route="/v1/recommendations",le="+Inf"} 10.0
twotower_recommended_users_total{kind="known"} 3.0
twotower_recommended_users_total{kind="new"} 1.0
"""


def test_metrics_are_read() -> None:
    found = counted(METRICS)
    route = found.routes["/v1/recommendations"]
    assert (route.requests, route.failed) == (10, 2)
    assert (route.median_ms, route.p99_ms) == (pytest.approx(1), np.inf)
    assert found.cold_share == 0.25
    assert counted("").cold_share is None


def test_coverage_and_exposure(loaded: LoadedBundle) -> None:
    ids = loaded.pipeline.contents.items.ids
    users = loaded.pipeline.contents.users.ids[:4]
    every = spread(loaded.engine, users, np.ones(len(ids), dtype=np.bool_), ids)
    assert every.users == 4
    assert 0.25 <= every.coverage <= 1
    assert every.new_places == every.new_items == 1
    assert spread(loaded.engine, ["nobody"], np.zeros(len(ids), dtype=np.bool_), ids).users == 0


DAY = 86_400_000


def test_newest_items_are_those_whose_first_event_is_newest() -> None:
    log = Histories(np.array([0, 2, 4]), np.array([0, 1, 2, 0]), None, np.array([0, 1, 2, 3]) * DAY)
    found = newest_first(log, 4, 2)  # item 3 has no events
    assert found == [(2, datetime(1970, 1, 3, tzinfo=UTC)), (1, datetime(1970, 1, 2, tzinfo=UTC))]
    assert len(newest_first(log, 4, 9)) == 3
    assert newest_first(Histories(log.indptr, log.items), 4, 2) == []


def test_events_of_a_user_have_a_day_and_a_kind() -> None:
    rules = EventRules(weights={"view": 0.2, "buy": 1})
    log = Histories(
        np.array([0, 1, 3]), np.array([0, 1, 2]), timestamps=np.array([0, 1, 2]) * DAY,
        kinds=np.array([0, 1, 0], dtype=np.uint8), rules=rules,
    )  # fmt: skip
    assert event_notes(log, 1) == ["02 Jan 1970, buy", "03 Jan 1970, view"]
    assert event_notes(Histories(log.indptr, log.items), 1) == ["", ""]


LOG = Histories(np.array([0, 1, 1, 4]), np.array([2, 0, 2, 2]), timestamps=np.arange(4) * DAY)


def test_items_are_listed_by_events_with_what_is_known_of_them() -> None:
    found = item_listing(
        ["a", "b", "c"], ["Red hat", "Blue hat", "Shoe"], ["Hats", "Hats", None],
        np.array([1, 0, 3]), LOG,
    )  # fmt: skip
    assert found.rows() == [
        ("c", "Shoe", None, 3, date(1970, 1, 1)),
        ("a", "Red hat", "Hats", 1, date(1970, 1, 2)),
        ("b", "Blue hat", "Hats", 0, None),
    ]
    assert matching(found, "HAT blue", 9)["id"].to_list() == ["b"]
    assert matching(found, "", 2)["id"].to_list() == ["c", "a"]
    assert matching(found, "glove", 9).is_empty()
    bare = item_listing(["a"], [None], [None], np.array([1]), Histories(LOG.indptr, LOG.items))
    assert bare.columns == ["id", "events"]


def test_users_are_listed_by_events_with_the_days_of_the_first_and_the_newest() -> None:
    assert user_listing(["x", "y", "z"], LOG).rows() == [
        ("z", 3, date(1970, 1, 2), date(1970, 1, 4)),
        ("x", 1, date(1970, 1, 1), date(1970, 1, 1)),
        ("y", 0, None, None),
    ]
    assert user_listing(["x"], Histories(np.array([0, 1]), np.array([0]))).rows() == [("x", 1)]
