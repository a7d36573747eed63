"""Milvus index: a server by URL, or Milvus Lite in this process."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from twotower.index.engine import BLOCK, EngineConfig, EngineIndex, library
from twotower.types import FloatArray

_ITEM: Final = "item"
_VECTOR: Final = "vector"
_GRAPH: Final = {"M": 16, "efConstruction": 200}
_LEAST_EF: Final = 128


class MilvusIndex(EngineIndex):
    """A Milvus collection; see `EngineIndex`."""

    file: ClassVar[str] = "index.milvus.json"

    @cached_property
    def _client(self) -> Any:
        if self.config.url is not None:
            return _library().MilvusClient(self.config.url)
        folder = tempfile.mkdtemp(prefix="twotower-milvus-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return _library().MilvusClient(str(Path(folder) / "items.db"))

    @property
    def stored(self) -> int:
        """Number of items in the collection; 0 if it does not exist."""
        if not self._client.has_collection(self.collection):
            return 0
        found = self._client.query(self.collection, output_fields=["count(*)"])
        return int(found[0]["count(*)"])

    def create(self, vectors: FloatArray) -> None:
        """See `EngineIndex.create`."""
        types = _library().DataType
        self._client.drop_collection(self.collection)
        schema = self._client.create_schema(auto_id=False)
        schema.add_field(_ITEM, types.INT64, is_primary=True)
        schema.add_field(_VECTOR, types.FLOAT_VECTOR, dim=self.dim)
        index = self._client.prepare_index_params()
        kind, graph = ("FLAT", {}) if self.is_exact else ("HNSW", _GRAPH)
        index.add_index(_VECTOR, index_type=kind, metric_type="IP", params=graph)
        self._client.create_collection(
            self.collection, schema=schema, index_params=index, consistency_level="Strong"
        )
        for start in range(0, len(vectors), BLOCK):
            part = enumerate(vectors[start : start + BLOCK], start)
            self._client.insert(
                self.collection, [{_ITEM: item, _VECTOR: vector} for item, vector in part]
            )

    def nearest(self, queries: FloatArray, k: int) -> Iterator[tuple[int, int, float]]:
        """See `EngineIndex.nearest`."""
        depth = {} if self.is_exact else {"ef": max(k, _LEAST_EF)}
        answers = self._client.search(
            self.collection,
            data=list(queries),
            limit=k,
            anns_field=_VECTOR,
            search_params={"metric_type": "IP", "params": depth},
        )
        for row, found in enumerate(answers):
            for hit in found:
                yield row, int(hit[_ITEM]), hit["distance"]

    def rows(self, items: list[int]) -> Iterator[tuple[int, Any]]:
        """See `EngineIndex.rows`."""
        for row in self._client.get(self.collection, ids=items, output_fields=[_VECTOR]):
            yield int(row[_ITEM]), row[_VECTOR]


class MilvusConfig(EngineConfig):
    """Milvus with inner product; needs the ``milvus`` extra.

    Example of ``url``: ``http://localhost:19530``; None keeps the items in this process, in Milvus
    Lite.
    """

    kind: Literal["milvus"] = "milvus"
    index: ClassVar[type[EngineIndex]] = MilvusIndex


_library = partial(library, "pymilvus", "pymilvus", "milvus")
