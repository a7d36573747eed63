"""The contract of indexes, for engines that are optional."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from twotower.errors import ArtefactError, InputError
from twotower.index import build_index, load_index, named_index, save_index
from twotower.index.qdrant import QdrantConfig
from twotower.testing import IndexContract
from twotower.testing.indexes import clustered

installed = pytest.mark.skipif(
    importlib.util.find_spec("qdrant_client") is None, reason="needs the extra 'qdrant'"
)


@installed
class TestQdrant(IndexContract):
    @pytest.fixture(scope="class")
    @classmethod
    def config(cls) -> QdrantConfig:
        return QdrantConfig()


@installed
def test_collections_of_two_models_never_mix() -> None:
    first, second = clustered(20, seed=1), clustered(20, seed=2)
    names = {build_index(vectors, QdrantConfig()).collection for vectors in (first, first, second)}
    assert len(names) == 2


@installed
def test_a_collection_that_is_gone_is_refused(tmp_path: Path) -> None:
    index = build_index(clustered(20, seed=1), QdrantConfig())
    save_index(index, tmp_path)
    np.save(tmp_path / "index.npy", clustered(19, seed=1))
    with pytest.raises(ArtefactError, match="build it again"):
        load_index(tmp_path)


@pytest.mark.skipif(
    importlib.util.find_spec("qdrant_client") is not None, reason="the extra 'qdrant' is there"
)
def test_an_engine_that_is_not_installed_is_named() -> None:
    with pytest.raises(InputError, match="needs the package qdrant-client") as missing:
        build_index(clustered(20, seed=1), named_index("qdrant"))
    assert "twotower[qdrant]" in missing.value.on_command_line
