"""Benchmark of index kinds on a bundle's vectors and users, also at larger catalogues."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
from pydantic import Field

from twotower.bundle.contents import BundleContents
from twotower.bundle.storage import load_bundle
from twotower.config import Config
from twotower.data import Queries
from twotower.errors import InputError
from twotower.evaluation.results import Absent, Row
from twotower.index import ExactIndex, build_index, named_index
from twotower.index.base import check_vectors
from twotower.index.build import NAMED
from twotower.index.compare import Searchable, Truth, one_thread, search_one_by_one
from twotower.inference.user_tower import UserTower
from twotower.machine import available_memory
from twotower.reporting.study_results import Reference
from twotower.types import DoubleArray, FloatArray, OffsetArray
from twotower.workflow.progress import Silent

BASELINE: Final = "exact"
"""Baseline of every ratio: exact search by NumPy, timed in turn with each kind."""
BRUTE_FORCE: Final = "brute-force"
KINDS: Final = (*NAMED, BRUTE_FORCE)
_DISTANCE_SAMPLE: Final = 500
_DRAWN_ROWS: Final = 1 << 16
PUBLISHED: Final = "index"
"""Protocol of the published figures in a `Reference`."""


class IndexBench(Config):
    """Settings of the benchmark."""

    kinds: tuple[str, ...] = KINDS
    """Names of `NAMED`, or ``brute-force``: a product and top-k in PyTorch, on a GPU if there
    is one."""
    ks: tuple[int, ...] = (10, 1000)
    """Numbers of items searched for."""
    sizes: tuple[int, ...] = ()
    """Sizes of the catalogue; by default the bundle's own."""
    queries: int = Field(default=200, ge=1)
    """User vectors to search with."""
    rounds: int = Field(default=5, ge=1)
    """Rounds of each kind and the baseline; the figure is the median over them."""
    seconds: float = Field(default=2.0, gt=0)
    """Seconds after which a round starts no further search."""
    build_limit: float = Field(default=600.0, gt=0)
    """Most seconds of building. A kind that would take longer, extrapolated from the previous
    size, is left out."""


class Figures(NamedTuple):
    """Contents of a results file of indexes."""

    rows: list[Row]
    absent: list[Absent]
    models: dict[str, str]


class _Timed(Searchable, Protocol):
    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        ...


class _Round(NamedTuple):
    """One round of a kind at one ``k``: seconds per query, one by one and in a batch."""

    seconds: DoubleArray
    batch: float
    baseline: float
    found: OffsetArray


class _Spent(NamedTuple):
    """Time and memory of a kind at a size."""

    size: int
    build_seconds: float
    nbytes: int


def bench_index(
    bundle: Path,
    settings: IndexBench | None = None,
    *,
    reference: Reference | None = None,
    note: Callable[[str], None] | None = None,
) -> Figures:
    """Measure index kinds, one thread.

    Vectors for sizes beyond the bundle's are made by `larger_catalogue`; queries are vectors of
    users drawn from the bundle. What takes too much time or memory at a size is reported absent.

    Parameters
    ----------
    bundle
        Folder of a bundle.
    reference
        Published figures (protocol ``index``) to put beside ours as ``published-us@…``.
    note
        Called with a line for each kind that is done.

    Raises
    ------
    InputError
        At an unknown kind, or where no user in the bundle has a history.
    """
    settings = settings or IndexBench()
    note = note or Silent().note
    for kind in settings.kinds:
        if kind != BRUTE_FORCE:
            named_index(kind)
    contents = load_bundle(bundle).contents
    queries = user_vectors(contents, settings.queries)
    figures = Figures([], [], {})
    with one_thread():
        real = np.ascontiguousarray(contents.item_vectors)
        bench = _Bench(settings, contents.info.dataset, queries, figures, note)
        for size in sorted(set(settings.sizes)) or [len(real)]:
            bench.measure(real, size)
    if reference is not None:
        where = protocol(len(contents.item_vectors), queries.shape[1])
        figures.rows.extend(_published(reference, where, figures.rows))
    return figures


def user_vectors(contents: BundleContents, most: int) -> FloatArray:
    """``(users, d)`` vectors of users drawn from those with a history."""
    known = np.flatnonzero(contents.histories.lengths).astype(np.int32)
    if not len(known):
        raise InputError(
            "no user in the bundle has a history to search with",
            "make the bundle from a data set with interactions",
        )
    users = np.random.default_rng(0).choice(known, min(most, len(known)), replace=False)
    return UserTower(contents).encode(Queries(users, contents.histories.select(users)))


