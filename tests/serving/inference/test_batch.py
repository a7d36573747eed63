from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from twotower.bundle import save_bundle
from twotower.data import Histories
from twotower.errors import InputError
from twotower.index import HnswConfig, build_index
from twotower.inference import BusinessRules, Pipeline, RecommendOptions
from twotower.inference import batch as batch_module
from twotower.inference.batch import (
    BatchCounts,
    read_users,
    recommend_to_file,
    recommend_to_folder,
)


def test_every_user_gets_the_exact_best(contents, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(batch_module, "_USERS_AT_ONCE", 5)
    poor = build_index(contents.item_vectors, HnswConfig(links=2, ef_search=1, ef_construction=1))
    done = []
    recommend_to_file(
        Pipeline(replace(contents, index=poor)), contents.users.ids, tmp_path / "out.parquet",
        RecommendOptions(7), progress=done.append,
    )  # fmt: skip
    assert done == [5, 5, 2]
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table.columns == ["user_id", "rank", "item_id", "score", "source"]
    assert set(table["source"]) == {"model"}
    exact = Pipeline(contents)
    for user in contents.users.ids:
        mine = table.filter(pl.col("user_id") == user)
        assert mine["rank"].to_list() == list(range(1, 8))
        assert mine["item_id"].to_list() == [one.item_id for one in exact.recommend(user, k=7)]


def test_reads_users_from_parquet(tmp_path) -> None:
    file = tmp_path / "users.parquet"
    pl.DataFrame({"user_id": ["b", "a"], "age": [1, 2]}).write_parquet(file)
    assert read_users(file) == ["b", "a"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"user": ["a"]}, "user_id"), ({"user_id": ["a", None]}, "must not be null, got 1 nulls")],
)
def test_refuses_a_file_without_users(tmp_path, columns, message) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "u.parquet")
    with pytest.raises(InputError, match=message):
        read_users(tmp_path / "u.parquet")


def test_refuses_what_is_no_parquet(tmp_path) -> None:
    (tmp_path / "u.parquet").write_text("user_id")
    with pytest.raises(InputError, match=r"u\.parquet cannot be read"):
        read_users(tmp_path / "u.parquet")


