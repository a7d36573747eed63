"""Fold-in: least-squares user vectors from histories, without training.

Used by training (`twotower.factors.als`) and serving; NumPy only.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_info, threadpool_limits

from twotower.config import Config
from twotower.data import Histories
from twotower.factors.cold_items import ColdItems
from twotower.types import Array, DoubleArray, FloatArray, OffsetArray

_DIRECT: Final = 64
"""Rows with more events than this are solved in the dimensions, not in the events."""
_BLOCK: Final = 1_000_000
"""Numbers held at once: longer gathers would fall out of the cache."""
_ITERATED_FROM: Final = 16
"""Rows with more events are improved by iteration where that is wanted, not solved."""
_LIKE: Final = 1.1
"""Longest row of a block of them, in lengths of the shortest: shorter rows are padded."""
ROUND_TOLERANCE: Final = 1e-3
"""Relative residual at which a round of least squares may leave its vectors."""
_MOST_STEPS: Final = 30
_NORM_ROWS: Final = 1024
_GRAM_ROWS: Final = 8192
_NEGLIGIBLE: Final = 1e-4
"""An extra weight below this is 0: beside the 1 that every event has."""


def principal_basis(table: FloatArray) -> FloatArray:
    """The same vectors, ``(n, d)``, rotated to make their Gram matrix diagonal.

    Dot products are unchanged, columns are in descending order of their squared norm, and solving
    against all items is a division by it.
    """
    return table @ principal_directions(table)


def turn(table: FloatArray, basis: FloatArray) -> None:
    """Replace a table ``(n, d)`` by its product with ``basis`` (d, d), in blocks of rows."""
    for start in range(0, len(table), _GRAM_ROWS):
        table[start : start + _GRAM_ROWS] = table[start : start + _GRAM_ROWS] @ basis


def principal_directions(table: FloatArray) -> FloatArray:
    """``(d, d)`` float32 the orthogonal matrix that turns a table to its `principal_basis`."""
    _, basis = np.linalg.eigh(gram_matrix(table))
    return np.ascontiguousarray(basis[:, ::-1], dtype=np.float32)


def gram_matrix(table: FloatArray) -> DoubleArray:
    """``(d, d)`` float64 inner products of the columns, in blocks of rows."""
    total = np.zeros((table.shape[1], table.shape[1]))
    for start in range(0, len(table), _GRAM_ROWS):
        part = table[start : start + _GRAM_ROWS].astype(np.float64)
        total += part.T @ part
    return total


def column_norms(table: FloatArray) -> FloatArray:
    """Squared norms of the columns: the diagonal of the Gram matrix."""
    total = np.zeros(table.shape[1])
    for start in range(0, len(table), _NORM_ROWS):  # all squares at once fall out of the cache
        total += np.square(table[start : start + _NORM_ROWS], dtype=np.float64).sum(axis=0)
    return total.astype(np.float32)


def solve_rows(
    table: FloatArray,
    indptr: OffsetArray,
    events: Array,
    weights: FloatArray,
    regularisation: FloatArray,
    spectrum: FloatArray | None = None,
    beside: FloatArray | None = None,
) -> FloatArray:
    r"""Least-squares vector of every row of events against a table in its principal basis.

    Row ``r``, with events ``i`` of extra weight ``a_i``, gets the minimiser of

    .. math:: \sum_{i \in r} (1 + a_i) (1 - x^T y_i)^2 + \sum_{j \notin r} (x^T y_j)^2
              + \lambda_r \lVert x \rVert^2

    (Hu, Koren and Volinsky, Collaborative filtering for implicit feedback datasets, ICDM 2008).
    The first sum is over events: an item that comes twice has two terms there, and none in the
    second. A short row is solved by the Woodbury identity in as many unknowns as it has events.

    Parameters
    ----------
    table
        ``(n, d)`` float32 in `principal_basis`.
    indptr, events
        ``(rows + 1,)`` and ``(events,)``: row ``r`` has ``events[indptr[r]:indptr[r + 1]]``.
    weights
        ``(events,)`` float32, positive.
    regularisation
        ``(rows,)`` float32, positive.
    spectrum
        `column_norms` of the table, where they are at hand: over a large table they take longer
        than a row.
    beside
        ``(rows, d)`` sums of the table's rows of further events of extra weight 0, items that a
        row does not have otherwise; None for none.

    Returns
    -------
    ``(rows, d)`` float32; zero for a row without events.
    """
    if spectrum is None:
        spectrum = column_norms(table)
    lengths = indptr[1:] - indptr[:-1]
    vectors = np.zeros((len(lengths), table.shape[1]), dtype=np.float32)
    short = lengths[(lengths > 0) & (lengths <= _DIRECT)]
    for length in sorted(set(short.tolist())):
        same = np.flatnonzero(lengths == length)
        step = max(1, int(_BLOCK // (length * table.shape[1])))
        for start in range(0, len(same), step):
            rows = same[start : start + step]
            places = indptr[rows][:, None] + np.arange(length)
            inverse = np.reciprocal(spectrum + regularisation[rows][:, None])  # (R, d)
            own, weight = events[places], weights[places]
            extra = weight + _repeats(own)
            old = None if beside is None else beside[rows]
            vectors[rows] = _few_events(table[own], inverse, weight, extra, old)
    for row in np.flatnonzero(lengths > _DIRECT):
        span = slice(indptr[row], indptr[row + 1])
        own, weight = table[events[span]], weights[span]
        extra = weight + _repeats(events[span][None])[0]
        matrix = np.diag(spectrum + regularisation[row]) + (own.T * extra) @ own
        wanted = own.T @ (1 + weight) + (0 if beside is None else beside[row])
        vectors[row] = np.linalg.solve(matrix, wanted)
    return vectors


def improve_rows(
    vectors: FloatArray,
    table: FloatArray,
    indptr: OffsetArray,
    events: Array,
    weights: FloatArray,
    regularisation: FloatArray,
    spectrum: FloatArray | None = None,
    tolerance: float = ROUND_TOLERANCE,
) -> None:
    """As `solve_rows` without repeats, in place, from vectors that are near.

    Rows of more than `_ITERATED_FROM` events are improved by conjugate gradients (Takács, Pilászy
    and Tikk, *Applications of the conjugate gradient method for implicit feedback collaborative
    filtering*, RecSys 2011), on as many threads as NumPy's linear algebra may use. In the principal
    basis the Gram matrix is a diagonal, which is the preconditioner too: a step costs ``4 L d``
    operations for a row of ``L`` events, and few are enough.

    Parameters
    ----------
    vectors
        ``(rows, d)`` float32, where to begin, overwritten; zero for a row without events.
    tolerance
        Residual at which rows are left, relative to that of zeros.
    """
    if spectrum is None:
        spectrum = column_norms(table)
    norms = spectrum
    lengths = indptr[1:] - indptr[:-1]
    vectors[lengths == 0] = 0

    def improve(rows: Array) -> None:
        read = np.arange(int(lengths[rows[-1]])) < lengths[rows][:, None]  # (R, L)
        places = indptr[rows][:, None] + np.where(read, np.arange(read.shape[1]), 0)
        own = table.take(events[places], axis=0)  # (R, L, d)
        extra = np.where(read, weights[places], np.float32(0))
        diagonal = norms + regularisation[rows][:, None]
        if lengths[rows[0]] <= _ITERATED_FROM:
            vectors[rows] = _few_events(own, np.reciprocal(diagonal), extra, extra)
        else:
            wanted = np.where(read, 1 + extra, np.float32(0))
            vectors[rows] = _conjugate_gradients(
                own, extra, wanted, diagonal, vectors[rows], tolerance
            )

    blocks = _blocks_of_like_length(lengths, table.shape[1])
    threads = _blas_threads()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        # NumPy lets go of the interpreter in all that takes long here.
        for _ in pool.map(improve, blocks) if threads > 1 else map(improve, blocks):
            pass


def _blocks_of_like_length(lengths: Array, width: int) -> Iterator[Array]:
    """Rows with an event in blocks of at most `_BLOCK` numbers, in the order of their lengths.

    Rows that are solved directly have the same length, others nearly the same: see `_LIKE`.
    """
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order]
    first = int(np.searchsorted(ordered, 1))
    while first < len(order):
        shortest = int(ordered[first])
        longest = shortest if shortest <= _ITERATED_FROM else int(_LIKE * shortest)
        last = int(np.searchsorted(ordered, longest, "right"))
        last = min(last, first + max(_BLOCK // (longest * width), 1))
        yield order[first:last]
        first = last


def _blas_threads() -> int:
    """Threads that NumPy's linear algebra may use."""
    counts = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return max(min(counts, default=1), 1)


