"""Index protocol, base of index configurations, and validation of vectors and queries."""

from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import numpy as np

from twotower.config import Config
from twotower.errors import InputError
from twotower.types import FloatArray, OffsetArray

PADDING_ITEM: Final = -1
PADDING_SCORE: Final = np.float32(-np.inf)


@runtime_checkable
class ItemIndex(Protocol):
    """Finds the items whose vectors have the largest inner product with a query.

    An index is immutable once built and can be searched from several threads.
    """

    @property
    def config(self) -> "IndexSettings":
        """The configuration that it was built with."""
        ...

    @property
    def is_exact(self) -> bool:
        """Whether `search` always returns the true best items."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def size(self) -> int:
        """Number of items."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory of its vectors and structure, in bytes."""
        ...

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, OffsetArray]:
        """Best ``k`` items of each query, best first.

        An approximate index may miss some, and may find fewer than ``k`` even if ``k`` exist.

        Parameters
        ----------
        queries
            ``(queries, dim)`` float32.
        k
            At least 1; may exceed `size`.

        Returns
        -------
        scores
            ``(queries, k)`` float32 inner products, padded with ``-inf``. An index that keeps only
            rounded vectors returns the products of those.
        items
            ``(queries, k)`` int64 item indices, padded with ``-1``.

        Raises
        ------
        InputError
            If ``k < 1``, or the queries have the wrong shape, NaN or infinity.
        """
        ...

    def extended(self, vectors: FloatArray) -> "ItemIndex":
        """A new index with ``(more, dim)`` vectors appended; existing items keep their indices.

        Learned structure, such as centroids, is not retrained.

        Raises
        ------
        InputError
            If the vectors have the wrong shape, NaN or infinity, or there are none.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the index's files (see `twotower.index.load_index`) into ``folder``."""
        ...


class IndexSettings(Config):
    """Base of the index configurations: each can build its index and read it back."""

    kind: str

    def build(self, vectors: FloatArray) -> ItemIndex:
        """Index ``vectors`` (items, dim), already validated by `check_vectors`."""
        raise NotImplementedError

    def read(self, folder: Path) -> ItemIndex:
        """Read the vectors or structure that `ItemIndex.save` wrote; `OSError` or `ValueError`
        on failure.
        """
        raise NotImplementedError

    def retuned(self, index: ItemIndex) -> ItemIndex | None:  # noqa: ARG002
        """``index`` with this configuration if only search parameters differ; otherwise None."""
        return None


def check_vectors(vectors: FloatArray, dim: int | None = None) -> FloatArray:
    """Item vectors as C-contiguous float32, of length ``dim`` if given, or `InputError`."""
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.shape[1] == 0 or dim not in (None, vectors.shape[1]):
        wanted = "dim" if dim is None else dim
        raise InputError(f"item vectors must have the shape (items, {wanted}), got {vectors.shape}")
    if len(vectors) == 0:
        raise InputError("an index needs at least one item vector, got 0")
    return _finite(vectors, "item vectors")


def check_search(queries: FloatArray, k: int, dim: int) -> FloatArray:
    """Queries as C-contiguous float32, or `InputError`."""
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    queries = np.asarray(queries)
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise InputError(f"queries must have the shape (queries, {dim}), got {queries.shape}")
    return _finite(queries, "queries")


def _finite(vectors: FloatArray, name: str) -> FloatArray:
    if vectors.dtype != np.float32 or not vectors.flags.c_contiguous:
        with np.errstate(over="ignore"):  # a float64 too large for float32 is found just below
            vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    finite = np.isfinite(vectors)
    if not finite.all():
        rows = np.flatnonzero(~finite.all(axis=1))
        raise InputError(
            f"{name} must be finite, got NaN or infinity in {len(rows)} rows, "
            f"the first of them row {rows[0]}"
        )
    return vectors
