"""From a catalogue's images to vectors, and what is said of those that cannot be used."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from support import Recorder
from twotower.data import Dataset, columns
from twotower.data.download import FetchedImage
from twotower.data.prepare import prepare
from twotower.data.sample import sample_folder
from twotower.data.settings import PrepareSettings
from twotower.errors import InputError
from twotower.features import Thumbnail
from twotower.models.two_tower import TwoTower
from twotower.types import FloatArray
from twotower.workflow.item_images import image_folder, item_image, sample_covers
from twotower.workflow.models import train_variant
from twotower.workflow.progress import Silent


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TWOTOWER_IMAGES", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def gallery(blocks: Dataset, tmp_path: Path) -> Dataset:
    """``blocks`` with a picture for all items but the first four, each with a fault of its own."""
    folder = tmp_path / "gallery"
    folder.mkdir()
    names: list[str | None] = [None, "absent.png", "broken.png", "../outside.png"]
    (folder / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (9, 9)).save(tmp_path / "outside.png")
    for item in range(4, len(blocks.items)):
        names.append(f"{item}.png")
        Image.new("RGB", (9, 9), (6 * item, 0, 0)).save(folder / f"{item}.png")
    catalogue = blocks.catalogue.with_columns(pl.Series(columns.IMAGE, names))
    return replace(blocks, catalogue=catalogue, summary={"image_folder": str(folder)})


def test_a_model_without_images_gets_none(blocks: Dataset, small_variants: Any) -> None:
    for name in ("mf", "v1", "v5"):
        assert item_image(small_variants[name], blocks, Silent()) is None


def test_a_data_set_without_images_says_so(blocks: Dataset, small_variants: Any) -> None:
    for attempt in (item_image, lambda variant, data, _: train_variant(variant, data)):
        with pytest.raises(InputError) as caught:
            attempt(small_variants["v7"], blocks, Silent())
        assert str(caught.value) == (
            "no images in this data set: the catalogue of 'blocks' names none; "
            "choose a model without images, for example v5"
        )


def test_what_cannot_be_used_is_counted_logged_and_listed(
    gallery: Dataset, small_variants: Any, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    with caplog.at_level(logging.WARNING):
        vectors = item_image(small_variants["v7"], gallery, recorder)
    assert vectors is not None
    assert vectors.shape == (40, Thumbnail.dim)
    assert np.flatnonzero(~vectors.any(axis=1)).tolist() == [0, 1, 2, 3]
    assert recorder.notes == ["36 of 40 items have an image, 1 name none, 3 cannot be used"]
    (listed,) = (cache / "images").glob("blocks-*-rejects.jsonl")
    assert [json.loads(line) for line in listed.read_text().splitlines()] == [
        {"item": "i01", "image": "absent.png", "reason": "no such file"},
        {"item": "i02", "image": "broken.png", "reason": "not a JPEG, PNG, WEBP, GIF image"},
        {"item": "i03", "image": "../outside.png", "reason": "leads out of the folder of images"},
    ]
    (message,) = caplog.messages
    assert message.startswith("3 of 39 images of blocks cannot be used (1 no such file, 1 not")
    assert message.endswith(f"they are listed in {listed}")


def test_addresses_are_fetched_into_the_cache(
    blocks: Dataset,
    small_variants: Any,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "red.png")
    good, bad = "https://shop.test/good", "https://shop.test/bad"

    def fetch(urls: Sequence[str], folder: Path, progress: Any) -> dict[str, FetchedImage]:
        assert (set(urls), folder) == ({good, bad}, cache / "images")
        progress(2, 2)
        return {
            good: FetchedImage(good, tmp_path / "red.png"),
            bad: FetchedImage(bad, None, "the server answered 404 Not Found"),
        }

    monkeypatch.setattr("twotower.data.download.images.fetch_images", fetch)
    catalogue = blocks.catalogue.with_columns(pl.Series(columns.IMAGE, [good, bad] * 20))
    recorder = Recorder()
    vectors = item_image(small_variants["v7"], replace(blocks, catalogue=catalogue), recorder)
    assert vectors is not None
    assert vectors.any(axis=1).tolist() == [True, False] * 20
    assert recorder.notes == ["20 of 40 items have an image, 0 name none, 20 cannot be used"]


def test_the_list_is_of_the_last_run(
    gallery: Dataset, small_variants: Any, cache: Path, tmp_path: Path
) -> None:
    item_image(small_variants["v7"], gallery, Silent())
    for name in ("absent.png", "broken.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / "gallery" / name)
    item_image(small_variants["v7"], gallery, Silent())
    (listed,) = (cache / "images").glob("*-rejects.jsonl")
    assert [json.loads(line)["item"] for line in listed.read_text().splitlines()] == ["i03"]


def test_images_of_which_none_can_be_used_are_an_error(
    gallery: Dataset, small_variants: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOTOWER_IMAGES", str(tmp_path / "elsewhere"))
    with pytest.raises(
        InputError,
        match=r"^no images in this data set that can be used: of 39, the first is 'absent\.png': "
        r"no such file; see .*rejects\.jsonl, and set TWOTOWER_IMAGES where paths are relative",
    ):
        item_image(small_variants["v7"], gallery, Silent())


def test_vectors_depend_on_images_alone(gallery: Dataset, small_variants: Any) -> None:
    """On no interaction, held out or not, and so nothing can leak through them."""
    log = gallery.interactions
    other = replace(gallery, interactions=replace(log, items=log.items[::-1].copy()))
    one, two = (item_image(small_variants["v7"], data, Silent()) for data in (gallery, other))
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one, two)


def test_preparation_remembers_where_paths_are_relative_to(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,1,5\n")
    for image, expected in (("a.png", str(tmp_path.resolve())), ("https://x.test/a.png", None)):
        (tmp_path / "items.csv").write_text(f"item,image\n1,{image}\n2,\n")
        dataset = prepare(tmp_path, settings=PrepareSettings(k_core=0))
        assert dataset.summary.get("image_folder") == expected


def test_the_sample_brings_its_covers(small_variants: Any, cache: Path) -> None:
    """v7 trains on the bundled sample, whose neighbours by picture are of one franchise."""
    dataset = prepare(sample_folder())
    folder = image_folder(dataset)
    assert folder == sample_covers() == cache / "sample-covers-1"
    v7 = small_variants["v7"]
    vectors = item_image(v7, dataset, Silent())
    assert vectors is not None
    assert shared_by_neighbours(vectors, dataset, "franchise") > 0.85  # measured 0.90
    assert shared_by_neighbours(vectors, dataset, "category") > 0.94  # measured 0.99

    short = v7.vary(training=v7.training.vary(epochs=1, batch_size=2048))
    trained = train_variant(short, dataset)
    assert isinstance(trained.module, TwoTower)
    assert trained.module.item_tower.missing_image.abs().sum() > 0


def shared_by_neighbours(vectors: FloatArray, dataset: Dataset, column: str) -> float:
    """How often an item and its nearest neighbour by picture have the same value."""
    items = pl.read_parquet(sample_folder() / "items.parquet")
    known = dict(items.select(columns.ITEM_ID, column).iter_rows())
    values = np.array([known[item] for item in dataset.items.ids], dtype=object)
    rows = np.flatnonzero(vectors.any(axis=1) & (values != None))  # noqa: E711
    similar = vectors[rows] @ vectors[rows].T
    np.fill_diagonal(similar, -1)
    chance = np.mean(values[rows][:, None] == values[rows])
    shared = float((values[rows] == values[rows][similar.argmax(axis=1)]).mean())
    assert shared > 5 * chance
    return shared