def _conjugate_gradients(
    own: FloatArray,
    extra: FloatArray,
    wanted: FloatArray,
    diagonal: FloatArray,
    start: FloatArray,
    tolerance: float,
) -> FloatArray:
    """``own`` (R, L, d), ``extra`` and ``wanted`` (R, L), ``diagonal`` and ``start`` (R, d)."""

    def product(vectors: FloatArray) -> FloatArray:
        scores = (own @ vectors[..., None])[..., 0]
        return diagonal * vectors + ((extra * scores)[:, None] @ own)[:, 0]

    aim = (wanted[:, None] @ own)[:, 0]
    enough = tolerance**2 * (aim * aim / diagonal).sum(axis=1)
    vectors, residual = start.copy(), aim - product(start)
    direction = residual / diagonal
    size = (residual * direction).sum(axis=1)
    for _ in range(_MOST_STEPS):
        if (size <= enough).all():
            break
        moved = product(direction)
        step = (size / np.maximum((direction * moved).sum(axis=1), 1e-30))[:, None]
        vectors += step * direction
        residual -= step * moved
        scaled = residual / diagonal
        before, size = size, (residual * scaled).sum(axis=1)
        direction = scaled + (size / np.maximum(before, 1e-30))[:, None] * direction
    return vectors


def _repeats(items: Array) -> FloatArray:
    """``(R, L)`` 0 where a row of items ``(R, L)`` has the item for the first time, else 1.

    Of an event's weight 1 + a, the Gram matrix of all items holds 1 already, but once an item.
    """
    repeats = np.zeros(items.shape, dtype=np.float32)
    ordered = np.sort(items, axis=1)
    for row in np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1)):
        repeats[row] = 1
        repeats[row, np.unique(items[row], return_index=True)[1]] = 0
    return repeats


