from dataclasses import replace

import polars as pl
import pytest

from twotower.errors import InputError
from twotower.index import HnswConfig, build_index
from twotower.inference import Pipeline
from twotower.inference import batch as batch_module
from twotower.inference.batch import read_users, recommend_to_file


def test_every_user_gets_the_exact_best(contents, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(batch_module, "_USERS_AT_ONCE", 5)
    poor = build_index(contents.item_vectors, HnswConfig(links=2, ef_search=1, ef_construction=1))
    done = []
    recommend_to_file(
        Pipeline(replace(contents, index=poor)), contents.users.ids, tmp_path / "out.parquet", 7,
        progress=done.append,
    )  # fmt: skip
    assert done == [5, 5, 2]
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table.columns == ["user_id", "rank", "item_id", "score"]
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
