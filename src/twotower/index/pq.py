"""FAISS product quantisation: all codes are scanned, the best items are scored exactly."""

from typing import Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from twotower.index.faiss_index import FaissSettings, load_faiss
from twotower.types import FloatArray, IndexArray

_CENTROIDS: Final = 16  # 4 bits: a table of 16 sums fits a vector register

LARGE: Final = 200_000
"""Items from which codes are coarser by default."""
SCORED_OF: Final = 400


class PqConfig(FaissSettings):
    """Codes of 4 bits (Jégou, Douze and Schmid, 2011), scanned in registers (André, Kermarrec
    and Le Scouarnec, VLDB 2015), then re-ranking by whole vectors.

    Nothing is skipped, so that recall depends on how many items are re-ranked, and neither on the
    lengths of the vectors nor on how they cluster. Time grows with the number of items,
    but an item is read as ``dim / sub_dim / 2`` bytes. Scores are those of the whole vectors.
    A query of zeros finds no item.

    Dimensions are allocated to codes by size, so that a large dimension shares a code with a
    small one (the allocation of Ge, He, Ke and Sun, Optimized product quantization, CVPR 2013,
    without its rotation): large dimensions keep most of 16 values each, and small
    ones, which hardly change the order, cost nothing to read.
    """

    kind: Literal["pq"] = "pq"
    searching: ClassVar[frozenset[str]] = frozenset({"scored", "least_scored"})
    sub_dim: int | None = Field(default=None, ge=1)
    """Dimensions that share a code. None: 2, and 4 for `LARGE` items or more, where reading the
    codes takes most of the time."""
    scored: float = Field(default=2.5, ge=1)
    """Items re-ranked by whole vectors, for each item searched for."""
    least_scored: int | None = Field(default=None, ge=1)
    """Least number of items re-ranked. None: 200, or 1 of `SCORED_OF` items if that is more."""
    iterations: int = Field(default=10, ge=1)
    """Of the k-means that finds the 16 centroids of each code."""
    seed: int = Field(default=0, ge=0)
    """Draws the first centroids."""

    @property
    def structure(self) -> str:
        """``IndexRefineFlat``."""
        return "IndexRefineFlat"

    def create(self, vectors: FloatArray) -> Any:
        """Find the codes by k-means, and store codes and vectors."""
        faiss = load_faiss()
        sub_dim = self.sub_dim or (2 if len(vectors) < LARGE else 4)
        order = _allocated(np.square(vectors).mean(axis=0), sub_dim)
        codes = faiss.IndexPQFastScan(
            len(order), len(order) // sub_dim, 4, faiss.METRIC_INNER_PRODUCT
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
        """Re-rank ``scored`` items for each of the ``k``."""
        least = self.least_scored or max(200, index.ntotal // SCORED_OF)
        wanted = min(max(self.scored * k, least), index.ntotal)
        return load_faiss().IndexRefineSearchParameters(k_factor=max(wanted / k, 1.0))


def _allocated(sizes: FloatArray, sub_dim: int) -> IndexArray:
    """Dimensions in the order of their codes, ``sub_dim`` for each; -1 for none.

    From the largest down each code gets one, then one more in the opposite order.

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
    """As many vectors as centroids, the last of them 0, so that they are not all one point."""
    enough = np.resize(vectors, (_CENTROIDS, vectors.shape[1]))
    enough[-1] = 0
    return enough