def _few_events(
    own: FloatArray,
    inverse: FloatArray,
    weights: FloatArray,
    extra: FloatArray,
    beside: FloatArray | None = None,
) -> FloatArray:
    """``own`` (R, L, d), ``inverse`` (R, d) and ``beside`` (R, d) to ``(R, d)``.

    ``weights`` (R, L) are the events', ``extra`` (R, L) what of 1 + them the Gram matrix lacks.
    """
    wanted = 1 + weights
    scaled = own * inverse[:, None]
    kernel = scaled @ own.transpose(0, 2, 1)  # (R, L, L)
    system = kernel + np.eye(own.shape[1], dtype=np.float32) / extra[:, :, None]
    aim = kernel @ wanted[..., None]
    if beside is not None:
        aim += scaled @ beside[..., None]
    taken = np.linalg.solve(system, aim)[..., 0]
    solved: FloatArray = ((wanted - taken)[:, None] @ scaled)[:, 0]
    return solved if beside is None else solved + inverse * beside


def _one_row(
    own: FloatArray,
    inverse: FloatArray,
    wanted: FloatArray,
    ridge: FloatArray,
    beside: FloatArray | None,
) -> FloatArray:
    """As `_few_events` for ``own`` (L, d): for one request what NumPy's calls cost counts.

    ``wanted`` are 1 + the weights, ``ridge`` 1 / the weights; no item comes twice.
    """
    scaled = own * inverse
    kernel = scaled @ own.T
    aim = kernel @ wanted
    if beside is not None:
        aim += scaled @ beside
    kernel.ravel()[:: len(own) + 1] += ridge
    solved: FloatArray = (wanted - np.linalg.solve(kernel, aim)) @ scaled
    return solved if beside is None else solved + inverse * beside


