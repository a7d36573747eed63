"""A map over a Ray cluster of two nodes on this machine, one of which is lost on the way."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower.cluster import ray_cluster
from twotower.data.prepare import prepare
from twotower.errors import InputError
from twotower.features import HashingText, cached_embeddings
from twotower.inference import Pipeline, RecommendOptions
from twotower.inference.batch import recommend_to_folder
from twotower.types import Mapper

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'twotower[scale]'")

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("TWOTOWER_CLUSTER"),
        reason="starts a Ray cluster: set TWOTOWER_CLUSTER=1, or run make cluster",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets of Ray
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

_STORE = 100 * 2**20


def free_ports() -> dict[str, int]:
    """Ports of a node's agents."""
    names = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")
    sockets = [socket.socket() for _ in names]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes on the loopback interface; this process is connected to it."""
    from ray._private.node import Node
    from ray.cluster_utils import Cluster

    start_raylet = Node.start_raylet

    def start_at_once(self: Any, *arguments: Any) -> None:
        # Ray ends a node whose agents take 15 seconds to say which ports they chose, as they do
        # on a busy machine. The other ports are given; for this one there is no option.
        port = Path(self.get_session_dir_path(), f"dashboard_agent_listen_port_{self.node_id}")
        port.write_text("1")
        start_raylet(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Nodes are at 127.0.0.1, and no other host is asked for the address of this one.
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)
        patch.setattr(Node, "start_raylet", start_at_once)
        cluster = Cluster()
        cluster.add_node(
            num_cpus=1, object_store_memory=_STORE, include_dashboard=False, no_monitor=True,
            include_log_monitor=False, **free_ports(),
        )  # fmt: skip
        cluster.add_node(num_cpus=1, object_store_memory=_STORE, **free_ports())
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def mapper(nodes: Any) -> Iterator[Mapper]:
    """One worker: each takes seconds to start."""
    with ray_cluster(1) as found:
        yield found


def where_and_square(number: int) -> Any:
    """The process and the square; a generator of negative numbers, and no 7."""
    if number == 7:
        raise InputError("7 is refused", "pass another", cli_fix="--other")
    return (os.getpid(), number**2) if number >= 0 else iter(range(-number))


def test_a_map_is_that_of_one_process(mapper: Mapper) -> None:
    results = mapper(where_and_square, [3, 1, -2, 2, 7, 5])
    (process, first), *second = (next(results) for _ in range(3))
    assert process != os.getpid()
    assert (first, second[0]) == (9, (process, 1))
    assert list(second[1]) == [0, 1]
    assert next(results) == (process, 4)
    with pytest.raises(InputError, match=r"^7 is refused; pass another$") as error:
        next(results)
    assert error.value.on_command_line == "7 is refused; --other"
    assert list(mapper(where_and_square, [])) == []


def test_embeddings_are_those_of_one_process(mapper: Mapper, tmp_path: Path) -> None:
    texts = [f"title {number % 900} of {number}" for number in range(1300)]
    done: list[tuple[int, int]] = []
    there = cached_embeddings(
        HashingText(), texts, tmp_path / "there", lambda *now: done.append(now), mapper
    )
    here = cached_embeddings(HashingText(), texts, tmp_path / "here")
    np.testing.assert_array_equal(there, here)
    assert done == [(512, 1300), (1024, 1300), (1300, 1300)]
    files = [next((tmp_path / name).iterdir()) for name in ("there", "here")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_log_of_many_files_is_prepared_alike(mapper: Mapper, shop: Path, tmp_path: Path) -> None:
    log = pl.read_csv(shop / "interactions.csv")
    folder = tmp_path / "shop"
    folder.mkdir()
    for part in range(3):
        rows = log[part::3]
        bad = rows[:1].with_columns(item_id=pl.lit(f"unknown-{part}"))
        pl.concat([rows, bad]).write_csv(folder / f"log-{part}.csv")
    (folder / "items.csv").write_bytes((shop / "items.csv").read_bytes())
    settings: Any = {"k_core": 0}
    here = prepare(folder, settings=settings, out=tmp_path / "here")
    there = prepare(folder, settings=settings, out=tmp_path / "there", mapper=mapper)
    assert there.fingerprint == here.fingerprint
    assert there.summary == here.summary
    rejects = [(tmp_path / name / "rejects.jsonl").read_text() for name in ("here", "there")]
    assert rejects[0] == rejects[1]
    assert [f"unknown-{part}" in rejects[1] for part in range(3)] == [True] * 3


def test_recommendations_are_those_of_one_process_though_a_node_is_lost(
    nodes: Any, bundle_of_blocks: Path, tmp_path: Path
) -> None:
    pipeline, options = Pipeline.load(bundle_of_blocks), RecommendOptions(5)
    users = [*pipeline.contents.users.ids, "eve"]
    lost: list[int] = []

    def lose_a_node(done: int) -> None:
        if not lost:
            nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
        lost.append(done)

    def recommend(out: str, **words: Any) -> Any:
        return recommend_to_folder(
            pipeline, bundle_of_blocks, users, out, options,
            unknown="popular", shard_users=2, **words,
        )  # fmt: skip

    with ray_cluster(2) as mapper:
        there = recommend(f"file://{tmp_path}/there", mapper=mapper, progress=lose_a_node)
    assert there == recommend(str(tmp_path / "here"))
    assert len(lost) == (len(users) + 1) // 2
    files = [sorted((tmp_path / name).iterdir()) for name in ("here", "there")]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*files, strict=True))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twotower.cluster.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"the package ray.*pip install 'twotower\[scale\]'"):
        ray_cluster().__enter__()


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(InputError, match=r"\(Could not find any.*run 'ray start --head', or set"):
        ray_cluster().__enter__()
