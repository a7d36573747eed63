"""From declared columns of a log to a served bundle that reads the context of a request."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from twotower.bundle import load_bundle
from twotower.data import Dataset, Part, Queries
from twotower.data.prepare import prepare
from twotower.data.settings import PrepareSettings
from twotower.errors import InputError
from twotower.inference import Pipeline
from twotower.inference.requests import Request
from twotower.recommender import Recommender
from twotower.service.api.app import create_app
from twotower.service.api.auth import Scope, new_key
from twotower.service.retrain import write_source
from twotower.service.settings import ServeSettings
from twotower.service.state import StateStore
from twotower.training.fit import Trained

PHONE = {"device": "phone", "hour": 0.5, "is_app": True}
TV = {"device": "tv", "hour": 6.0, "is_app": False}


@pytest.fixture(scope="module")
def dataset(context_dataset: Dataset) -> Dataset:
    return context_dataset


@pytest.fixture(scope="module")
def trained(context_trained: Trained) -> Trained:
    return context_trained


@contextmanager
def started(bundle: Path, folder: Path) -> Iterator[TestClient]:
    """The service over a database in a folder."""
    key, line = new_key("boss", Scope.ADMIN)
    (folder / "keys").write_text(line + "\n")
    state = f"sqlite:///{folder / 'state.db'}"
    settings = ServeSettings(bundle=bundle, state_url=state, keys_file=folder / "keys", poll_s=60)
    headers = {"Authorization": f"Bearer {key}"}
    with TestClient(create_app(settings), headers=headers) as client:
        yield client


@pytest.fixture
def client(bundle: Path, tmp_path: Path) -> Iterator[TestClient]:
    with started(bundle, tmp_path) as client:
        yield client


def ids(found: Any) -> list[str]:
    return [one["item_id"] if isinstance(one, dict) else one.item_id for one in found]


def test_schema_to_service_gives_the_same_vectors(
    trained: Trained, dataset: Dataset, pipeline: Pipeline
) -> None:
    queries, _ = dataset.held_out(Part.TEST)
    table, scorer = dataset.context_table, trained.module.scorer()
    assert table is not None
    stated = [table.row(int(row), named=True) for row in queries.contexts]
    found = pipeline._tower.encode(queries, context=pipeline._tower.context_of(stated))
    np.testing.assert_allclose(found, scorer.user_vectors(queries), atol=1e-5)
    without = Queries(queries.users, queries.histories)
    np.testing.assert_allclose(
        pipeline._tower.encode(without), scorer.user_vectors(without), atol=1e-5
    )
    many = queries.select(np.arange(300) % len(queries))  # more than are run at once
    context = pipeline._tower.context_of(stated).take(np.arange(300) % len(queries))
    np.testing.assert_allclose(
        pipeline._tower.encode(many, context=context), scorer.user_vectors(many), atol=1e-5
    )


def test_a_value_that_training_never_saw_is_unknown_and_null_is_missing(
    pipeline: Pipeline,
) -> None:
    user = pipeline.contents.users.ids[0]

    def scores(**context: Any) -> list[float]:
        found = pipeline.recommend(user, k=20, rerank=False, context=context)
        return [one.score for one in sorted(found, key=lambda one: one.item_id)]

    assert scores(device="fridge") != scores(device="phone")
    assert scores(device=None) == scores()
    assert scores(**PHONE) != scores(**TV)


def test_a_request_with_a_context_is_answered_alike_by_all_ways_in(
    exit_code: Any, bundle: Path, pipeline: Pipeline, client: TestClient, tmp_path: Path
) -> None:
    user = pipeline.contents.users.ids[3]
    expected = ids(pipeline.recommend(user, context=PHONE))
    assert expected != ids(pipeline.recommend(user, context=TV))
    recommender = Recommender.load(bundle)
    assert ids(recommender.recommend(user, context=PHONE)) == expected
    table = recommender.recommend([user, "nobody"], context=PHONE)
    assert table.filter(pl.col("user_id") == user)["item_id"].to_list() == expected
    body = {"user_id": user, "context": PHONE}
    answer = client.post("/v1/recommendations", json=body).json()
    assert ids(answer["items"]) == expected
    batch = client.post(
        "/v1/recommendations/batch", json={"requests": [body, {**body, "context": TV}]}
    )
    assert [ids(one["items"]) == expected for one in batch.json()["answers"]] == [True, False]
    stated = ["device=phone", "hour=0.5", "is_app=true"]
    found = client.get(f"/v1/users/{user}/recommendations", params={"context": stated})
    assert ids(found.json()["items"]) == expected
    arguments = [text for one in stated for text in ("--context", one)]
    run = ["recommend", "--bundle", str(bundle), "--user", user, *arguments]
    assert exit_code(*run, "--json", str(tmp_path / "found.json")) == 0
    assert pl.read_json(tmp_path / "found.json")["item_id"].to_list() == expected
    (tmp_path / "users.csv").write_text(f"user_id\n{user}\n")
    out = tmp_path / "out.csv"
    run = ["recommend", "--bundle", str(bundle), "--batch", str(tmp_path / "users.csv")]
    assert exit_code(*run, "--out", str(out), *arguments) == 0
    assert pl.read_csv(out)["item_id"].to_list() == expected


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"devise": "phone"}, "unknown field 'devise'"),
        ({"device": 3}, "device is a category, got 3"),
        ({"hour": "noon"}, "hour is a number, got 'noon'"),
        ({"is_app": "yes"}, "is_app is a flag, got 'yes'"),
    ],
)
def test_what_is_not_declared_is_refused_by_name(
    context: Any, message: str, pipeline: Pipeline, client: TestClient
) -> None:
    with pytest.raises(InputError, match=message):
        pipeline.recommend("u00", context=context)
    answer = client.post("/v1/recommendations", json={"user_id": "u00", "context": context})
    assert answer.status_code == 422
    assert message in answer.text
    texts = [f"{name}={value}" for name, value in context.items()]
    if context != {"device": 3}:  # a text of an address is a category
        answer = client.get("/v1/users/u00/recommendations", params={"context": texts})
        assert answer.status_code == 422
        assert message in answer.text
    assert client.get("/v1/users/u00/recommendations?context=phone").status_code == 422


def test_the_service_says_what_context_it_reads(client: TestClient) -> None:
    expected = {"device": "category", "hour": "number", "is_app": "flag"}
    assert client.get("/v1/model").json()["context"] == expected


def test_a_bundle_that_reads_none_says_so(bundle_of_blocks: Path, tmp_path: Path) -> None:
    pipeline = Pipeline.load(bundle_of_blocks)
    user = pipeline.contents.users.ids[0]
    with pytest.raises(InputError, match="this model reads no context, got 'device'"):
        pipeline.recommend(user, context={"device": "phone"})
    assert pipeline.recommend(user, context={}) == pipeline.recommend(user)
    with started(bundle_of_blocks, tmp_path) as client:
        body = {"user_id": user, "context": {"device": "phone"}}
        answer = client.post("/v1/recommendations", json=body)
        assert answer.status_code == 422
        assert "reads no context" in answer.text
        assert client.get("/v1/model").json()["context"] == {}


def test_of_two_bundles_each_takes_the_context_that_it_declares(
    bundle: Path, bundle_of_blocks: Path, tmp_path: Path
) -> None:
    shutil.copytree(bundle, tmp_path / "new")
    old = Path(shutil.copytree(bundle_of_blocks, tmp_path / "old"))
    with started(old, tmp_path) as client:
        body = {"user_id": "u00", "context": PHONE}
        assert client.post("/v1/recommendations", json=body).status_code == 422
        assert client.post("/v1/models/split", json={"bundle": "new", "share": 0.5}).is_success
        answers = [
            client.post("/v1/recommendations", json={**body, "user_id": f"u{user:02}"})
            for user in range(10)
        ]
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["model_version"] for answer in answers}) == 2


def test_the_next_training_has_the_contexts_of_the_log_again(
    bundle: Path, dataset: Dataset, client: TestClient, tmp_path: Path
) -> None:
    event = {
        "event_id": "e1", "user_id": "u00", "item_id": dataset.items.ids[0], "kind": "buy",
        "occurred_at": 1_700_000_999_000,
    }  # fmt: skip
    told = {**event, "event_id": "e2", "occurred_at": 1_700_000_999_001, "context": PHONE}
    wrong = {**told, "context": {"hour": "noon"}}
    assert "hour is a number" in client.post("/v1/events", json={"events": [wrong]}).text
    assert client.post("/v1/events", json={"events": [event, told]}).is_success
    again = client.post("/v1/events", json={"events": [told]})
    assert not again.json()["events"][0]["recorded"]
    store = StateStore(f"sqlite:///{tmp_path / 'state.db'}")
    contents = load_bundle(bundle).contents
    write_source(contents, store, tmp_path / "next")
    store.close()
    settings = PrepareSettings(k_core=0, keep_repeats=True)
    again = prepare(tmp_path / "next", settings=settings)
    assert again.schema == dataset.schema

    def contexts(one: Dataset) -> dict[tuple[str, int], Any]:
        log, table = one.interactions, one.context_table
        assert table is not None
        keys = zip(log.rows.tolist(), log.timestamps.tolist(), strict=True)
        return dict(zip(keys, table[log.contexts].rows(), strict=True))

    before, after = contexts(dataset), contexts(again)
    assert after.pop((0, 1_700_000_999_000)) == (None, None, None)
    assert after.pop((0, 1_700_000_999_001)) == tuple(PHONE.values())
    assert after == before


def test_an_older_bundle_has_declared_columns_without_contexts(bundle_of_blocks: Path) -> None:
    contents = load_bundle(bundle_of_blocks).contents
    assert contents.histories.contexts is None
    assert not Pipeline(contents)._tower.reads_context
    assert Pipeline(contents)._context([Request("u00", context={"device": "tv"})]) is None
