"""From the hours of a log's times to a served bundle that reads the time of a request."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from twotower.bundle import load_bundle
from twotower.data import Dataset, Part, Queries
from twotower.data.prepare import prepare
from twotower.data.schema import Column
from twotower.data.settings import PrepareSettings
from twotower.errors import InputError
from twotower.evaluation.protocols import evaluate, validation_ndcg
from twotower.evaluation.registry import FULL, FULL_TIMED
from twotower.inference import Pipeline
from twotower.inference.batch import recommendation_tables
from twotower.inference.options import RecommendOptions
from twotower.inference.requests import Request, context_at
from twotower.recommender import Recommender
from twotower.service.api.app import create_app
from twotower.service.api.auth import Scope, new_key
from twotower.service.retrain import write_source
from twotower.service.settings import ServeSettings
from twotower.service.state import StateStore
from twotower.training.fit import Trained, fit

HOURS = (8, 13, 20)
ZONE = "Europe/Berlin"
SCHEMA = {
    "events": {
        "device": "category",
        "hour": {"kind": "hour", "time_zone": ZONE},
        "day": {"kind": "weekday", "time_zone": ZONE},
    }
}
MORNING = datetime(2024, 7, 1, 6, 10, tzinfo=UTC)
"""A Monday; 8 o'clock in Berlin."""


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """A log whose hour decides the item: a third of the items is for each of three hours."""
    rng = np.random.default_rng(5)
    rows = []
    for user in range(60):
        left = [rng.permutation(10).tolist() for _ in HOURS]
        for at in range(9):
            which = int(rng.integers(3))
            item = f"i{3 * left[which].pop() + which:02}"
            local = datetime(2024, 6, 1, HOURS[which] - 2, 30, tzinfo=UTC)  # two hours east
            moment = local + timedelta(days=2 * at, seconds=user)
            rows.append((f"u{user:02}", item, int(moment.timestamp()), "tv" if at % 2 else "phone"))
    log = pl.DataFrame(rows, schema=["user", "item", "time", "device"], orient="row")
    return Dataset.from_frames(log, schema=SCHEMA, settings={"k_core": 0})


@pytest.fixture(scope="module")
def trained(dataset: Dataset, context_variant: Any) -> Trained:
    text = np.zeros((len(dataset.items), 384), np.float32)
    return fit(
        context_variant, dataset, text=text,
        validate=lambda module: validation_ndcg(module.scorer(), dataset),
    )  # fmt: skip


def scores(pipeline: Pipeline, user: str, **request: Any) -> list[float]:
    options = RecommendOptions(20, rerank=False)
    (found,) = pipeline.recommend_batch([Request(user, **request)], options)
    return [one.score for one in sorted(found, key=lambda one: one.item_id)]


def test_a_model_that_is_told_the_time_is_far_better_where_that_decides(
    trained: Trained, dataset: Dataset
) -> None:
    scorer = trained.module.scorer()
    assert scorer.time_context == ("hour", "day")
    found = evaluate(scorer, dataset, protocols=(FULL, FULL_TIMED))
    assert found.mean(FULL_TIMED, "NDCG@10") > 1.5 * found.mean(FULL, "NDCG@10")
    assert found.context == ("device", "hour", "day")
    assert evaluate(scorer, dataset, protocols=(FULL,)).context == ("device",)


def test_schema_to_service_gives_the_same_vectors(
    trained: Trained, dataset: Dataset, pipeline: Pipeline
) -> None:
    scorer, table = trained.module.scorer(), dataset.request_contexts
    assert table is not None
    for timed in (True, False):
        queries, targets = dataset.held_out(Part.TEST, timed=timed)
        stated = [table.row(int(row), named=True) for row in queries.contexts]
        times = targets.timestamps[targets.indptr[:-1]].tolist()
        requests = [
            Request(
                dataset.users.ids[user],
                time=at,
                context={"device": row["device"]} | ({} if timed else {"hour": None, "day": None}),
            )
            for user, at, row in zip(queries.users.tolist(), times, stated, strict=True)
        ]
        context = pipeline._context(requests)
        assert context is not None
        bare = Queries(queries.users, queries.histories)
        expected = scorer.user_vectors(queries)
        np.testing.assert_allclose(
            pipeline._tower.encode(bare, context=context), expected, atol=1e-5
        )
        given = pipeline._tower.context_of(stated)
        np.testing.assert_allclose(pipeline._tower.encode(bare, context=given), expected, atol=1e-5)


