"""Exact search over all item vectors, with NumPy/BLAS or FAISS Flat."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from twotower.index.base import IndexSettings, check_search, check_vectors
from twotower.index.faiss_index import FaissSettings, load_faiss
from twotower.index.top_k import top_k
from twotower.types import FloatArray, OffsetArray

VECTORS_FILE = "index.npy"
_BLOCK_SCORES = 1 << 24  # most scores held at once: 64 MiB of float32
_BLOCK_QUERIES = 128  # a larger block gains nothing, and its scores no longer fit the cache


class ExactConfig(IndexSettings):
    """NumPy/BLAS search: exact, nothing to train, the baseline for comparisons."""

    kind: Literal["exact"] = "exact"

    def build(self, vectors: FloatArray) -> "ExactIndex":
        """Keep the vectors as they are."""
        return ExactIndex(vectors, self)

    def read(self, folder: Path) -> "ExactIndex":
        """Read the vectors from ``index.npy``."""
        return ExactIndex(np.load(folder / VECTORS_FILE, allow_pickle=False), self)


class ExactIndex:
    """Scores every item for every query; ties rank by item index.

    The ``(items, dim)`` float32 vectors are kept, not copied.
    """

    is_exact = True

    def __init__(self, vectors: FloatArray, config: IndexSettings | None = None) -> None:
        self.config = ExactConfig() if config is None else config
        self._vectors = check_vectors(vectors)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    @property
    def size(self) -> int:
        """Number of items."""
        return int(self._vectors.shape[0])

    @property
    def nbytes(self) -> int:
        """Size of the vectors in bytes."""
        return int(self._vectors.nbytes)

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, OffsetArray]:
        """See `ItemIndex.search`."""
        queries = check_search(queries, k, self.dim)
        scores = np.empty((len(queries), k), dtype=np.float32)
        items = np.empty((len(queries), k), dtype=np.int64)
        block = max(1, min(_BLOCK_QUERIES, _BLOCK_SCORES // self.size))
        # Reused: allocating memory for each block would cost more than the products.
        memory = np.empty((min(block, len(queries)), self.size), dtype=np.float32)
        for start in range(0, len(queries), block):
            part = queries[start : start + block]
            rows = slice(start, start + block)
            products = np.matmul(part, self._vectors.T, out=memory[: len(part)])
            scores[rows], items[rows] = top_k(products, k)
        return scores, items

    def extended(self, vectors: FloatArray) -> "ExactIndex":
        """See `ItemIndex.extended`."""
        more = check_vectors(vectors, self.dim)
        return ExactIndex(np.concatenate([self._vectors, more]), self.config)

    def save(self, folder: Path) -> None:
        """Write ``index.npy``."""
        np.save(folder / VECTORS_FILE, self._vectors, allow_pickle=False)


class FlatConfig(FaissSettings):
    """FAISS ``IndexFlatIP``: exact, nothing to train or tune."""

    kind: Literal["flat"] = "flat"
    is_exact: ClassVar[bool] = True

    @property
    def structure(self) -> str:
        """``IndexFlatIP``."""
        return "IndexFlatIP"

    def create(self, vectors: FloatArray) -> Any:
        """Store the vectors."""
        index = load_faiss().IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return index
