"""FAISS HNSW index: a graph of near neighbours, searched greedily."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from pydantic import Field

from twotower.index.faiss_index import FaissSettings, Numbers, load_faiss, quantizer
from twotower.types import FloatArray


class HnswConfig(FaissSettings):
    """Hierarchical navigable small world graph (Malkov and Yashunin, 2018, arXiv:1603.09320).

    Suited to vectors of equal length, as from the towers. With very different lengths, some items
    become unreachable in the graph: measure first (`twotower.index.compare`).
    """

    kind: Literal["hnsw"] = "hnsw"
    searching: ClassVar[frozenset[str]] = frozenset({"ef_search"})
    links: int = Field(default=32, ge=2, le=512)
    """Neighbours of a node on the upper layers (M); twice as many on the lowest."""
    ef_construction: int = Field(default=80, ge=1)
    """Candidates kept while linking a node: higher values build slower and raise recall."""
    ef_search: int = Field(default=64, ge=1)
    """Candidates kept while searching; raised to ``k`` if that is larger."""
    numbers: Numbers = "float32"
    """``float16`` halves the memory of the vectors at almost no loss; ``int8`` quarters it, but
    confuses items with close scores."""
    seed: int = Field(default=0, ge=0)
    """Random seed of each node's layer."""
    build_threads: int = Field(default=1, ge=1)
    """Threads that build the graph. With more than one, builds differ slightly between runs."""

    @property
    def structure(self) -> str:
        """``IndexHNSWFlat``, or ``IndexHNSWSQ`` for rounded numbers."""
        return "IndexHNSWFlat" if self.numbers == "float32" else "IndexHNSWSQ"

    def create(self, vectors: FloatArray) -> Any:
        """Link the vectors one by one."""
        faiss = load_faiss()
        dim, metric = vectors.shape[1], faiss.METRIC_INNER_PRODUCT
        if self.numbers == "float32":
            index = faiss.IndexHNSWFlat(dim, self.links, metric)
        else:
            index = faiss.IndexHNSWSQ(dim, quantizer(self.numbers), self.links, metric)
        index.hnsw.efConstruction = self.ef_construction
        index.hnsw.rng = faiss.RandomGenerator(self.seed)
        with _faiss_threads(self.build_threads):
            index.train(vectors)
            index.add(vectors)
        return index

    def search_parameters(self, index: Any, k: int) -> Any:  # noqa: ARG002
        """Raise ``ef_search`` to ``k``: otherwise FAISS would stop after ``ef_search`` steps."""
        return load_faiss().SearchParametersHNSW(efSearch=max(self.ef_search, k))


@contextmanager
def _faiss_threads(threads: int) -> Iterator[None]:
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