def test_an_unknown_user_leaves_no_file(contents, tmp_path) -> None:
    with pytest.raises(InputError, match="unknown user 'eve'"):
        recommend_to_file(Pipeline(contents), ["user-01", "eve"], tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


def test_unknown_users_are_counted_in_the_refusal(contents, tmp_path) -> None:
    with pytest.raises(
        InputError, match=r"^unknown user 'eve' and 1 more of 3; pass unknown='popular' to give"
    ):
        recommend_to_file(Pipeline(contents), ["eve", "user-01", "adam"], tmp_path / "out.parquet")


def test_unknown_users_get_popular_items_that_are_marked(contents, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(batch_module, "_USERS_AT_ONCE", 2)
    users, out = ["eve", "user-01", "adam"], tmp_path / "out.parquet"
    counts = recommend_to_file(
        Pipeline(contents), users, out, RecommendOptions(3), unknown="popular"
    )
    assert counts == BatchCounts(users=3, rows=9, unknown=2, empty=0)
    table = pl.read_parquet(out)
    assert table.filter(pl.col("source") == "popular")["user_id"].unique(
        maintain_order=True
    ).to_list() == ["eve", "adam"]
    events = np.bincount(contents.histories.items, minlength=len(contents.items))
    got = table.filter(pl.col("user_id") == "eve")
    assert got["score"].to_list() == sorted(events.tolist(), reverse=True)[:3]
    assert [events[contents.items.index(item)] for item in got["item_id"]] == got["score"].to_list()
    known = [one.item_id for one in Pipeline(contents).recommend("user-01", k=3)]
    assert table.filter(pl.col("user_id") == "user-01")["item_id"].to_list() == known


def test_unknown_users_can_be_left_out(contents, tmp_path) -> None:
    out = tmp_path / "out.parquet"
    counts = recommend_to_file(
        Pipeline(contents), ["eve", "user-01"], out, RecommendOptions(3), unknown="skip"
    )
    assert counts == BatchCounts(users=2, rows=3, unknown=1, empty=0)
    assert set(pl.read_parquet(out)["user_id"]) == {"user-01"}
    counts = recommend_to_file(
        Pipeline(contents), ["eve"], out, RecommendOptions(3), unknown="skip"
    )
    assert counts == BatchCounts(users=1, rows=0, unknown=1, empty=0)
    assert pl.read_parquet(out).height == 0


def test_users_who_have_had_everything_are_counted(contents, tmp_path) -> None:
    everything = Histories.from_lists([list(range(len(contents.items)))] * len(contents.users))
    full = Pipeline(replace(contents, histories=everything))
    counts = recommend_to_file(
        full, contents.users.ids, tmp_path / "out.parquet", RecommendOptions(3)
    )
    assert counts == BatchCounts(users=12, rows=0, unknown=0, empty=12)
    seen = recommend_to_file(
        full, contents.users.ids, tmp_path / "out.parquet", RecommendOptions(3, exclude_seen=False)
    )
    assert seen == BatchCounts(users=12, rows=36, unknown=0, empty=0)


def test_ids_that_are_numbers_are_read_as_ids(tmp_path) -> None:
    pl.DataFrame({"user_id": [1.0, 20.0]}).write_parquet(tmp_path / "u.parquet")
    assert read_users(tmp_path / "u.parquet") == ["1", "20"]


def test_users_of_a_folder_are_those_of_its_files(tmp_path) -> None:
    pl.DataFrame({"user_id": ["c"]}).write_csv(tmp_path / "2.csv")
    pl.DataFrame({"user_id": ["b", "a"]}).write_parquet(tmp_path / "1.parquet")
    (tmp_path / "_SUCCESS").touch()
    assert read_users(tmp_path) == ["b", "a", "c"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty has no file of users; give a folder with"):
        read_users(tmp_path / "empty")


@pytest.fixture
def bundle(contents, tmp_path):
    save_bundle(tmp_path / "bundle", contents, {"weight": np.zeros(1, np.float32)})
    return tmp_path / "bundle"


def test_shards_are_the_rows_of_the_one_file(contents, bundle, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(batch_module, "_USERS_AT_ONCE", 3)
    pipeline, users, done = Pipeline(contents), [*contents.users.ids[:7], "eve"], []
    options = RecommendOptions(4)
    expected = recommend_to_file(
        pipeline, users, tmp_path / "one.parquet", options, unknown="popular"
    )
    counts = recommend_to_folder(
        pipeline, bundle, users, tmp_path / "out", options,
        unknown="popular", shard_users=3, progress=done.append,
    )  # fmt: skip
    assert counts == expected
    assert done == [3, 3, 2]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["_SUCCESS", *(f"part-0000{n}.parquet" for n in range(3))]
    assert pl.read_parquet(tmp_path / "out").equals(pl.read_parquet(tmp_path / "one.parquet"))


def test_shards_heed_the_rules(contents, bundle, tmp_path) -> None:
    item = contents.items.ids[7]
    pipeline = Pipeline(contents).with_rules(
        BusinessRules.model_validate({"pin": [{"item": item, "position": 1}]})
    )
    users, options = contents.users.ids, RecommendOptions(3)
    recommend_to_file(pipeline, users, tmp_path / "one.parquet", options)
    recommend_to_folder(pipeline, bundle, users, tmp_path / "out", options)
    rows = pl.read_parquet(tmp_path / "out")
    assert rows.equals(pl.read_parquet(tmp_path / "one.parquet"))
    assert (rows.filter(pl.col("rank") == 1)["item_id"] == item).sum() > 6


def test_a_folder_is_refused_before_work_begins(contents, bundle, tmp_path) -> None:
    pipeline, users = Pipeline(contents), contents.users.ids
    with pytest.raises(InputError, match=r"write a folder of files, got .*out\.parquet; name a"):
        recommend_to_folder(pipeline, bundle, users, tmp_path / "out.parquet")
    with pytest.raises(InputError, match="bundle is not empty; choose another folder"):
        recommend_to_folder(pipeline, bundle, users, bundle)
    with pytest.raises(InputError, match=r"^unknown user 'eve'"):
        recommend_to_folder(pipeline, bundle, [*users, "eve"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