@dataclass(frozen=True)
class FoldIn:
    """Makes user vectors from histories; older events weigh less.

    Where events have weights of their own, the extra weight is multiplied by these.
    """

    table: FloatArray
    """``(items, d)`` float32 item factors in `principal_basis`; an item of zeros has no
    influence."""
    confidence: float
    """Extra weight of the newest event."""
    recency: float
    """What an event's extra weight is multiplied by for each event that came after it."""
    regularisation: float
    """Weight of the vector's squared norm."""
    length: int = 200
    """Newest events that are read."""

    @cached_property
    def spectrum(self) -> FloatArray:
        """`column_norms` of the table."""
        return column_norms(self.table)

    @cached_property
    def _inverse(self) -> FloatArray:
        inverse: FloatArray = np.reciprocal(self.spectrum + np.float32(self.regularisation))
        return inverse

    @cached_property
    def _oldest_first(self) -> tuple[FloatArray, FloatArray]:
        """1 + the weights and 1 / the weights, the newest event's last."""
        weights = self.weights[::-1]
        return 1 + weights, np.reciprocal(weights)

    @cached_property
    def reach(self) -> int:
        """Newest events whose extra weight counts: of an older one only the 1 beside it does."""
        return max(1, int(np.searchsorted(-self.weights, -_NEGLIGIBLE)))

    @cached_property
    def weights(self) -> FloatArray:
        """``(length,)`` extra weight of the newest event, the one before it, and so on."""
        falling = self.confidence * self.recency ** np.arange(self.length)
        # Never quite 0: a weight is divided by.
        weights: FloatArray = np.maximum(falling, 1e-6).astype(np.float32)
        return weights

    def __call__(self, histories: Histories) -> FloatArray:
        """``(rows, d)`` float32; zero for an empty history."""
        recent = histories.last(self.length)
        if len(recent) == 1 and len(recent.items):
            items = recent.items
            once = len(set(items.tolist())) == len(items)
            if once and min(len(items), self.reach) <= _DIRECT:
                vectors = self.table.take(items, axis=0)
                own, old = vectors[-self.reach :], vectors[: -self.reach]
                wanted, ridge = (values[-len(own) :] for values in self._oldest_first)
                if recent.weights is not None:
                    weight = recent.weights[-len(own) :]
                    wanted, ridge = 1 + weight * (wanted - 1), ridge / weight
                beside = old.sum(axis=0) if len(old) else None
                return _one_row(own, self._inverse, wanted, ridge, beside)[None]
        weighed, beside = recent, None
        if len(recent.items) and int(recent.lengths.max()) > self.reach:
            weighed, beside = self._parted(recent)
        age = np.repeat(weighed.indptr[1:], weighed.lengths) - 1 - np.arange(len(weighed.items))
        weights = self.weights[age]
        if weighed.weights is not None:
            weights = weights * weighed.weights
        penalty = np.full(len(recent), self.regularisation, dtype=np.float32)
        return solve_rows(
            self.table, weighed.indptr, weighed.items, weights, penalty, self.spectrum, beside
        )

    def _parted(self, histories: Histories) -> tuple[Histories, FloatArray]:
        """Events whose extra weight counts, and ``(rows, d)`` sums of the older ones' vectors.

        A row in which an item comes twice stays whole: its weights add up.
        """
        rows, from_end = histories.rows, np.repeat(histories.indptr[1:], histories.lengths)
        from_end = from_end - np.arange(len(rows))
        keys = np.sort(rows * len(self.table) + histories.items)
        twice = np.zeros(len(histories), dtype=np.bool_)
        twice[keys[1:][keys[1:] == keys[:-1]] // len(self.table)] = True
        weighed = (from_end <= self.reach) | twice[rows]
        old = histories.keep(~weighed)
        beside = np.zeros((len(histories), self.table.shape[1]), dtype=np.float32)
        filled = np.flatnonzero(old.lengths)
        step = max(1, _BLOCK // (max(int(old.lengths.max(initial=1)), 1) * self.table.shape[1]))
        for start in range(0, len(filled), step):
            rows = filled[start : start + step]
            first, last = old.indptr[rows[0]], old.indptr[rows[-1] + 1]
            vectors = self.table[old.items[first:last]]
            beside[rows] = np.add.reduceat(vectors, old.indptr[rows] - first, axis=0)
        return histories.keep(weighed), beside


class FoldInInfo(Config):
    """The least-squares part of the vectors: their last columns, and how a history folds in."""

    dim: int = Field(ge=1)
    """Columns that are factors."""
    weight: float = Field(gt=0)
    """What the user's part is multiplied by."""
    confidence: float = Field(gt=0)
    """As `FoldIn`."""
    recency: float = Field(gt=0, le=1)
    """As `FoldIn`."""
    regularisation: float = Field(gt=0)
    """As `FoldIn`."""
    cold_items: ColdItems = ColdItems()
    """What stands for the factor of a new item."""
