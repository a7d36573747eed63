"""A map over a Ray cluster of two nodes on this machine, one of which is lost on the way."""

import os
import socket
from collections.abc import Callable, Iterator
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
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets of Ray
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.xdist_group("ray"),
]

_TRIES = 3
"""Ray gives its processes 15 seconds to start, which a busy machine may not."""
_STORE = 100 * 2**20


def free_ports() -> dict[str, int]:
    """Ports that Ray would otherwise wait for its processes to choose."""
    names = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")
    sockets = [socket.socket() for _ in names]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}
    for one in sockets:
        one.close()
    return ports


def started(start: Callable[..., Any], **arguments: Any) -> Any:
    """What ``start`` gives, tried again where the machine was too busy."""
    for left in reversed(range(_TRIES)):
        try:
            return start(object_store_memory=_STORE, **free_ports(), **arguments)
        except Exception as error:  # Ray raises no class of its own
            if not left or "timed out" not in str(error):
                raise
    return None


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes on the loopback interface; this process is connected to it."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)  # 127.0.0.1 alone
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        cluster = Cluster()
        started(
            cluster.add_node, num_cpus=2, include_dashboard=False, no_monitor=True,
            include_log_monitor=False,
        )  # fmt: skip
        started(cluster.add_node, num_cpus=2)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def mapper(nodes: Any) -> Iterator[Mapper]:
    with ray_cluster(2) as found:
        yield found


def process_and_square(number: int) -> tuple[int, int]:
    return os.getpid(), number * number


def counted(number: int) -> Iterator[int]:
    yield from range(number)


def refused(number: int) -> int:
    raise InputError(f"{number} is refused", "pass another", cli_fix="--other")


def test_results_keep_the_order_of_the_work(mapper: Mapper) -> None:
    found = list(mapper(process_and_square, range(12)))
    assert [square for _, square in found] == [number**2 for number in range(12)]
    processes = {process for process, _ in found}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert [list(numbers) for numbers in mapper(counted, [2, 0, 3])] == [[0, 1], [], [0, 1, 2]]
    assert list(mapper(counted, [])) == []


def test_an_error_of_the_input_comes_as_it_was(mapper: Mapper) -> None:
    with pytest.raises(InputError, match="^7 is refused; pass another$") as error:
        list(mapper(refused, [7]))
    assert error.value.on_command_line == "7 is refused; --other"
    assert (error.value.what, error.value.fix) == ("7 is refused", "pass another")


def test_embeddings_are_those_of_one_process(mapper: Mapper, tmp_path: Path) -> None:
    texts = [f"title {number % 900} of {number}" for number in range(1300)]
    done: list[tuple[int, int]] = []
    vectors = cached_embeddings(
        HashingText(), texts, tmp_path / "there", lambda *now: done.append(now), mapper
    )
    np.testing.assert_array_equal(vectors, cached_embeddings(HashingText(), texts, tmp_path))
    assert done == [(512, 1300), (1024, 1300), (1300, 1300)]
    (there,), (here,) = (sorted(f.glob("*.safetensors")) for f in (tmp_path / "there", tmp_path))
    assert there.read_bytes() == here.read_bytes()


def test_a_log_of_many_files_is_prepared_alike(mapper: Mapper, shop: Path, tmp_path: Path) -> None:
    log = pl.read_csv(shop / "interactions.csv")
    folder = tmp_path / "shop"
    folder.mkdir()
    for part in range(3):
        rows = log[part::3]
        bad = rows[:1].with_columns(item_id=pl.lit(f"unknown-{part}"))
        pl.concat([rows, bad]).write_csv(folder / f"log-{part}.csv")
    (folder / "items.csv").write_bytes((shop / "items.csv").read_bytes())
    here = prepare(folder, settings={"k_core": 0}, out=tmp_path / "here")
    for source in (folder, f"file://{folder}"):
        there = prepare(source, settings={"k_core": 0}, out=tmp_path / "there", mapper=mapper)
        assert there.fingerprint == here.fingerprint
        assert there.summary == here.summary
        rejects = [(tmp_path / name / "rejects.jsonl").read_text() for name in ("here", "there")]
        assert rejects[0] == rejects[1]
        assert rejects[0].count("unknown-") == 6  # the value and the row of each


def test_recommendations_are_those_of_one_process_though_a_node_is_lost(
    nodes: Any, mapper: Mapper, bundle_of_blocks: Path, tmp_path: Path
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

    there = recommend(f"file://{tmp_path}/there", mapper=mapper, progress=lose_a_node)
    assert there == recommend(str(tmp_path / "here"))
    assert len(lost) == (len(users) + 1) // 2
    files = [sorted((tmp_path / name).iterdir()) for name in ("here", "there")]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*files, strict=True))
