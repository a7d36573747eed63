"""Qdrant index: a server by URL, or in this process for tests and small catalogues."""

from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

from twotower.index.engine import BLOCK, EngineConfig, EngineIndex, digest, library
from twotower.types import FloatArray


class QdrantIndex(EngineIndex):
    """A Qdrant collection; see `EngineIndex`."""

    file: ClassVar[str] = "index.qdrant.json"

    @staticmethod
    def name(vectors: FloatArray, config: EngineConfig) -> str:
        """Name of the collection, the same for exact and approximate search."""
        del config
        return f"twotower-{digest(vectors)}"

    @cached_property
    def _client(self) -> Any:
        return _library().QdrantClient(self.config.url or ":memory:")

    @property
    def stored(self) -> int:
        """Number of items in the collection; 0 if it does not exist."""
        if not self._client.collection_exists(self.collection):
            return 0
        return int(self._client.count(self.collection).count)

    def create(self, vectors: FloatArray) -> None:
        """See `EngineIndex.create`."""
        models = _library().models
        self._client.delete_collection(self.collection)
        self._client.create_collection(
            self.collection, models.VectorParams(size=self.dim, distance=models.Distance.DOT)
        )
        for start in range(0, len(vectors), BLOCK):
            part = vectors[start : start + BLOCK]
            ids = list(range(start, start + len(part)))
            self._client.upsert(
                self.collection, models.Batch(ids=ids, vectors=part.tolist()), wait=True
            )

    def nearest(self, queries: FloatArray, k: int) -> Iterator[tuple[int, int, float]]:
        """See `EngineIndex.nearest`."""
        models = _library().models
        wanted = None  # in-process search is always exact
        if not self.in_process:
            wanted = models.SearchParams(exact=self.config.exact)
        requests = [
            models.QueryRequest(query=query.tolist(), limit=k, params=wanted) for query in queries
        ]
        for row, found in enumerate(self._client.query_batch_points(self.collection, requests)):
            for point in found.points:
                yield row, int(point.id), point.score

    def rows(self, items: list[int]) -> Iterator[tuple[int, Any]]:
        """See `EngineIndex.rows`."""
        for point in self._client.retrieve(self.collection, items, with_vectors=True):
            yield int(point.id), point.vector


class QdrantConfig(EngineConfig):
    """Qdrant with inner product; needs the ``qdrant`` extra.

    Example of ``url``: ``http://localhost:6333``; None keeps the items in this process.
    """

    kind: Literal["qdrant"] = "qdrant"
    index: ClassVar[type[EngineIndex]] = QdrantIndex


_library = partial(library, "qdrant_client", "qdrant-client", "qdrant")
