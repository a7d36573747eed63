"""FAISS product quantisation index: scans all codes, then scores the best items exactly."""

from typing import Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from twotower.index.faiss_index import FaissSettings, load_faiss
from twotower.types import FloatArray, IndexArray

_CENTROIDS: Final = 16  # 4 bits: a table of 16 sums fits a vector register


class PqConfig(FaissSettings):
    """Codes of 4 bits (Jégou, Douze and Schmid, 2011), scanned in registers (André, Kermarrec
    and Le Scouarnec, VLDB 2015), then re-ranking by whole vectors.

    Every item is scanned, so recall depends only on how many items are re-ranked, not on the
    lengths or the clustering of the vectors. Time is linear in the number of items, but each takes
    only ``dim / sub_dim / 2`` bytes to read. Scores are those of the whole vectors. A query of
    zeros finds no item.

    Dimensions are allocated to codes by mean square, large ones paired with small ones (the
    allocation of Ge, He, Ke and Sun, Optimized product quantization, CVPR 2013, without its
    rotation): a large dimension gets most of a code's 16 values, and small ones, which hardly
    change the order, cost nothing extra to read.
    """

    kind: Literal["pq"] = "pq"
    searching: ClassVar[frozenset[str]] = frozenset({"scored", "least_scored"})
    sub_dim: int = Field(default=2, ge=1)
    """Dimensions that share a code."""
    scored: float = Field(default=2.5, ge=1)
    """Items re-ranked by whole vectors per item searched for."""
    least_scored: int = Field(default=200, ge=1)
    """Minimum number of re-ranked items."""
    iterations: int = Field(default=10, ge=1)
    """Iterations of the k-means that finds the 16 centroids of each code."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the initial centroids."""

    @property
    def structure(self) -> str:
        """``IndexRefineFlat``."""
        return "IndexRefineFlat"

    def create(self, vectors: FloatArray) -> Any:
        """Find the codes by k-means, and store codes and vectors."""
        faiss = load_faiss()
        order = _allocated(np.square(vectors).mean(axis=0), self.sub_dim)
        codes = faiss.IndexPQFastScan(
            len(order), len(order) // self.sub_dim, 4, faiss.METRIC_INNER_PRODUCT
        )
        codes.pq.cp.seed = self.seed
        codes.pq.cp.niter = self.iterations
        codes.pq.cp.min_points_per_centroid = 1  # small catalogues are fine, so no warning
        allocated = faiss.IndexPreTransform(
            faiss.RemapDimensionsTransform(vectors.shape[1], len(order), faiss.swig_ptr(order)),
            codes,
        )
        index = faiss.IndexRefineFlat(allocated)
        index.train(vectors if len(vectors) >= _CENTROIDS else _repeated(vectors))
        index.add(vectors)
        return index

    def search_parameters(self, index: Any, k: int) -> Any:
        """Re-rank ``scored`` items per item searched for, and at least ``least_scored``."""
        wanted = min(max(self.scored * k, self.least_scored), index.ntotal)
        return load_faiss().IndexRefineSearchParameters(k_factor=max(wanted / k, 1.0))


def _allocated(sizes: FloatArray, sub_dim: int) -> IndexArray:
    """Dimensions in code order, ``sub_dim`` per code; -1 for an empty slot.

    From the largest down, each code gets one dimension, then the next in opposite order.

    Examples
    --------
    >>> _allocated(np.array([1.0, 2.0, 8.0, 4.0, 3.0]), sub_dim=2).tolist()
    [2, -1, 3, 0, 4, 1]
    """
    codes = -(-len(sizes) // sub_dim)
    allocated = np.full((sub_dim, codes), -1, dtype=np.int32)
    allocated.ravel()[: len(sizes)] = np.argsort(-sizes, kind="stable")
    allocated[1::2] = allocated[1::2, ::-1]
    return np.ascontiguousarray(allocated.T).ravel()


def _repeated(vectors: FloatArray) -> FloatArray:
    """As many vectors as centroids, the last one zeros, so they are never all the same point."""
    enough = np.resize(vectors, (_CENTROIDS, vectors.shape[1]))
    enough[-1] = 0
    return enough