class _Bench:
    """Measures sizes in rising order, and leaves out kinds by the cost of the previous size."""

    def __init__(
        self,
        settings: IndexBench,
        dataset: str,
        queries: FloatArray,
        figures: Figures,
        note: Callable[[str], None],
    ) -> None:
        self._settings, self._dataset, self._queries = settings, dataset, queries
        self._figures, self._note = figures, note
        self._spent: dict[str, _Spent] = {}

    def measure(self, real: FloatArray, size: int) -> None:
        """All kinds at one size."""
        width = real.shape[1]
        # The vectors, temporaries of drawing them, and a copy in the index.
        shortage = _memory_shortage(2.5 * 4 * size * width)
        if shortage:
            for kind in self._settings.kinds:
                self._leave_out(kind, size, shortage)
            return
        vectors = real if size == len(real) else larger_catalogue(real, size)
        ks = [k for k in self._settings.ks if k <= size]
        truth = Truth(vectors, self._queries, ks)
        for kind in self._settings.kinds:
            reason = self._exclusion(kind, vectors)
            if reason:
                self._leave_out(kind, size, reason)
                continue
            began = time.perf_counter()
            try:
                index = self._built(kind, vectors)
            except ModuleNotFoundError as error:
                self._leave_out(kind, size, f"the package {error.name} is not installed")
                continue
            seconds = time.perf_counter() - began
            self._spent[kind] = _Spent(size, seconds, index.nbytes)
            rows = self._rows(kind, index, truth, ks)
            rows("build-seconds", [seconds])
            rows("memory-mb", [index.nbytes / 2**20])
            self._note(f"{kind}: {size:,} x {width} measured")

    def _built(self, kind: str, vectors: FloatArray) -> _Timed:
        if kind != BRUTE_FORCE:
            config = named_index(kind)
            self._figures.models[kind] = config.model_dump_json()
            return build_index(vectors, config)
        found = BruteForce(vectors)
        self._figures.models[kind] = f"matrix product and top-k in PyTorch, on {found.device}"
        return found

    def _rows(
        self, kind: str, index: _Timed, truth: Truth, ks: Sequence[int]
    ) -> Callable[[str, Sequence[float]], None]:
        """Time a kind; returned is a function that adds a row with median, least and greatest."""
        size, width = truth.vectors.shape

        def add(metric: str, values: Sequence[float]) -> None:
            several = len(values) > 1
            self._figures.rows.append(
                Row(
                    dataset=self._dataset,
                    split="all-users",
                    model=kind,
                    protocol=protocol(size, width),
                    metric=metric,
                    value=float(np.median(values)),
                    low=min(values) if several else None,
                    high=max(values) if several else None,
                    users=len(self._queries),
                )
            )

        for k in ks:
            rounds = [self._round(index, truth, k) for _ in range(self._settings.rounds)]
            singles = [float(np.median(r.seconds)) for r in rounds]
            add(f"us@{k}", [1e6 * single for single in singles])
            add(f"p99-us@{k}", [1e6 * float(np.quantile(r.seconds, 0.99)) for r in rounds])
            add(f"queries/s@{k}", [1 / r.batch for r in rounds])
            add(f"recall@{k}", [truth.recall(rounds[0].found)])
            if kind != BASELINE:
                ratios = [r.baseline / single for r, single in zip(rounds, singles, strict=True)]
                add(f"times-as-fast-as-{BASELINE}@{k}", ratios)
        return add

    def _round(self, index: _Timed, truth: Truth, k: int) -> _Round:
        most = self._settings.seconds
        baseline = search_one_by_one(
            ExactIndex(truth.vectors), truth.queries, k, most_seconds=most
        ).seconds
        found, seconds = search_one_by_one(index, truth.queries, k, most_seconds=most)
        began = time.perf_counter()
        index.search(truth.queries[: len(found)], k)
        batch = (time.perf_counter() - began) / len(found)
        return _Round(seconds, batch, float(np.median(baseline)), found)

    def _exclusion(self, kind: str, vectors: FloatArray) -> str | None:
        """Why a kind is left out at a size, by the cost of the previous; None where it is not."""
        spent = self._spent.get(kind)
        if spent is None:
            return None
        times = len(vectors) / spent.size
        seconds, limit = times * spent.build_seconds, self._settings.build_limit
        if seconds > limit:
            return f"to build it would take {seconds:,.0f} s or more, the limit is {limit:,.0f}"
        return _memory_shortage(2 * times * spent.nbytes)

    def _leave_out(self, kind: str, size: int, reason: str) -> None:
        where = protocol(size, self._queries.shape[1])
        self._figures.absent.append(
            Absent(dataset=self._dataset, model=kind, reason=f"{where}: {reason}")
        )
        self._note(f"{kind} left out of {where}: {reason}")