def test_the_time_of_a_request_fills_what_it_does_not_say(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    morning = int(MORNING.timestamp() * 1000)
    expected = scores(pipeline, "u00", context={"hour": 8, "day": 1})
    assert expected == scores(pipeline, "u00", time=morning)
    assert expected == scores(
        pipeline, "u00", time=MORNING.astimezone(timezone(timedelta(hours=9)))
    )
    evening = scores(pipeline, "u00", time=morning + 12 * 3_600_000)
    assert expected != evening
    assert scores(pipeline, "u00", time=morning, context={"hour": 20}) == evening
    monkeypatch.setattr("time.time_ns", lambda: morning * 1_000_000)
    assert expected == scores(pipeline, "u00")
    unknown = scores(pipeline, "u00", context={"hour": None, "day": None})
    assert unknown not in (expected, evening)
    tables = recommendation_tables(pipeline, ["u00"], RecommendOptions(20, rerank=False))
    (table,) = [table for table, _ in tables]  # when it is read nobody knows
    of_item = dict(zip(table["item_id"].to_pylist(), table["score"].to_pylist(), strict=True))
    np.testing.assert_allclose([of_item[item] for item in sorted(of_item)], unknown, rtol=1e-6)


def test_the_command_line_takes_the_time_of_a_request(
    bundle: Path, pipeline: Pipeline, cli: Callable[..., Any]
) -> None:
    words = ["recommend", "--bundle", bundle, "--user", "u03", "-k", 20, "--no-rerank"]
    expected = pipeline.recommend("u03", k=20, rerank=False, context={"hour": 8, "day": 1})
    for at in ("2024-07-01T08:10:00+02:00", int(MORNING.timestamp() * 1000)):
        found = json.loads(cli(*words, "--time", at, "--json", "-").out)
        assert [item["item_id"] for item in found] == [item.item_id for item in expected]
    assert "time must be milliseconds since" in cli(*words, "--time", "8 o'clock").error


def test_offsets_of_their_own_are_known_where_the_time_of_a_request_has_one() -> None:
    columns = {
        "here": Column(kind="hour", time_zone="own"), "there": Column(kind="hour", time_zone=ZONE)
    }  # fmt: skip
    morning = int(MORNING.timestamp() * 1000)
    assert context_at(morning, 0, columns) == {"there": 8}
    assert context_at(None, morning, columns) == {"there": 8}
    tokyo = MORNING.astimezone(timezone(timedelta(hours=9)))
    assert context_at(tokyo, 0, columns) == {"here": 15, "there": 8}


def test_the_service_takes_a_time_and_says_what_it_reads(bundle: Path, pipeline: Pipeline) -> None:
    def ids(**request: Any) -> list[str]:
        body = {"user_id": "u03", "k": 20, "rerank": False, **request}
        answer = client.post("/v1/recommendations", json=body)
        assert answer.is_success, answer.text
        return [one["item_id"] for one in answer.json()["items"]]

    expected = [
        one.item_id for one in pipeline.recommend("u03", k=20, rerank=False,
                                                  context={"hour": 8, "day": 1})
    ]  # fmt: skip
    with TestClient(create_app(ServeSettings(bundle=bundle))) as client:
        assert client.get("/v1/model").json()["context"] == {
            "device": "category", "hour": "hour", "day": "weekday"
        }  # fmt: skip
        assert ids(time="2024-07-01T08:10:00+02:00") == expected
        assert ids(time=int(MORNING.timestamp() * 1000)) == expected
        assert ids(context={"hour": 8, "day": 1}) == expected
        assert ids(time="2024-07-01T20:10:00+02:00") != expected
        one = {"user_id": "u03", "time": "2024-07-01T06:10:00Z"}
        batch = client.post(
            "/v1/recommendations/batch", json={"requests": [one], "k": 20, "rerank": False}
        )
        assert [item["item_id"] for item in batch.json()["answers"][0]["items"]] == expected
        found = client.get(
            "/v1/users/u03/recommendations",
            params={"context": ["hour=8", "day=1"], "k": 20, "rerank": False},
        )
        assert [item["item_id"] for item in found.json()["items"]] == expected
        for at in ("2024-07-01T08:10:00+02:00", int(MORNING.timestamp() * 1000)):
            found = client.get(
                "/v1/users/u03/recommendations", params={"time": at, "k": 20, "rerank": False}
            )
            assert [item["item_id"] for item in found.json()["items"]] == expected
        found = client.get("/v1/users/u03/recommendations", params={"time": "1719814200"})
        assert found.status_code == 422
        assert "not seconds" in found.text
        for wrong, message in (
            ({"time": "2024-07-01T08:10:00"}, "with an offset such as"),
            ({"time": "noon"}, "with an offset such as"),
            ({"time": True}, "must be milliseconds since 1970"),
            ({"time": 1_719_814_200}, "not seconds"),
            ({"context": {"hour": 24}}, "hour is an hour, got 24"),
            ({"context": {"hour": 8.5}}, "send a whole number from 0 to 23"),
            ({"context": {"day": 0}}, "day is a weekday, got 0"),
        ):
            answer = client.post("/v1/recommendations", json={"user_id": "u03", **wrong})
            assert answer.status_code == 422
            assert message in answer.text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (datetime(2024, 7, 1, 8), "with an offset such as 2025-01-31T18:30:00+01:00, got datetime"),
        ("noon", "time must be milliseconds since 1970-01-01 UTC, .* got 'noon'"),
        (1_719_814_200, "1719814200 is January 1970; send milliseconds"),
        (-1, "-1 is out of range"),
    ],
)
def test_python_takes_a_time_too(bundle: Path, wrong: Any, message: str) -> None:
    recommender = Recommender.load(bundle)
    expected = recommender.recommend("u03", context={"hour": 8, "day": 1})
    for at in (MORNING, "2024-07-01T08:10:00+02:00", int(MORNING.timestamp() * 1000)):
        assert recommender.recommend("u03", time=at) == expected
    assert recommender.recommend("u03", time=MORNING + timedelta(hours=12)) != expected
    with pytest.raises(InputError, match=message.replace("+", r"\+")):
        recommender.recommend("u03", time=wrong)
    with pytest.raises(InputError, match="many users take no time"):
        recommender.recommend(["u03"], time=MORNING)


