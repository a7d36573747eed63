"""Vector database indexes: base of the Milvus, pgvector and Qdrant indexes."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final, Self

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

VECTORS_FILE: Final = "index.npy"
_COLLECTION: Final = re.compile(r"twotower[_-][0-9a-f]{24}(_exact)?")
BLOCK: Final = 1024
"""Vectors per request to the engine."""


class EngineConfig(IndexSettings):
    """Address of the engine, and whether search is exact."""

    url: str | None = None
    """Address of a server; None for the engine's default without one."""
    exact: bool = False
    """Whether a server compares all items instead of using its HNSW graph."""
    index: ClassVar[type["EngineIndex"]]

    def build(self, vectors: FloatArray) -> "EngineIndex":
        """Upload the vectors to a collection named by their hash."""
        found = self.index(self, self.index.name(vectors, self), *vectors.shape)
        found.upload(vectors)
        return found

    def read(self, folder: Path) -> "EngineIndex":
        """Find the collection on the server; for an in-process engine, fill it again."""
        about = json.loads((folder / self.index.file).read_text())
        if not _COLLECTION.fullmatch(about["collection"]):
            raise ValueError(f"collection {about['collection'][:100]!r} is not one of twotower's")
        found = self.index(self, about["collection"], about["size"], about["dim"])
        if found.in_process:
            vectors = np.load(folder / VECTORS_FILE, allow_pickle=False)
            if vectors.shape != (found.size, found.dim):
                raise ValueError(f"{VECTORS_FILE} has the shape {vectors.shape}")
            found.upload(vectors)
        elif found.stored != found.size:
            raise ArtefactError(
                f"{self.url or 'the server'} has {found.stored} of {found.size} items in "
                f"{found.collection!r}; build the index again"
            )
        return found


class EngineIndex(ABC):
    """A collection of a vector database behind `ItemIndex`; its row ``i`` is item ``i``.

    Collections are named by a hash of their vectors, so models never mix: a service searches only
    the vectors that belong to its own towers.
    """

    file: ClassVar[str]
    """Name of the file that stores the collection's name."""

    def __init__(self, config: Any, collection: str, size: int, dim: int) -> None:
        self.config, self.collection = config, collection
        self.size, self.dim = size, dim

    @staticmethod
    def name(vectors: FloatArray, config: EngineConfig) -> str:
        """Name of the collection of these vectors."""
        return f"twotower_{digest(vectors)}" + ("_exact" if config.exact else "")

    @property
    def in_process(self) -> bool:
        """Whether the engine runs in this process; a saved index then holds the vectors."""
        return self.config.url is None

    @property
    def is_exact(self) -> bool:
        """Whether all items are compared; an in-process engine always does."""
        return self.config.exact or self.in_process

    @property
    def nbytes(self) -> int:
        """Size of the vectors in bytes, wherever they are stored."""
        return 4 * self.size * self.dim

    @property
    @abstractmethod
    def stored(self) -> int:
        """Number of items in the collection; 0 if it does not exist."""

    @abstractmethod
    def create(self, vectors: FloatArray) -> None:
        """Create the collection with all vectors, replacing an existing one."""

    @abstractmethod
    def nearest(self, queries: FloatArray, k: int) -> Iterator[tuple[int, int, float]]:
        """Query row, item and inner product of each of the best ``k``, best first in each row."""

    @abstractmethod
    def rows(self, items: list[int]) -> Iterator[tuple[int, Any]]:
        """Items with their vectors, in any order."""

    def upload(self, vectors: FloatArray) -> None:
        """Create the collection, unless it exists and is complete."""
        if self.stored != self.size:
            self.create(vectors)

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, OffsetArray]:
        """See `ItemIndex.search`."""
        queries = check_search(queries, k, self.dim)
        scores = np.full((len(queries), k), PADDING_SCORE, dtype=np.float32)
        items = np.full((len(queries), k), PADDING_ITEM, dtype=np.int64)
        if not len(queries):
            return scores, items
        place = np.zeros(len(queries), dtype=np.int64)
        for row, item, score in self.nearest(queries, min(k, self.size)):
            items[row, place[row]], scores[row, place[row]] = item, score
            place[row] += 1
        return scores, items

    def extended(self, vectors: FloatArray) -> Self:
        """See `ItemIndex.extended`; builds a new collection."""
        more = check_vectors(vectors, self.dim)
        whole: Self = self.config.build(np.concatenate([self.vectors(), more]))
        return whole

    def save(self, folder: Path) -> None:
        """Write the collection's name and, if in-process, its vectors."""
        about = {"collection": self.collection, "size": self.size, "dim": self.dim}
        (folder / self.file).write_text(json.dumps(about))
        if self.in_process:
            np.save(folder / VECTORS_FILE, self.vectors(), allow_pickle=False)

    def vectors(self) -> FloatArray:
        """All ``(size, dim)`` vectors, read from the engine in blocks."""
        whole = np.empty((self.size, self.dim), dtype=np.float32)
        for start in range(0, self.size, BLOCK):
            for item, vector in self.rows(list(range(start, min(start + BLOCK, self.size)))):
                whole[item] = vector
        return whole


def digest(vectors: FloatArray) -> str:
    """Hash of vectors, for a collection's name."""
    return hashlib.sha256(vectors.tobytes()).hexdigest()[:24]


def library(module: str, package: str, extra: str) -> Any:
    """The client library of an engine; `InputError` if it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        raise InputError(
            f"the {extra} index needs the package {package}",
            f"run pip install 'twotower[{extra}]', or choose another kind of index",
        ) from None
