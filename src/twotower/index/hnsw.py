"""FAISS HNSW: a graph of near neighbours, searched greedily."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import faiss
from pydantic import Field

from twotower.index.faiss_index import FaissSettings
from twotower.types import FloatArray


class HnswConfig(FaissSettings):
    """Hierarchical navigable small world graph (Malkov and Yashunin, 2018, arXiv:1603.09320).

    Made for vectors of one length, as the two-tower's are. Vectors of very different lengths
    give a graph with items that no walk reaches: measure (`twotower.index.compare`) first.
    """

    kind: Literal["hnsw"] = "hnsw"
    structure: ClassVar[str] = "IndexHNSWFlat"
    links: int = Field(default=32, ge=2, le=512)
    """Neighbours of a node on the upper layers (M); twice as many on the lowest."""
    ef_construction: int = Field(default=80, ge=1)
    """Candidates kept while a node is linked: higher builds slower and finds more."""
    ef_search: int = Field(default=64, ge=1)
    """Candidates kept while searching; ``k`` of them where ``k`` is larger."""
    seed: int = Field(default=0, ge=0)
    """Draws each node's layer."""
    build_threads: int = Field(default=1, ge=1)
    """Threads that build the graph. With more than one, two builds differ slightly."""

    def create(self, vectors: FloatArray) -> Any:
        """Link the vectors one by one."""
        index: Any = faiss.IndexHNSWFlat(vectors.shape[1], self.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.ef_construction
        index.hnsw.rng = faiss.RandomGenerator(self.seed)  # type: ignore[attr-defined]
        with _faiss_threads(self.build_threads):
            index.add(vectors)
        return index

    def tune(self, index: Any) -> None:
        """Set ``ef_search``."""
        index.hnsw.efSearch = self.ef_search

    def search_parameters(self, k: int) -> Any:
        """Raise ``ef_search`` to ``k``: FAISS by itself would stop after ``ef_search`` steps."""
        if k <= self.ef_search:
            return None
        return faiss.SearchParametersHNSW(efSearch=k)  # type: ignore[attr-defined]


@contextmanager
def _faiss_threads(threads: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
