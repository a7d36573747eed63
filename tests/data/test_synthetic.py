"""The generator of logs of any size."""

import numpy as np
import polars as pl
import pytest

from twotower.data import synthetic
from twotower.data.prepare import prepare
from twotower.data.settings import PrepareSettings
from twotower.data.synthetic import LogSize, generate_log

SIZE = LogSize(interactions=20_000, items=1_000, users=2_000, items_in_cluster=50)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return generate_log(tmp_path_factory.mktemp("generated") / "log", SIZE)


def test_it_has_the_size_that_was_asked_for(log):
    table = pl.read_parquet(log.interactions)
    assert table.height == log.total
    assert abs(log.total / SIZE.interactions - 1) < 0.05
    assert table["user_id"].n_unique() == SIZE.users
    assert pl.read_parquet(log.catalogue).height == SIZE.items


def test_no_user_has_an_item_twice_and_times_rise(log):
    table = pl.read_parquet(log.interactions)
    assert not table.select("user_id", "item_id").is_duplicated().any()
    rises = table.group_by("user_id", maintain_order=True).agg(
        pl.col("timestamp").diff().min().alias("least")
    )
    assert rises["least"].min() >= 0


def test_a_user_keeps_to_few_clusters_and_popularity_falls(log):
    table = pl.read_parquet(log.interactions).with_columns(
        item=pl.col("item_id").str.slice(1).cast(pl.Int64)
    )
    clusters = table.with_columns(cluster=pl.col("item") % 20)
    shares = clusters.group_by("user_id").agg(
        pl.col("cluster").value_counts(normalize=True, sort=True).first().struct.field("proportion")
    )
    assert shares["proportion"].mean() > 0.45  # of 20 clusters
    counts = np.sort(table["item"].value_counts()["count"].to_numpy())[::-1]
    assert counts[:50].sum() > 4 * counts[500:550].sum()


def test_equal_seeds_give_equal_logs_in_blocks_of_any_size(tmp_path, log, monkeypatch):
    again = generate_log(tmp_path / "again", SIZE)
    assert pl.read_parquet(again.interactions).equals(pl.read_parquet(log.interactions))
    other = generate_log(tmp_path / "other", SIZE, seed=1)
    assert not pl.read_parquet(other.interactions).equals(pl.read_parquet(log.interactions))
    monkeypatch.setattr(synthetic, "_BLOCK", 999)
    blocks = generate_log(tmp_path / "blocks", SIZE)
    assert abs(blocks.total / SIZE.interactions - 1) < 0.05


def test_it_can_be_prepared(tmp_path, log):
    dataset = prepare(
        log.interactions.parent, settings=PrepareSettings(k_core=0), out=tmp_path / "dataset"
    )
    assert len(dataset.interactions.items) == log.total
    assert len(dataset.items) == SIZE.items


def test_more_interactions_than_there_are_items(tmp_path):
    log = generate_log(tmp_path / "log", LogSize(interactions=500, items=10, users=3))
    assert 0 < log.total <= 30
