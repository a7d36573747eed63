import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from twotower.bundle.arrays import read_arrays


def test_what_was_saved_is_read(tmp_path) -> None:
    rng = np.random.default_rng(0)
    saved = {
        "several blocks": rng.normal(size=(5000, 64)).astype(np.float32),
        "rows of more than a block": rng.normal(size=(3, 200_000)).astype(np.float32),
        "numbers": np.arange(300_000),
        "halves": rng.normal(size=(7, 2, 3)).astype(np.float16),
        "flags": np.array([True, False]),
        "bytes": np.frombuffer(b"{}", dtype=np.uint8),
        "one": np.array(3.0),
        "none": np.zeros((0, 4), np.float32),
        "of no width": np.zeros((4, 0), np.float32),
    }
    save_file(saved, tmp_path / "arrays")
    found = read_arrays(tmp_path / "arrays")
    assert found.keys() == saved.keys()
    for name, array in saved.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable


def test_numbers_of_another_kind_are_asked_for(tmp_path) -> None:
    halves = np.arange(400_000, dtype=np.float16).reshape(-1, 8)
    save_file({"halves": halves}, tmp_path / "arrays")
    found = read_arrays(tmp_path / "arrays", np.float32)["halves"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, halves.astype(np.float32))


def test_a_file_that_is_none(tmp_path) -> None:
    (tmp_path / "arrays").write_bytes(b"nothing of the kind")
    with pytest.raises(SafetensorError):
        read_arrays(tmp_path / "arrays")
    with pytest.raises(OSError, match="missing"):
        read_arrays(tmp_path / "missing")
