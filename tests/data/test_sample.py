"""Bundled sample: the generator, its files, and its documented properties."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from twotower.data import columns
from twotower.data.sample import Sample, generate_sample, sample_folder, write_sample
from twotower.data.sample import folder as folder_module
from twotower.data.sample.draws import Draws
from twotower.errors import ArtefactError

YEAR_MS = 365 * 86_400_000


@pytest.fixture(scope="module")
def sample() -> Sample:
    return generate_sample()


def test_generator_reproduces_the_bundled_files(sample):
    folder = sample_folder()
    assert_frame_equal(pl.read_parquet(folder / "interactions.parquet"), sample.interactions)
    assert_frame_equal(pl.read_parquet(folder / "items.parquet"), sample.catalogue)


def test_bundled_files_are_small_and_say_that_they_are_synthetic():
    folder = sample_folder()
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "synthetic" in readme
    assert "Nothing in these files is real" in readme


def test_columns_are_canonical_and_typed(sample):
    assert sample.interactions.schema == {
        columns.USER_ID: pl.String,
        columns.ITEM_ID: pl.String,
        columns.RATING: pl.Float32,
        columns.TIMESTAMP: pl.Int64,
    }
    assert tuple(sample.catalogue.columns[: len(columns.CATALOGUE)]) == columns.CATALOGUE
    assert sample.catalogue.columns[len(columns.CATALOGUE) :] == [
        "franchise", "entry", "platform", "released",
    ]  # fmt: skip
    assert not any(sample.interactions.null_count().row(0))


def test_sizes_and_tails(sample):
    assert sample.catalogue.height == 1200
    assert sample.catalogue[columns.ITEM_ID].is_unique().all()
    assert 30_000 <= sample.interactions.height <= 40_000
    per_user = sample.interactions.group_by(columns.USER_ID).len()["len"]
    assert len(per_user) == 3000
    assert (per_user.min(), per_user.max()) == (5, 60)
    assert per_user.mean() > 1.3 * per_user.median()
    per_item = sample.interactions.group_by(columns.ITEM_ID).len()["len"].sort(descending=True)
    assert per_item.head(120).sum() > 0.3 * per_item.sum()
    assert len(per_item) < 1200, "some products have no purchase"


def test_catalogue_has_what_real_ones_have(sample):
    prices = sample.catalogue[columns.PRICE]
    assert 0.05 < prices.null_count() / 1200 < 0.2
    assert prices.min() > 0
    assert sample.catalogue[columns.DESCRIPTION].null_count() > 0
    assert sample.catalogue[columns.IMAGE].null_count() > 0
    assert set(sample.interactions[columns.RATING]) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert sample.catalogue[columns.AVERAGE_RATING].is_between(1, 5).all()
    assert sample.catalogue[columns.RATING_COUNT].min() > 0


def test_odd_titles_are_there_where_they_are_asked_for(sample):
    assert sample.catalogue[columns.TITLE].str.contains(r"^[\x20-\x7e]{8,60}$").all()
    odd = generate_sample(odd_titles=True)
    titles = odd.catalogue[columns.TITLE]
    assert (titles == "").any()
    assert (titles.str.strip_chars() == "").sum() > (titles == "").sum(), "some are only blanks"
    assert titles.str.len_chars().max() > 300
    assert titles.str.contains("[^\x00-\x7f]").any()
    assert_frame_equal(odd.interactions, sample.interactions)
    assert_frame_equal(odd.catalogue.drop(columns.TITLE), sample.catalogue.drop(columns.TITLE))


def test_log_has_order_baskets_repeats_and_no_sale_before_release(sample):
    log = sample.interactions.join(sample.catalogue, on=columns.ITEM_ID, maintain_order="left")
    assert log.height == sample.interactions.height, "every item is in the catalogue"
    assert (log[columns.TIMESTAMP] >= log["released"]).all()
    gaps = log.select(pl.col(columns.TIMESTAMP).diff().over(columns.USER_ID)).drop_nulls()
    assert gaps.min().item() == 0, "baskets share a timestamp, and nothing goes back in time"
    distinct = log.unique([columns.USER_ID, columns.ITEM_ID])
    assert 50 < log.height - distinct.height < 500
    assert distinct.group_by(columns.USER_ID).len()["len"].min() == 5


def test_sequels_are_bought_in_order(sample):
    family = pl.col("platform").str.split(" ").list.first()
    games = (
        sample.interactions.join(sample.catalogue, on=columns.ITEM_ID, maintain_order="left")
        .filter(pl.col("entry") > 0)
        .unique([columns.USER_ID, columns.ITEM_ID], keep="first", maintain_order=True)
        .group_by(columns.USER_ID, "franchise", family, maintain_order=True)
        .agg(pl.col("entry"))
    )
    for entries in games["entry"]:
        assert entries.to_list() == list(range(1, len(entries) + 1))
    assert (games["entry"].list.len() >= 3).sum() > 1000


def test_popularity_drifts(sample):
    """The best-sellers of one year are not those of three years later."""
    start = sample.interactions[columns.TIMESTAMP].min()
    year = (pl.col(columns.TIMESTAMP) - start) // YEAR_MS
    best = [
        set(
            sample.interactions.filter(year == number)
            .group_by(columns.ITEM_ID)
            .len()
            .sort("len", columns.ITEM_ID, descending=True)
            .head(50)[columns.ITEM_ID]
        )
        for number in (1, 4)
    ]
    assert len(best[0] & best[1]) < 15


def test_another_seed_makes_another_sample(sample):
    other = generate_sample(seed=8)
    assert not sample.interactions.equals(other.interactions)
    assert other.catalogue.height == 1200


def test_write_sample_writes_what_the_package_carries(tmp_path):
    command = [sys.executable, "-m", "twotower.data.sample", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "new")
    for name in ("interactions.parquet", "items.parquet"):
        assert_frame_equal(
            pl.read_parquet(tmp_path / "new" / name), pl.read_parquet(sample_folder() / name)
        )
    assert (tmp_path / "new" / "README.md").read_text(encoding="utf-8") == (
        sample_folder() / "README.md"
    ).read_text(encoding="utf-8")


def test_write_sample_states_its_own_seed(tmp_path):
    write_sample(tmp_path, seed=8)
    assert "--seed 8" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_missing_bundle_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "files", lambda package: tmp_path)
    with pytest.raises(ArtefactError, match=r"is not at .*; reinstall the package"):
        sample_folder()


def test_draws_follow_their_weights():
    draws = Draws(0)
    picks = np.bincount([draws.pick(np.array([1, 0, 3])) for _ in range(4000)], minlength=3)
    assert picks[1] == 0
    assert 0.22 < picks[0] / 4000 < 0.28
    assert sorted(draws.shuffled(50)) == list(range(50))
    assert {draws.between(2, 4) for _ in range(100)} == {2, 3, 4}
    assert set(draws.many_below(3, 100).tolist()) == {0, 1, 2}
