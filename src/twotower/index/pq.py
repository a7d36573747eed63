"""FAISS product quantisation index: scans codes, then scores the best items exactly."""

from typing import Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from twotower.index.faiss_index import FaissSettings, load_faiss
from twotower.index.ivf import number_of_cells, number_of_probes
from twotower.types import FloatArray, IndexArray

_CENTROIDS: Final = 16  # 4 bits: a table of 16 sums fits a vector register

LARGE: Final = 200_000
"""Catalogue size from which, by default, codes are coarser and only some cells are scanned."""
SCORED_OF: Final = 800
"""One in so many items of a large catalogue is re-ranked by default."""
_PROBED_OF: Final = 16
_REACH: Final = 8
"""Cells are scanned that hold at least so many times the items that are re-ranked."""
_POINTS_PER_CELL: Final = 64
"""Vectors by which the k-means finds a cell: more of them take minutes and change nothing."""


class PqConfig(FaissSettings):
    """Codes of 4 bits (Jégou, Douze and Schmid, 2011), scanned in registers (André, Kermarrec
    and Le Scouarnec, VLDB 2015), then re-ranking by whole vectors.

    Up to `LARGE` items all codes are scanned: recall depends on how many items are re-ranked, and
    neither on the lengths of the vectors nor on how they cluster. Time grows with the number of
    items, but an item is read as ``dim / sub_dim / 2`` bytes. A larger catalogue is divided into
    the cells of an inverted file, of which a search scans the nearest ones. Scores are those of
    the whole vectors. A query of zeros finds no item.

    Dimensions are allocated to codes by size, so that a large dimension shares a code with a
    small one (the allocation of Ge, He, Ke and Sun, Optimized product quantization, CVPR 2013,
    without its rotation): large dimensions keep most of 16 values each, and small
    ones, which hardly change the order, cost nothing to read.
    """

    kind: Literal["pq"] = "pq"
    searching: ClassVar[frozenset[str]] = frozenset({"scored", "least_scored", "probes"})
    sub_dim: int | None = Field(default=None, ge=1)
    """Dimensions that share a code. None: 2, and 4 for `LARGE` items or more, where reading the
    codes takes most of the time."""
    scored: float = Field(default=2.5, ge=1)
    """Items re-ranked by whole vectors per item searched for."""
    least_scored: int | None = Field(default=None, ge=1)
    """Minimum number of re-ranked items. None: 200, or one in `SCORED_OF` items if that is more."""
    cells: int | None = Field(default=None, ge=0)
    """Cells of the inverted file; 0 for none. None: none, and twice the square root of the number
    of items for `LARGE` items or more."""
    probes: int | None = Field(default=None, ge=1)
    """Minimum number of cells scanned. None: one in `_PROBED_OF`."""
    iterations: int = Field(default=10, ge=1)
    """Iterations of the k-means that finds the cells, and the 16 centroids of each code."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the initial centroids."""

    @property
    def structure(self) -> str:
        """``IndexRefineFlat``."""
        return "IndexRefineFlat"

    def create(self, vectors: FloatArray) -> Any:
        """Find the codes by k-means, and store codes and vectors."""
        faiss = load_faiss()
        metric = faiss.METRIC_INNER_PRODUCT
        is_large = len(vectors) >= LARGE
        sub_dim = self.sub_dim or (4 if is_large else 2)
        order = _allocated(np.square(vectors).mean(axis=0), sub_dim)
        width, count = len(order), len(order) // sub_dim
        cells = 0
        if self.cells or (self.cells is None and is_large):
            cells = number_of_cells(self.cells, len(vectors))
        if cells:
            codes = faiss.IndexIVFPQFastScan(
                faiss.IndexFlatIP(width), width, cells, count, 4, metric
            )
            codes.by_residual = False  # of the vectors, whose inner products are wanted
            codes.cp.seed, codes.cp.niter = self.seed, self.iterations
            codes.cp.min_points_per_centroid = 1
            codes.cp.max_points_per_centroid = _POINTS_PER_CELL
        else:
            codes = faiss.IndexPQFastScan(width, count, 4, metric)
        codes.pq.cp.seed = self.seed
        codes.pq.cp.niter = self.iterations
        codes.pq.cp.min_points_per_centroid = 1  # small catalogues are fine, so no warning
        allocated = faiss.IndexPreTransform(
            faiss.RemapDimensionsTransform(vectors.shape[1], width, faiss.swig_ptr(order)), codes
        )
        index = faiss.IndexRefineFlat(allocated)
        index.train(vectors if len(vectors) >= _CENTROIDS else _repeated(vectors))
        index.add(vectors)
        return index

    def search_parameters(self, index: Any, k: int) -> Any:
        """Re-rank ``scored`` items per item searched for, and at least ``least_scored``."""
        faiss = load_faiss()
        least = self.least_scored or max(200, index.ntotal // SCORED_OF)
        wanted = min(max(self.scored * k, least), index.ntotal)
        found = faiss.IndexRefineSearchParameters(k_factor=max(wanted / k, 1.0))
        codes = faiss.downcast_index(faiss.downcast_index(index.base_index).index)
        if cells := getattr(codes, "nlist", 0):
            visited = self.probes or max(cells // _PROBED_OF, 1)
            probes = number_of_probes(codes, visited, _REACH * wanted)
            found.base_index_params = faiss.SearchParametersPreTransform(
                index_params=faiss.IVFPQSearchParameters(nprobe=probes)
            )
        return found


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