def test_the_next_training_derives_the_context_of_new_events(
    bundle: Path, dataset: Dataset, tmp_path: Path
) -> None:
    state = f"sqlite:///{tmp_path / 'state.db'}"
    item, at = dataset.items.ids[0], int(MORNING.timestamp() * 1000)
    event = {"user_id": "u00", "item_id": item, "kind": "buy", "occurred_at": at}
    events = [
        {**event, "event_id": "e1"},
        {**event, "event_id": "e2", "occurred_at": at + 1, "context": {"hour": 23, "device": "tv"}},
    ]
    key, line = new_key("shop", Scope.WRITE)
    (tmp_path / "keys").write_text(line + "\n")
    served = ServeSettings(bundle=bundle, state_url=state, keys_file=tmp_path / "keys")
    headers = {"Authorization": f"Bearer {key}"}
    with TestClient(create_app(served), headers=headers) as client:
        answer = client.post("/v1/events", json={"events": events})
        assert answer.is_success, answer.text
    store = StateStore(state)
    write_source(load_bundle(bundle).contents, store, tmp_path / "next")
    store.close()
    again = prepare(tmp_path / "next", settings=PrepareSettings(k_core=0, keep_repeats=True))
    assert again.schema == dataset.schema

    def contexts(one: Dataset) -> dict[tuple[str, int], Any]:
        log, table = one.interactions, one.context_table
        assert table is not None
        keys = zip(log.rows.tolist(), log.timestamps.tolist(), strict=True)
        return dict(zip(keys, table[log.contexts].rows(), strict=True))

    after = contexts(again)
    assert after.pop((0, at)) == (None, 8, 1)
    assert after.pop((0, at + 1)) == ("tv", 23, 1)
    assert after == contexts(dataset)


def test_a_bundle_of_an_hour_refuses_other_values(pipeline: Pipeline) -> None:
    with pytest.raises(InputError, match="hour is an hour, got True"):
        pipeline.recommend("u00", context={"hour": True})
    assert pipeline.parsed_context(["hour=8"]) == {"hour": 8}
    with pytest.raises(InputError, match="hour is an hour, got 'noon'"):
        pipeline.parsed_context(["hour=noon"])
