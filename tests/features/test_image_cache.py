import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from twotower.features import Thumbnail, cached_image_embeddings
from twotower.types import FloatArray


class Counting(Thumbnail):
    """Remembers how many pictures it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def encode(self, images: Sequence[Any]) -> FloatArray:
        self.seen += len(images)
        return super().encode(images)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two pictures, a copy of the first, and what is none."""
    made = {name: tmp_path / name for name in ("red", "blue", "copy", "html", "absent")}
    for name in ("red", "blue"):
        Image.new("RGB", (9, 9), name).save(made[name], format="PNG")
    made["copy"].write_bytes(made["red"].read_bytes())
    made["html"].write_text("<html>not found</html>")
    return made


def test_each_content_is_encoded_once_and_ever(files: dict[str, Path], tmp_path: Path) -> None:
    paths = [files["red"], None, files["blue"], files["copy"]]
    encoder = Counting()
    calls: list[tuple[int, int]] = []
    first = cached_image_embeddings(
        encoder, paths, tmp_path / "cache", lambda *done: calls.append(done)
    )
    assert (encoder.seen, calls) == (2, [(2, 2)])
    assert first.broken == {}
    red, blue = Thumbnail().encode([Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")])
    np.testing.assert_array_equal(first.vectors, [red, np.zeros(192), blue, red])
    assert first.vectors.dtype == np.float32

    files["copy"].rename(tmp_path / "moved")  # what counts is the content
    again = cached_image_embeddings(encoder, [tmp_path / "moved"], tmp_path / "cache")
    assert encoder.seen == 2
    np.testing.assert_array_equal(again.vectors, [red])


def test_another_content_of_the_same_name_is_encoded(
    files: dict[str, Path], tmp_path: Path
) -> None:
    before = cached_image_embeddings(Thumbnail(), [files["red"]], tmp_path / "cache").vectors
    Image.new("RGB", (9, 9), "green").save(files["red"], format="PNG")
    after = cached_image_embeddings(Thumbnail(), [files["red"]], tmp_path / "cache").vectors
    assert not np.array_equal(before, after)


def test_broken_files_are_zero_reported_and_not_kept(
    files: dict[str, Path], tmp_path: Path
) -> None:
    paths = [files["html"], files["red"], files["absent"], tmp_path]
    for _ in range(2):  # the second time the good one comes from the cache
        found = cached_image_embeddings(Thumbnail(), paths, tmp_path / "cache")
        assert found.broken == {
            0: "not a JPEG, PNG, WEBP, GIF image",
            2: "no such file",
            3: "cannot be read: Is a directory",
        }
        assert found.vectors.any(axis=1).tolist() == [False, True, False, False]
    (file,) = (tmp_path / "cache").iterdir()
    assert file.name == "thumbnail-1.safetensors"
    assert len(load_file(file)["keys"]) == 1


def test_no_file_at_all(tmp_path: Path) -> None:
    found = cached_image_embeddings(Thumbnail(), [None, None], tmp_path / "cache")
    assert found.vectors.shape == (2, 192)
    assert not (tmp_path / "cache").exists()


def test_a_broken_cache_is_rebuilt(
    files: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cached_image_embeddings(Thumbnail(), [files["red"]], tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    encoder = Counting()
    with caplog.at_level(logging.WARNING):
        cached_image_embeddings(encoder, [files["red"]], tmp_path / "cache")
    assert encoder.seen == 1
    assert "is broken" in caplog.text
