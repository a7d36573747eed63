"""Covers of the sample: reproducible, and similar for related products."""

import builtins
import hashlib

import numpy as np
import polars as pl
import pytest

from twotower.data.sample import cover_pixels, draw_cover, sample_folder, write_covers
from twotower.errors import InputError

ROW = {
    "title": "Neon Drift 2 - Kestrel 3",
    "category": "Racing",
    "platform": "Kestrel 3",
    "entry": 2,
    "franchise": "Neon Drift",
}


def test_pixels_are_fixed():
    pixels = cover_pixels(ROW)
    assert (pixels.shape, pixels.dtype) == ((128, 128, 3), np.uint8)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == "190668ce260f4906"


def test_likeness_follows_the_product():
    cover = cover_pixels(ROW)

    def shared(**other):
        return (cover_pixels({**ROW, **other}) == cover).all(axis=2).mean()

    assert shared(title="another") == 1
    assert 0.98 < shared(entry=3) < 1
    assert shared(platform="Pocketwing") == 1 - 18 / 128
    assert shared(franchise="Metro Rally") < 0.95
    assert shared(category="Horror", franchise="Metro Crypt") < 0.3


def test_accessories_differ_by_title():
    row = {**ROW, "franchise": None, "entry": 0, "category": "Accessories"}
    assert (cover_pixels(row) != cover_pixels({**row, "title": "Charging Dock"})).any()


def test_every_row_can_be_drawn_and_draws_alike():
    items = pl.read_parquet(sample_folder() / "items.parquet")
    for row in items.sample(100, seed=1).iter_rows(named=True):
        image = draw_cover(row)
        assert (image.size, image.mode) == ((128, 128), "RGB")
        np.testing.assert_array_equal(np.asarray(image), cover_pixels(row))


def test_write_covers_writes_the_named_files(tmp_path):
    items = pl.read_parquet(sample_folder() / "items.parquet").head(200)
    named = items.drop_nulls("image")["image"].to_list()
    assert 0 < len(named) < 200
    assert write_covers(items, tmp_path) == len(named)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png")) == named
    first = (tmp_path / named[0]).read_bytes()
    write_covers(items.head(1), tmp_path)
    assert (tmp_path / named[0]).read_bytes() == first


@pytest.mark.parametrize(
    "broken", [{"platform": "Abacus"}, {"category": "Cooking"}, {"category": None}]
)
def test_foreign_rows_are_refused(broken):
    with pytest.raises(InputError, match=r"not a row of the sample's catalogue.*generate_sample"):
        cover_pixels({**ROW, **broken})
    with pytest.raises(InputError, match="not a row of the sample's catalogue: 'entry'"):
        cover_pixels({"title": "a", "category": "Racing"})


def test_without_pillow_the_extra_is_named(monkeypatch):
    original = builtins.__import__

    def without_pillow(name, *rest):
        if name == "PIL":
            raise ImportError("No module named 'PIL'")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(InputError, match=r"needs Pillow.*pip install 'twotower\[image\]'"):
        draw_cover(ROW)
