import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import twotower.features.cache as cache_module
from twotower.features import HashingText, cached_embeddings
from twotower.features.cache import cache_folder
from twotower.types import FloatArray


class Counting(HashingText):
    """Remembers what it was asked for, and can be made to fail."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.batches: list[list[str]] = []
        self._fail_at = fail_at

    def encode(self, texts: Sequence[str]) -> FloatArray:
        if len(self.batches) == self._fail_at:
            raise KeyboardInterrupt
        self.batches.append(list(texts))
        return super().encode(texts)

    @property
    def seen(self) -> list[str]:
        return sorted(text for batch in self.batches for text in batch)


class Other(Counting):
    name = "other/model"  # type: ignore[misc]


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_vectors_are_the_encoders_in_the_order_asked(tmp_path: Path) -> None:
    texts = ["mario", "", "zelda breath of the wild", "mario"]
    encoder = Counting()
    vectors = cached_embeddings(encoder, texts, tmp_path)
    np.testing.assert_array_equal(vectors, HashingText().encode(texts))
    assert vectors.dtype == np.float32
    assert encoder.seen == ["", "mario", "zelda breath of the wild"]


def test_only_new_texts_are_encoded(tmp_path: Path) -> None:
    cached_embeddings(Counting(), ["mario", "zelda"], tmp_path)
    encoder = Counting()
    vectors = cached_embeddings(encoder, ["metroid", "zelda"], tmp_path)
    assert encoder.seen == ["metroid"]
    np.testing.assert_array_equal(vectors, HashingText().encode(["metroid", "zelda"]))
    encoder = Counting()
    cached_embeddings(encoder, ["mario", "zelda", "metroid"], tmp_path)
    assert encoder.seen == []


def test_encoders_do_not_share_vectors(tmp_path: Path) -> None:
    cached_embeddings(Counting(), ["mario"], tmp_path)
    encoder = Other()
    cached_embeddings(encoder, ["mario"], tmp_path)
    assert encoder.seen == ["mario"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "hashing-1.safetensors",
        "other%2Fmodel.safetensors",
    ]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _garble(path: Path) -> None:
    path.write_bytes(b"not a safetensors file")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    arrays = load_file(path)
    start = bytes(data).index(arrays["vectors"].tobytes())
    data[start + 3 : start + arrays["vectors"].nbytes : 4] = b"\x7f" * arrays["vectors"].size
    path.write_bytes(bytes(data))


def _other_shape(path: Path) -> None:
    save_file({"keys": np.zeros((1, 16), np.uint8), "vectors": np.ones((1, 2), np.float32)}, path)


def _other_names(path: Path) -> None:
    save_file({"a": np.zeros(1)}, path)


@pytest.mark.parametrize("harm", [_truncate, _garble, _flip, _other_shape, _other_names])
def test_a_broken_file_is_rebuilt_and_that_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: object
) -> None:
    cached_embeddings(Counting(), ["mario"], tmp_path)
    assert callable(harm)
    harm(only_file(tmp_path))
    with caplog.at_level(logging.WARNING):
        vectors = cached_embeddings(Counting(), ["mario"], tmp_path)
    np.testing.assert_array_equal(vectors, HashingText().encode(["mario"]))
    (message,) = caplog.messages
    assert message.startswith(f"the cache {only_file(tmp_path)} is broken (")
    encoder = Counting()
    cached_embeddings(encoder, ["mario"], tmp_path)
    assert encoder.seen == []


def test_what_was_encoded_before_an_interrupt_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "CHUNK", 2)
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    with pytest.raises(KeyboardInterrupt):
        cached_embeddings(Counting(fail_at=2), texts, tmp_path)
    encoder = Counting()
    calls: list[tuple[int, int]] = []
    cached_embeddings(encoder, texts, tmp_path, progress=lambda *done: calls.append(done))
    assert encoder.seen == ["a"]
    assert calls == [(1, 1)]


def test_progress_counts_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "CHUNK", 2)
    calls: list[tuple[int, int]] = []
    cached_embeddings(Counting(), list("abcde"), tmp_path, lambda *done: calls.append(done))
    assert calls == [(2, 5), (4, 5), (5, 5)]


def test_the_file_is_bounded_and_keeps_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "MAX_VECTORS", 2)
    vectors = cached_embeddings(Counting(), ["a", "b", "c"], tmp_path)
    np.testing.assert_array_equal(vectors, HashingText().encode(["a", "b", "c"]))
    cached_embeddings(Counting(), ["d"], tmp_path)
    encoder = Counting()
    cached_embeddings(encoder, ["c", "d"], tmp_path)
    assert encoder.seen == []
    assert len(load_file(only_file(tmp_path))["keys"]) == 2


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        vectors = cached_embeddings(Counting(), ["mario"], blocked)
    assert vectors.any()
    (message,) = caplog.messages
    assert "could not be written" in message


def test_no_text_writes_no_file(tmp_path: Path) -> None:
    assert cached_embeddings(Counting(), [], tmp_path / "cache").shape == (0, 384)
    assert not (tmp_path / "cache").exists()


def test_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    cached_embeddings(Counting(), ["mario"])
    assert only_file(tmp_path / "here").name == "hashing-1.safetensors"
    monkeypatch.delenv("TWOTOWER_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "twotower"