def protocol(size: int, width: int) -> str:
    """Name of a size and a width in a results file."""
    return f"index-{size}x{width}"


def _memory_shortage(needed: float) -> str | None:
    free = available_memory()
    if free is None or needed <= free:
        return None
    return f"it needs {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} are free"


def _published(reference: Reference, where: str, rows: Sequence[Row]) -> list[Row]:
    """Published figures of measured kinds, as rows of a protocol."""
    measured = {row.model: row for row in rows if row.protocol == where}
    return [
        measured[published.model].model_copy(
            update={
                "metric": f"published-{published.metric}",
                "value": published.value,
                "low": None,
                "high": None,
                "users": 0,
            }
        )
        for published in reference.rows
        if published.protocol == PUBLISHED and published.model in measured
    ]


class BruteForce:
    """Matrix product and top-k in PyTorch, on the GPU where there is one.

    Parameters
    ----------
    vectors
        ``(items, dim)`` float32.
    """

    def __init__(self, vectors: FloatArray) -> None:
        import torch

        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._vectors = torch.from_numpy(vectors).to(self._device)

    @property
    def device(self) -> str:
        """Name of the device."""
        import torch

        if self._device.type == "cuda":
            return str(torch.cuda.get_device_name(self._device))
        return "the CPU"

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return self._vectors.nbytes

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, OffsetArray]:
        """As `twotower.index.ItemIndex.search`, from and to NumPy; at most all items."""
        import torch

        with torch.inference_mode():
            searched = torch.from_numpy(queries).to(self._device)
            best = torch.topk(searched @ self._vectors.T, min(k, len(self._vectors)), dim=1)
            return best.values.cpu().numpy(), best.indices.cpu().numpy()


def larger_catalogue(vectors: FloatArray, size: int, seed: int = 0) -> FloatArray:
    """``size`` item vectors distributed as the given ones.

    Below their number, a random subset. Above it, all of them, followed by copies of random ones
    moved in a random direction by the median distance of an item to its nearest; a copy keeps its
    length.

    Parameters
    ----------
    vectors
        ``(items, dim)`` float32, two at least.
    size
        At least 1.

    Returns
    -------
    FloatArray
        ``(size, dim)`` float32.

    Raises
    ------
    InputError
        Where ``size`` is below 1, or there are no two vectors.
    """
    vectors = check_vectors(vectors)
    if size < 1 or len(vectors) < 2:
        raise InputError(
            f"size must be at least 1 and there must be 2 vectors, got {size} and {len(vectors)}"
        )
    rng = np.random.default_rng(seed)
    if size <= len(vectors):
        return vectors[np.sort(rng.choice(len(vectors), size, replace=False))]
    # A vector of independent normal parts has about this length.
    spread = np.float32(nearest_distance(vectors, rng) / np.sqrt(vectors.shape[1]))
    found = np.empty((size, vectors.shape[1]), dtype=np.float32)
    found[: len(vectors)] = vectors
    for start in range(len(vectors), size, _DRAWN_ROWS):
        block = found[start : start + _DRAWN_ROWS]
        source = vectors[rng.integers(len(vectors), size=len(block))]
        block[:] = source + spread * rng.standard_normal(block.shape, dtype=np.float32)
        length = np.linalg.norm(block, axis=1, keepdims=True)
        block *= np.linalg.norm(source, axis=1, keepdims=True) / np.maximum(length, 1e-12)
    return found


def nearest_distance(vectors: FloatArray, rng: np.random.Generator) -> float:
    """Median Euclidean distance of a sample of vectors to their nearest other."""
    rows = rng.choice(len(vectors), min(_DISTANCE_SAMPLE, len(vectors)), replace=False)
    squares = np.square(vectors).sum(axis=1)
    distances = squares[rows, None] + squares - 2 * vectors[rows] @ vectors.T
    distances[np.arange(len(rows)), rows] = np.inf
    return float(np.median(np.sqrt(np.maximum(distances.min(axis=1), 0))))
