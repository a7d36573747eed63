"""A small bundle whose user tower is linear, so that its vectors can be worked out by hand."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper

from twotower.bundle import BundleContents, ModelInfo, RerankVectors, save_bundle
from twotower.bundle.new_items import NewItems
from twotower.data import Histories, IdMap, columns
from twotower.features import HashingText, ItemFeatures, UserFeatures, item_texts
from twotower.index import ExactConfig, build_index

USERS, ITEMS, DIM, ID_DIM, WIDTH, LENGTH = 12, 60, 8, 5, 4, 6


def build_tower(weights, inputs=("user", "history", "features"), dim=DIM) -> bytes:
    """``vector`` = user @ W + (sum over the history) @ W + features @ W, of the inputs named."""
    shapes = {
        "user": ["B", ID_DIM],
        "history": ["B", "L", WIDTH],
        "lengths": ["B"],
        "features": ["B", 8],
    }
    types = dict.fromkeys(shapes, TensorProto.FLOAT) | {"lengths": TensorProto.INT64}
    nodes, parts = [], []
    for name in inputs:
        rows = name
        if name == "history":
            nodes.append(helper.make_node("ReduceSum", ["history", "axis"], ["sum"], keepdims=0))
            rows = "sum"
        nodes.append(helper.make_node("MatMul", [rows, f"w_{name}"], [f"part_{name}"]))
        parts.append(f"part_{name}")
    nodes.append(helper.make_node("Sum", parts, ["vector"]))
    constants = [numpy_helper.from_array(weights[name], f"w_{name}") for name in inputs]
    if "history" in inputs:
        constants.append(numpy_helper.from_array(np.array([1]), "axis"))
    graph = helper.make_graph(
        nodes,
        "user_tower",
        [helper.make_tensor_value_info(name, types[name], shapes[name]) for name in inputs],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["B", dim])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def linear_tower():
    return build_tower


@pytest.fixture(scope="session")
def tower_weights():
    rng = np.random.default_rng(5)
    rows = {"user": ID_DIM, "history": WIDTH, "features": 8}
    return {name: rng.normal(size=(n, DIM)).astype(np.float32) for name, n in rows.items()}


@pytest.fixture(scope="session")
def contents(tower_weights) -> BundleContents:
    rng = np.random.default_rng(7)

    def random(*shape):
        return rng.normal(size=shape).astype(np.float32)

    lists = [rng.permutation(ITEMS)[: 3 + user].tolist() for user in range(USERS)]
    plain = Histories.from_lists(lists)
    events = len(plain.items)
    histories = replace(
        plain,
        ratings=rng.integers(1, 6, size=events).astype(np.float32),
        timestamps=np.sort(rng.integers(10**12, 2 * 10**12, size=events)),
    )
    names = [f"item-{item:02}" for item in range(ITEMS)]
    titles = [None if item == 59 else f"Game {item}" for item in range(ITEMS)]
    catalogue = pl.DataFrame(
        {
            columns.ITEM_ID: names,
            columns.TITLE: titles,
            columns.PRICE: rng.uniform(1, 60, size=ITEMS),
            columns.CATEGORY: [f"genre-{item % 4}" for item in range(ITEMS)],
        }
    )
    vectors = random(ITEMS, DIM)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    history_table = random(ITEMS + 1, WIDTH)
    history_table[0] = 0
    return BundleContents(
        info=ModelInfo(
            model="v5",
            config={"embedding_dim": DIM},
            dataset="toy",
            dataset_fingerprint="ab" * 32,
            metrics={"NDCG@10": 0.25},
            text_encoder="all-MiniLM-L6-v2",
            history_length=LENGTH,
        ),
        user_tower=build_tower(tower_weights),
        user_table=random(USERS + 1, ID_DIM),
        history_table=history_table,
        user_features=UserFeatures.fit(histories, catalogue),
        item_vectors=vectors,
        users=IdMap([f"user-{user:02}" for user in range(USERS)], "user"),
        catalogue=catalogue,
        histories=histories,
        index=build_index(vectors, ExactConfig()),
        reranker=RerankVectors(random(USERS, 3), random(ITEMS, 3)),
    )


def build_item_tower(weights) -> bytes:
    """``vector`` = item @ W + text @ W + features @ W."""
    parts = [f"part_{name}" for name in weights]
    nodes = [helper.make_node("MatMul", [name, f"w_{name}"], [f"part_{name}"]) for name in weights]
    nodes += [helper.make_node("Sum", parts, ["vector"])]
    graph = helper.make_graph(
        nodes,
        "item_tower",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", len(weight)])
            for name, weight in weights.items()
        ],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["B", DIM])],
        [numpy_helper.from_array(weight, f"w_{name}") for name, weight in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def item_weights():
    """Texts decide most of a new item's vector, so that its title's siblings are near."""
    rng = np.random.default_rng(11)
    rows = {"item": (ID_DIM, 0.1), "text": (384, 1.0), "features": (15, 0.05)}
    return {
        name: (scale * rng.normal(size=(n, DIM))).astype(np.float32)
        for name, (n, scale) in rows.items()
    }


@pytest.fixture(scope="session")
def open_contents(contents, item_weights) -> BundleContents:
    """The same with all that new items and texts need; the texts are hashed titles."""
    rng = np.random.default_rng(13)
    text = HashingText().encode(item_texts(contents.catalogue))
    projection = rng.normal(size=(384, WIDTH)).astype(np.float32)
    return replace(
        contents,
        info=contents.info.vary(text_encoder="hashing"),
        new_items=NewItems(
            tower=build_item_tower(item_weights),
            unknown_id=rng.normal(size=ID_DIM).astype(np.float32),
            features=ItemFeatures.fit(contents.histories, contents.catalogue),
            history_projection=projection,
            text=text,
        ),
    )


@pytest.fixture(scope="session")
def weights():
    rng = np.random.default_rng(9)
    return {"item_tower.weight": rng.normal(size=(3, 4)).astype(np.float32)}


@pytest.fixture
def folder(contents, weights, tmp_path):
    save_bundle(tmp_path / "bundle", contents, weights)
    return tmp_path / "bundle"


@pytest.fixture
def open_folder(open_contents, weights, tmp_path):
    """A bundle that takes new items."""
    save_bundle(tmp_path / "bundle", open_contents, weights)
    return tmp_path / "bundle"


class Postgres:
    """A PostgreSQL server of the tests' own, on a free port of this machine."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self.folder = binaries, folder
        # The server refuses to run as root; Debian's package makes a user for it.
        root = os.geteuid() == 0
        self._user = {"user": "postgres", "group": "postgres"} if root else {}
        if root:
            shutil.chown(folder, "postgres", "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._do("initdb", "-D", "data", "-U", "twotower", "-A", "trust", "--no-sync")
        self.start()

    def _do(self, command: str, *arguments: str) -> None:
        with (self.folder / "log").open("a") as log:
            subprocess.run(
                [self._binaries / command, *arguments],
                cwd=self.folder, check=True, stdout=log, stderr=log, timeout=60, **self._user,
            )  # fmt: skip

    def start(self) -> None:
        options = f"-F -p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self._do("pg_ctl", "-D", "data", "-w", "-l", "server.log", "-o", options, "start")

    def stop(self) -> None:
        self._do("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def new_database(self) -> str:
        """The URL of an empty database."""
        import psycopg

        name = f"test_{uuid.uuid4().hex}"
        address = f"postgresql://twotower@127.0.0.1:{self.port}"
        with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"{address}/{name}"


def _postgres_binaries() -> Path | None:
    on_path = shutil.which("pg_ctl")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((one for one in found if (one / "initdb").exists()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server; skips where PostgreSQL is not installed."""
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if os.geteuid() == 0 and "postgres" not in {one.pw_name for one in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres'")
    folder = Path(tempfile.mkdtemp(prefix="twotower-postgres-"))
    server = Postgres(binaries, folder)
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def state_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty state database, on each backend."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.sqlite3'}"
    return request.getfixturevalue("postgres").new_database()
