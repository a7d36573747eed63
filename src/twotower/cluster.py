"""Parallel `map` over the nodes of a Ray cluster, by Ray Data (extra ``scale``)."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from twotower.errors import InputError, TwoTowerError
from twotower.types import Mapper

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
R = TypeVar("R")

_NODE_SHARE: Final = 0.5
"""Share of the cores that workers take: where a node is lost, its workers fit on the others."""


@contextmanager
def ray_cluster(workers: int | None = None) -> Iterator[Mapper]:
    """A `map` whose function runs in processes of a Ray cluster.

    Results come in the order of the work, as those of the built-in one.

    The cluster is the one that this process is connected to, else that of ``RAY_ADDRESS`` or of
    this machine (``ray start``), else one of this machine's cores, started for the while. Every
    node needs this package and the same paths.

    Work of a process or node that is lost is done again by another, so that the function must be
    one that can be repeated. A generator is run to its end there, and comes as another one. A
    `TwoTowerError` of the function is raised here as it was there.

    Parameters
    ----------
    workers
        Processes, each of which receives the function once; None for one a node. Together they
        take half of the cores.

    Raises
    ------
    InputError
        Where the ``scale`` extra is not installed, or there is no such cluster.
    """
    if find_spec("ray") is None:
        raise InputError(
            "a Ray cluster needs the package ray, which is not installed",
            "run pip install 'twotower[scale]'",
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that is started here
    import ray

    connected = not ray.is_initialized()
    if connected:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # a start that takes too long is of no class of its own
            raise InputError(
                f"no Ray cluster can be reached or started ({error})",
                "run 'ray start --head', or set RAY_ADDRESS to the address that it printed",
            ) from error
    try:
        yield partial(_ray_map, workers)
    finally:
        if connected:
            ray.shutdown()


def _ray_map(workers: int | None, function: Callable[[T], R], work: Sequence[T], /) -> Iterator[R]:
    """The generator behind `ray_cluster`: one block of Ray Data for each element of ``work``."""
    if not work:
        return
    import pyarrow as pa
    import ray.data
    from ray import cloudpickle

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    cores = sum(node["Resources"].get("CPU", 0) for node in nodes)
    size = min(workers or len(nodes), len(work))
    share = cores * _NODE_SHARE / size
    blocks = [pa.table({"work": _cells([cloudpickle.dumps(element)])}) for element in work]
    with _ordered():
        results = ray.data.from_arrow(blocks).map_batches(
            _Worker,
            fn_constructor_args=(function,),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=int(share) if share >= 1 else share,
            scheduling_strategy="SPREAD",
        )
    for batch in results.iter_batches(batch_size=None, batch_format="pyarrow"):
        for cell in batch["result"]:
            result: Any = cloudpickle.loads(cell.as_py())
            if isinstance(result, TwoTowerError):
                raise result
            yield _generated(result) if isinstance(result, _Generated) else result


class _Generated(NamedTuple):
    """What a generator gave, which itself cannot leave its process."""

    values: list[Any]


def _generated(result: _Generated) -> Any:
    yield from result.values


class _Worker:
    """Applies the function to each element of a block, in a process of the cluster."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, batch: "pa.Table") -> "pa.Table":
        import pyarrow as pa
        from ray import cloudpickle

        results = []
        for cell in batch["work"]:
            try:
                result = self._function(cloudpickle.loads(cell.as_py()))
                if isinstance(result, Iterator):
                    result = _Generated(list(result))
            except TwoTowerError as error:  # Ray would wrap it in errors of its own
                result = error
            results.append(cloudpickle.dumps(result))
        return pa.table({"result": _cells(results)})


def _cells(values: Sequence[bytes]) -> "pa.Array":
    import pyarrow as pa

    return pa.array(values, pa.large_binary())


@contextmanager
def _ordered() -> Iterator[None]:
    """Data sets of Ray that are made meanwhile keep their order, and draw no progress bars."""
    import ray.data

    context = ray.data.DataContext.get_current()
    options = context.execution_options
    kept = options.preserve_order, context.enable_progress_bars
    options.preserve_order, context.enable_progress_bars = True, False
    try:
        yield
    finally:
        options.preserve_order, context.enable_progress_bars = kept
