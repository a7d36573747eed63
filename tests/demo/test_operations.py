import numpy as np
import pytest

from twotower.demo.loaded_bundle import LoadedBundle
from twotower.demo.operations import counted, spread

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
