"""Items in Qdrant: a server by URL, or in this process for tests and small catalogues."""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from twotower.errors import ArtefactError, InputError
from twotower.index.base import (
    PADDING_ITEM,
    PADDING_SCORE,
    IndexSettings,
    check_search,
    check_vectors,
)
from twotower.types import FloatArray, OffsetArray

COLLECTION_FILE: Final = "index.qdrant.json"
VECTORS_FILE: Final = "index.npy"
_UPLOADED: Final = 1024
"""Vectors of a request."""


class QdrantConfig(IndexSettings):
    """Qdrant by inner product; the ``qdrant`` extra."""

    kind: Literal["qdrant"] = "qdrant"
    url: str | None = None
    """Address of a server, such as ``http://localhost:6333``; None keeps items in this process."""
    exact: bool = False
    """Whether a server compares all items, and not those that its HNSW graph leads to."""

    def build(self, vectors: FloatArray) -> "QdrantIndex":
        """Upload the vectors to a collection that is named by what they are."""
        index = QdrantIndex(self, _name(vectors), len(vectors), vectors.shape[1])
        index.upload(vectors)
        return index

    def read(self, folder: Path) -> "QdrantIndex":
        """Find the collection on the server; in this process, fill it again."""
        about = json.loads((folder / COLLECTION_FILE).read_text())
        index = QdrantIndex(self, about["collection"], about["size"], about["dim"])
        if self.url is None:
            vectors = np.load(folder / VECTORS_FILE, allow_pickle=False)
            if vectors.shape != (index.size, index.dim):
                raise ValueError(f"{VECTORS_FILE} has the shape {vectors.shape}")
            index.upload(vectors)
        elif index.stored != index.size:
            raise ArtefactError(
                f"{self.url} has {index.stored} of {index.size} items in {index.collection!r}; "
                "build the index again"
            )
        return index


class QdrantIndex:
    """A collection behind the `ItemIndex` protocol; point ``i`` is item ``i``.

    Collections are named by a hash of their vectors, so that those of two models never mix: a
    service with the towers of one reads only the vectors of the same.
    """

    def __init__(self, config: QdrantConfig, collection: str, size: int, dim: int) -> None:
        self.config, self.collection = config, collection
        self.size, self.dim = size, dim

    @cached_property
    def _client(self) -> Any:
        return _library().QdrantClient(self.config.url or ":memory:")

    @property
    def is_exact(self) -> bool:
        """Whether all items are compared; in this process they always are."""
        return self.config.exact or self.config.url is None

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors, wherever they are."""
        return 4 * self.size * self.dim

    @property
    def stored(self) -> int:
        """Items that the collection holds; 0 where there is none."""
        if not self._client.collection_exists(self.collection):
            return 0
        return int(self._client.count(self.collection).count)

    def upload(self, vectors: FloatArray) -> None:
        """Make the collection; one that is complete stays as it is."""
        models = _library().models
        if self.stored == self.size:
            return
        self._client.delete_collection(self.collection)
        self._client.create_collection(
            self.collection, models.VectorParams(size=self.dim, distance=models.Distance.DOT)
        )
        for start in range(0, len(vectors), _UPLOADED):
            part = vectors[start : start + _UPLOADED]
            ids = list(range(start, start + len(part)))
            self._client.upsert(
                self.collection, models.Batch(ids=ids, vectors=part.tolist()), wait=True
            )

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, OffsetArray]:
        """See `ItemIndex.search`."""
        models = _library().models
        queries = check_search(queries, k, self.dim)
        scores = np.full((len(queries), k), PADDING_SCORE, dtype=np.float32)
        items = np.full((len(queries), k), PADDING_ITEM, dtype=np.int64)
        if not len(queries):
            return scores, items
        wanted = None  # in this process all items are compared, whatever is asked for
        if self.config.url is not None:
            wanted = models.SearchParams(exact=self.config.exact)
        requests = [
            models.QueryRequest(query=query.tolist(), limit=min(k, self.size), params=wanted)
            for query in queries
        ]
        for row, found in enumerate(self._client.query_batch_points(self.collection, requests)):
            for place, point in enumerate(found.points):
                scores[row, place], items[row, place] = point.score, point.id
        return scores, items

    def extended(self, vectors: FloatArray) -> "QdrantIndex":
        """See `ItemIndex.extended`; a collection of its own."""
        more = check_vectors(vectors, self.dim)
        return self.config.build(np.concatenate([*self._vectors(), more]))

    def save(self, folder: Path) -> None:
        """Write the collection's name and, of one in this process, its vectors."""
        about = {"collection": self.collection, "size": self.size, "dim": self.dim}
        (folder / COLLECTION_FILE).write_text(json.dumps(about))
        if self.config.url is None:
            vectors = np.concatenate(list(self._vectors()))
            np.save(folder / VECTORS_FILE, vectors, allow_pickle=False)

    def _vectors(self) -> Iterator[FloatArray]:
        """All vectors in the order of items, in blocks."""
        for start in range(0, self.size, _UPLOADED):
            ids = list(range(start, min(start + _UPLOADED, self.size)))
            points = self._client.retrieve(self.collection, ids, with_vectors=True)
            block = np.empty((len(ids), self.dim), dtype=np.float32)
            for point in points:
                block[int(point.id) - start] = point.vector
            yield block


def _name(vectors: FloatArray) -> str:
    return f"twotower-{hashlib.sha256(vectors.tobytes()).hexdigest()[:24]}"


def _library() -> Any:
    try:
        import qdrant_client
    except ImportError:
        raise InputError(
            "the qdrant index needs the package qdrant-client",
            "run pip install 'twotower[qdrant]', or choose another kind of index",
        ) from None
    return qdrant_client
