"""FAISS indexes behind the index protocol: search, padding, files, number formats."""

from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

import numpy as np

from twotower.index.base import (
    PADDING_ITEM,
    PADDING_SCORE,
    IndexSettings,
    ItemIndex,
    check_search,
    check_vectors,
)
from twotower.types import FloatArray, OffsetArray

FAISS_FILE = "index.faiss"

Numbers: TypeAlias = Literal["float32", "float16", "int8"]
"""Number format of the stored vectors."""
_QUANTIZERS: Final[dict[Numbers, str]] = {"float16": "QT_fp16", "int8": "QT_8bit"}
"""Number format → name of FAISS's quantizer."""


def load_faiss() -> Any:
    """Import FAISS lazily: exact search with NumPy does not need it.

    Untyped, since its stubs lack names.
    """
    import faiss

    return faiss


def quantizer(numbers: Numbers) -> int:
    """FAISS's constant for a quantizer."""
    number: int = getattr(load_faiss().ScalarQuantizer, _QUANTIZERS[numbers])
    return number


class FaissSettings(IndexSettings):
    """Base of the FAISS configurations: subclasses define `create`, and `search_parameters` if
    their search has parameters.
    """

    searching: ClassVar[frozenset[str]] = frozenset()
    """Fields that affect search only: changing them needs no rebuild."""
    is_exact: ClassVar[bool] = False

    @property
    def structure(self) -> str:
        """Name of the FAISS class that `create` returns, checked when a file is read."""
        raise NotImplementedError

    def create(self, vectors: FloatArray) -> Any:
        """A FAISS index by inner product, holding ``vectors`` (items, dim)."""
        raise NotImplementedError

    def search_parameters(self, index: Any, k: int) -> Any:  # noqa: ARG002
        """FAISS parameters of one search for ``k`` items; None if it has none."""
        return None

    def build(self, vectors: FloatArray) -> "FaissIndex":
        """Train and fill the FAISS index."""
        return FaissIndex(self.create(vectors), self)

    def read(self, folder: Path) -> "FaissIndex":
        """Read ``index.faiss``. The file must be trusted: FAISS does not defend against a
        crafted one, so a bundle checks its sha256 before this is called.
        """
        faiss = load_faiss()
        try:
            index = faiss.read_index(str(folder / FAISS_FILE))
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        found = type(index).__name__
        if found != self.structure or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise ValueError(
                f"{FAISS_FILE} must hold {self.structure} by inner product, got {found} with "
                f"metric {index.metric_type}"
            )
        return FaissIndex(index, self)

    def retuned(self, index: ItemIndex) -> "FaissIndex | None":
        """``index`` with this configuration if only search parameters differ; otherwise None."""
        if not isinstance(index, FaissIndex) or type(index.config) is not type(self):
            return None
        same = {name: getattr(index.config, name) for name in self.searching}
        return index.searched_as(self) if self.vary(**same) == index.config else None


class FaissIndex:
    """A FAISS index behind the `ItemIndex` protocol."""

    def __init__(self, index: Any, config: FaissSettings) -> None:
        self.config = config
        self._index = index
        # Cached: an index never changes, and reading these from FAISS takes microseconds.
        self.dim, self.size = int(index.d), int(index.ntotal)
        self._parameters = lru_cache(maxsize=64)(partial(config.search_parameters, index))

    @property
    def is_exact(self) -> bool:
        """Whether `search` always returns the true best items."""
        return self.config.is_exact

    @cached_property
    def nbytes(self) -> int:
        """Size of the serialised index in bytes, which is about its size in memory."""
        count = 0

        def add(block: bytes) -> None:
            nonlocal count
            count += len(block)

        faiss = load_faiss()
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(add))
        return count

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, OffsetArray]:
        """See `ItemIndex.search`."""
        queries = check_search(queries, k, self.dim)
        found = min(k, self.size)
        scores, items = self._index.search(queries, found, params=self._parameters(found))
        if (items[:, -1] == PADDING_ITEM).any():  # FAISS pads with the lowest float
            scores[items == PADDING_ITEM] = PADDING_SCORE
        if found < k:
            wider = ((0, 0), (0, k - found))
            scores = np.pad(scores, wider, constant_values=PADDING_SCORE)
            items = np.pad(items, wider, constant_values=PADDING_ITEM)
        return scores, items

    def searched_as(self, config: FaissSettings) -> Self:
        """The same structure with another configuration; both remain usable."""
        return type(self)(self._index, config)

    def extended(self, vectors: FloatArray) -> Self:
        """See `ItemIndex.extended`; the copy needs as much memory as the index again."""
        more = check_vectors(vectors, self.dim)
        index = load_faiss().clone_index(self._index)
        index.add(more)
        return type(self)(index, self.config)

    def save(self, folder: Path) -> None:
        """Write ``index.faiss``."""
        load_faiss().write_index(self._index, str(folder / FAISS_FILE))
