"""From `dataset.toml` to a served bundle with declared columns."""

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from twotower.bundle import load_bundle
from twotower.data import Dataset, Queries
from twotower.data.prepare import prepare
from twotower.data.settings import PrepareSettings
from twotower.errors import InputError
from twotower.features.declared_columns import no_texts
from twotower.inference import Pipeline
from twotower.inference.filters import Filters
from twotower.inference.item_encoder import catalogue_rows
from twotower.recommender import Recommender
from twotower.service.api.app import create_app
from twotower.service.api.auth import Scope, new_key
from twotower.service.retrain import write_source
from twotower.service.settings import ServeSettings
from twotower.service.state import StateStore
from twotower.training.fit import Trained, fit

USERS, ITEMS = 40, 24

TOML = """
users = "users.csv"

[read]
time_unit = "s"

[prepare]
k_core = 0

[schema.items]
brand = "category"
tags = "list"
price = "number"
launched = "date"
blurb = { kind = "text", encoder = "hashing" }
own = { kind = "embedding", file = "own.npy", ids = "own.txt" }
in_stock = { kind = "flag", stock = true }
photo = "image"

[schema.users]
age = "number"
country = "category"
member = "flag"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log in which a user's country decides the brand."""
    folder = tmp_path_factory.mktemp("declared")
    rng = np.random.default_rng(0)
    brands = np.arange(ITEMS) % 3
    items = pl.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(ITEMS)],
            "title": [f"thing {item}" for item in range(ITEMS)],
            "brand": [["red", "green", "blue"][brand] for brand in brands],
            "tags": [f'["t{item % 4}", "t{item % 5}"]' for item in range(ITEMS)],
            "price": [f"EUR {5 + item},50" if item else None for item in range(ITEMS)],
            "launched": [f"2024-01-{item % 28 + 1:02d}" for item in range(ITEMS)],
            "blurb": [f"made of {['wool', 'steel'][item % 2]}" for item in range(ITEMS)],
            "in_stock": ["false" if item == 4 else "true" for item in range(ITEMS)],
            "photo": [f"{item}.jpg" for item in range(ITEMS)],
        }
    )
    items.write_csv(folder / "items.csv")
    np.save(folder / "own.npy", np.eye(ITEMS, 5, dtype=np.float32)[1:])
    (folder / "own.txt").write_text("\n".join(f"i{item}" for item in range(1, ITEMS)))
    countries = rng.integers(0, 3, USERS)
    pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in range(USERS)],
            "age": [None if user == 3 else int(20 + user) for user in range(USERS)],
            "country": [["DE", "FR", "IT"][country] for country in countries],
            "member": ["yes" if user % 2 else "no" for user in range(USERS)],
        }
    ).write_csv(folder / "users.csv")
    rows = []
    for user in range(USERS):
        mine = rng.permutation(np.flatnonzero(brands == countries[user]))[:6]
        rows += [(f"u{user}", f"i{item}", 1_700_000_000 + at) for at, item in enumerate(mine)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    log.write_csv(folder / "log.csv")
    (folder / "dataset.toml").write_text(TOML)
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return prepare(folder)


@pytest.fixture(scope="module")
def trained(dataset: Dataset, small_variants: Any) -> Trained:
    small = small_variants["v9"]
    variant = small.vary(
        model=small.model.vary(columns="all", index_dim=None),
        training=small.training.vary(epochs=60, least_steps=0, batch_size=16),
    )
    rng = np.random.default_rng(1)
    text = rng.normal(size=(len(dataset.items), 384)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    rising = count()
    return fit(variant, dataset, validate=lambda _: float(next(rising)), text=text)


@pytest.fixture
def start(bundle: Path, tmp_path: Path) -> Callable[[], TestClient]:
    """Starts the service over one database."""
    key, line = new_key("boss", Scope.ADMIN)
    (tmp_path / "keys").write_text(line + "\n")
    state = f"sqlite:///{tmp_path / 'state.db'}"
    settings = ServeSettings(bundle=bundle, state_url=state, keys_file=tmp_path / "keys", poll_s=60)
    return lambda: TestClient(create_app(settings), headers={"Authorization": f"Bearer {key}"})


def test_a_data_set_carries_its_declared_columns(dataset: Dataset, tmp_path: Path) -> None:
    again = Dataset.load(dataset.save(tmp_path / "data"))
    assert again.schema == dataset.schema
    assert again.fingerprint == dataset.fingerprint
    assert again.item_table is not None
    row = again.item_table.row(1, named=True)
    assert (row["brand"], row["tags"], row["price"]) == ("green", ["t1", "t1"], 6.5)
    assert (row["in_stock"], row["launched"]) == (True, 1704153600000)
    assert row["own"] == [0, 1, 0, 0, 0]
    assert again.item_table["own"][0] is None
    assert again.user_table is not None
    assert again.user_table["member"].dtype == pl.Boolean


def test_schema_to_service_gives_the_same_vectors(
    trained: Trained, dataset: Dataset, pipeline: Pipeline
) -> None:
    users = np.arange(USERS, dtype=np.int32)
    queries = Queries(users, dataset.interactions)
    scorer = trained.module.scorer()
    served = pipeline._tower.encode(queries)
    np.testing.assert_allclose(served, scorer.user_vectors(queries), atol=1e-5)
    empty = Queries(users, dataset.interactions.keep(np.zeros(len(queries.histories.items), bool)))
    np.testing.assert_allclose(pipeline._tower.encode(empty), scorer.user_vectors(empty), atol=1e-5)
    # Attributes in a request are read as those of the table.
    table = dataset.user_table
    assert table is not None
    stated = [{name: table[name][user] for name in dataset.schema.users} for user in range(USERS)]
    anonymous = Queries(np.full(USERS, -1, np.int32), empty.histories)
    columns = pipeline._tower.columns_of(stated, no_texts)
    np.testing.assert_allclose(
        pipeline._tower.encode(anonymous, columns), scorer.user_vectors(empty), atol=1e-5
    )


def test_a_new_item_is_encoded_by_its_declared_columns(
    trained: Trained, dataset: Dataset, pipeline: Pipeline
) -> None:
    import torch

    encoder = pipeline.item_encoder
    assert dataset.item_table is not None
    stated = [dataset.item_table.row(item, named=True) for item in (0, 5)]
    for one in stated:
        one["own"] = None if one["own"] is None else list(one["own"])
    rows = catalogue_rows([{"item_id": f"n{row}", "title": "x"} for row in range(2)])
    text = encoder.texts(rows)
    vectors = encoder._session.run(["vector"], encoder.feed(rows, text, stated))[0]
    module = trained.module
    with torch.no_grad():
        module.eval()
        expected = module.item_tower(
            module.item_embedding(torch.zeros(2, dtype=torch.int64)),
            torch.from_numpy(text),
            torch.from_numpy(encoder.feed(rows, text, stated)["features"]),
            torch.from_numpy(encoder.feed(rows, text, stated)["release"]),
            *module._columns(module.item_tower, module._item_inputs, torch.tensor([1, 6])),
        )
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5)


def test_users_without_a_history_get_what_their_attributes_say(
    dataset: Dataset, pipeline: Pipeline
) -> None:
    assert dataset.item_table is not None
    brands = dict(zip(dataset.items.ids, dataset.item_table["brand"], strict=True))
    for country, brand in (("DE", "red"), ("FR", "green"), ("IT", "blue")):
        found = pipeline.recommend("somebody", attributes={"country": country, "age": 30.0}, k=5)
        assert sum(brands[one.item_id] == brand for one in found) >= 4
    with pytest.raises(
        InputError, match="unknown field 'county'; declared columns of users: 'age'"
    ):
        pipeline.recommend("x", attributes={"county": "DE"})
    with pytest.raises(InputError, match="age is a number, got 'old'; send a number"):
        pipeline.recommend("x", attributes={"age": "old"})


def test_the_facade_takes_attributes_by_the_words_of_the_api(
    dataset: Dataset, pipeline: Pipeline
) -> None:
    recommender = Recommender(pipeline, dataset)
    attributes = {"country": "FR", "age": 30}
    found = recommender.recommend(attributes=attributes, k=5)
    assert found == pipeline.recommend(attributes=attributes, k=5)
    assert found == recommender.recommend("visitor", attributes=attributes, k=5)
    assert found == recommender.recommend(attributes=attributes, k=5, unknown="popular")
    assert found != recommender.recommend(attributes={"country": "DE"}, k=5)
    own = recommender.recommend("u0", k=5)
    assert recommender.recommend("u0", attributes={"country": "FR"}, k=5) != own
    with pytest.raises(InputError, match="unknown field 'size'; declared columns of users: 'age'"):
        recommender.recommend(attributes={"size": 3})
    with pytest.raises(InputError, match="many users take no attributes; recommend for each"):
        recommender.recommend(["u0", "u1"], attributes=attributes)


def test_filters_and_caps_by_declared_columns(dataset: Dataset, pipeline: Pipeline) -> None:
    assert dataset.item_table is not None
    table = dataset.item_table

    def found(**filters: Any) -> list[dict[str, Any]]:
        answer = pipeline.recommend("u0", k=ITEMS, filters=Filters(**filters))
        return [table.row(dataset.items.index(one.item_id), named=True) for one in answer]

    assert {row["brand"] for row in found(where={"brand": "red"})} == {"red"}
    assert {row["brand"] for row in found(where={"brand": {"not": "red"}})} == {"green", "blue"}
    assert all("t1" in row["tags"] for row in found(where={"tags": {"is": "t1"}}))
    priced = found(where={"price": {"min": 8, "max": 12}})
    assert priced
    assert all(8 <= row["price"] <= 12 for row in priced)
    late = found(where={"launched": {"min": "2024-01-20"}})
    assert late
    assert all(row["launched"] >= 1705708800000 for row in late)
    capped = [row["brand"] for row in found(max_per={"brand": 2})]
    assert max(capped.count(brand) for brand in capped) == 2
    assert "i4" not in {one.item_id for one in pipeline.recommend("u0", k=ITEMS)}  # not in stock
    with pytest.raises(InputError, match="unknown column 'colour' in filters; the bundle has: 'b"):
        found(where={"colour": "red"})
    with pytest.raises(InputError, match="brand is a category, which has no min and max"):
        found(where={"brand": {"min": 3}})


def test_only_training_rows_are_fitted_on(folder: Path, dataset: Dataset) -> None:
    from twotower.models.sequence_towers import read_columns

    before = read_columns(dataset)
    known = np.bincount(dataset.train.items, minlength=len(dataset.items)) > 0
    hidden = Dataset.load(dataset.save(folder.parent / "saved"))
    split = np.asarray(hidden.split).copy()
    item = int(np.flatnonzero(known)[0])
    split[hidden.interactions.items == item] = 2  # of the test part alone
    import dataclasses

    held = dataclasses.replace(hidden, split=split)
    table = held.item_table
    assert table is not None
    other = table.with_columns(
        pl.when(pl.int_range(pl.len()) == item)
        .then(pl.lit(value))
        .otherwise(pl.col(name))
        .alias(name)
        for name, value in (("brand", "never"), ("price", 1e6), ("blurb", "silk"), ("launched", 5))
    )
    changed = dataclasses.replace(held, item_table=other)
    assert (
        read_columns(held).item_encoders.to_json() == read_columns(changed).item_encoders.to_json()
    )
    assert before.item_encoders.to_json() != read_columns(held).item_encoders.to_json()


def test_an_item_with_declared_columns_is_added_filtered_and_out_of_stock(start: Any) -> None:
    item = {
        "item_id": "new", "title": "thing new", "price": 7.5, "brand": "green",
        "tags": ["t1", "rare"], "launched": "2024-02-01", "in_stock": True,
    }  # fmt: skip
    body = {"attributes": {"country": "FR"}, "k": 30, "filters": {"where": {"tags": "rare"}}}
    with start() as client:
        assert client.post("/v1/items", json=item).status_code == 201
        refused = client.post("/v1/items", json={**item, "item_id": "other", "colour": "red"})
        assert refused.status_code == 422
        assert refused.json()["detail"] == "unknown field 'colour'"
        wrong = client.post("/v1/items", json={**item, "item_id": "other", "brand": 3})
        assert wrong.json()["detail"] == "brand is a category, got 3"
        found = client.post("/v1/recommendations", json=body).json()
        assert [one["item_id"] for one in found["items"]] == ["new"]
    with start() as client:  # the database keeps it
        shown = client.get("/v1/items/new").json()
        assert shown["columns"]["brand"] == "green"
        assert shown["columns"]["price"] == 7.5
        assert shown["columns"]["launched"] == 1706745600000
        again = client.post("/v1/recommendations", json=body).json()
        assert again["items"] == found["items"]
        changed = {name: value for name, value in item.items() if name != "item_id"}
        put = client.put("/v1/items/new", json={**changed, "in_stock": False})
        assert put.json()["available"] is False
        assert client.post("/v1/recommendations", json=body).json()["items"] == []
        # An item of the bundle that came without stock can be had again.
        everything = {"user_id": "u0", "k": 30}
        ids = [
            x["item_id"]
            for x in client.post("/v1/recommendations", json=everything).json()["items"]
        ]
        assert "i4" not in ids
        assert client.put("/v1/items/i4/availability", json={"available": True}).status_code == 200
        ids = [
            x["item_id"]
            for x in client.post("/v1/recommendations", json=everything).json()["items"]
        ]
        assert "i4" in ids
        unknown = client.post(
            "/v1/recommendations", json={**body, "filters": {"where": {"size": "L"}}}
        )
        assert unknown.status_code == 422
        assert unknown.json()["detail"] == "unknown column 'size' in filters"


def test_attributes_of_a_user_are_kept_and_used(start: Any) -> None:
    with start() as client:
        before = client.get("/v1/users/visitor/recommendations").json()
        assert before["source"] == "popular"
        refused = client.put("/v1/users/visitor", json={"attributes": {"countri": "FR"}})
        assert refused.json()["detail"] == "unknown field 'countri'"
        attributes = {"country": "FR", "age": 30}
        written = client.put("/v1/users/visitor", json={"attributes": attributes})
        assert written.json() == {"user_id": "visitor", "attributes": attributes}
        stored = client.get("/v1/users/visitor/recommendations").json()
        assert (stored["source"], stored["user"]) == ("model", "new")
        given = client.post("/v1/recommendations", json={"attributes": attributes}).json()
        assert stored["items"] == given["items"]
    with start() as client:
        again = client.get("/v1/users/visitor/recommendations").json()
        assert (again["items"], again["source"]) == (stored["items"], "model")


@pytest.mark.parametrize("kind", ["split", "interleave"])
def test_a_comparison_with_a_bundle_without_columns_refuses_no_request(
    start: Any, bundle: Path, bundle_of_blocks: Path, kind: str
) -> None:
    other = bundle.parent / f"without-columns-{kind}"
    shutil.copytree(bundle_of_blocks, other)
    described = {"attributes": {"country": "FR", "age": 30}}
    filtered = {"k": 5, "filters": {"where": {"brand": "green"}}}
    with start() as client:
        only_here = client.post("/v1/recommendations", json={**described, **filtered}).json()
        begun = client.post(f"/v1/models/{kind}", json={"bundle": other.name, "share": 0.5})
        assert begun.is_success
        for user in [f"u{number}" for number in range(8)]:
            answer = client.post("/v1/recommendations", json={"user_id": user, **described})
            assert answer.status_code == 200
            answer = client.post(
                "/v1/recommendations", json={"user_id": user, **described, **filtered}
            ).json()
            # The other bundle has no such column: what is in service answers, and is not counted.
            assert answer["model_version"] == only_here["model_version"]
            assert answer.get("teams", "") == ""
            assert all(one["item_id"].startswith("i") for one in answer["items"])
        assert client.put("/v1/users/visitor", json=described).status_code == 200
        wrong = client.post("/v1/recommendations", json={"attributes": {"countri": "FR"}})
        assert wrong.json()["detail"] == "unknown field 'countri'"


def test_the_next_training_gets_columns_and_attributes(
    start: Any, bundle: Path, tmp_path: Path
) -> None:
    with start() as client:
        item = {"item_id": "new", "title": "thing new", "brand": "green", "tags": ["t1"]}
        assert client.post("/v1/items", json=item).status_code == 201
        for user, country in (("visitor", "FR"), ("u0", "IT")):
            body = {"attributes": {"country": country}}
            assert client.put(f"/v1/users/{user}", json=body).status_code == 200
    store = StateStore(f"sqlite:///{tmp_path / 'state.db'}")
    write_source(load_bundle(bundle).contents, store, tmp_path / "next")
    store.close()
    again = prepare(tmp_path / "next", settings=PrepareSettings(k_core=0))
    assert again.schema.items.keys() == load_bundle(bundle).contents.declared.schema.items.keys()
    assert again.item_table is not None
    row = again.item_table.row(again.items.index("new"), named=True)
    assert (row["brand"], row["tags"], row["price"]) == ("green", ["t1"], None)
    assert again.item_table["own"][again.items.index("i1")].to_list() == [0, 1, 0, 0, 0]
    assert again.user_table is not None
    users = dict(zip(again.user_table["user_id"], again.user_table["country"], strict=True))
    assert users["u0"] == "IT"
    assert users["u1"] in ("DE", "FR", "IT")


def test_attributes_of_a_forgotten_user_are_gone(start: Any) -> None:
    path, body = "/v1/users/visitor", {"attributes": {"country": "FR", "age": 30}}

    def source(client: Any) -> str:
        return str(client.get(f"{path}/recommendations").json()["source"])

    with start() as client:
        assert client.put(path, json=body).is_success
        assert source(client) == "model"
        assert client.delete(path).is_success
        assert source(client) == "popular"
        assert "FR" not in client.get(f"{path}/export").text
    with start() as client:
        assert source(client) == "popular"
        assert client.put(path, json=body).is_success  # as a new user
        assert source(client) == "model"
        assert client.put("/v1/users/other", json=body).is_success
        assert client.delete("/v1/users/other").is_success
        assert client.put("/v1/users/other", json=body).is_success  # no number is given twice
        assert source(client) == "model"
    with start() as client:
        assert source(client) == "model"
        assert client.get("/v1/users/other/recommendations").json()["source"] == "model"
