"""What the FAISS indexes share: search, padding, files."""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np

from twotower.index.base import (
    PADDING_ITEM,
    PADDING_SCORE,
    IndexSettings,
    ItemIndex,
    check_search,
)
from twotower.index.exact import ExactIndex
from twotower.types import FloatArray, OffsetArray

FAISS_FILE = "index.faiss"


class FaissSettings(IndexSettings):
    """Base of the FAISS configurations. One supplies `create`, and `tune` where it has to."""

    structure: ClassVar[str]
    """Name of the FAISS class that `create` returns, checked when a file is read."""
    is_exact: ClassVar[bool] = False

    def create(self, vectors: FloatArray) -> Any:
        """A FAISS index by inner product, holding ``vectors`` (items, dim)."""
        raise NotImplementedError

    def tune(self, index: Any) -> None:
        """Set what decides between speed and recall at search time."""

    def search_parameters(self, k: int) -> Any:  # noqa: ARG002
        """FAISS parameters of one search for ``k`` items; None for what `tune` has set."""
        return None

    def build(self, vectors: FloatArray) -> "FaissIndex":
        """Train and fill the FAISS index."""
        return FaissIndex(self.create(vectors), self)

    def read(self, folder: Path) -> "FaissIndex":
        """Read ``index.faiss``. The file must be trusted: FAISS does not defend against a
        crafted one, so a bundle checks its sha256 before this is called.
        """
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


class FaissIndex:
    """A FAISS index behind the `ItemIndex` protocol."""

    def __init__(self, index: Any, config: FaissSettings) -> None:
        self.config = config
        self._index = index
        config.tune(index)

    @property
    def is_exact(self) -> bool:
        """Whether `search` always returns the true best items."""
        return self.config.is_exact

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._index.d)

    @property
    def size(self) -> int:
        """Number of items."""
        return int(self._index.ntotal)

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, OffsetArray]:
        """See `ItemIndex.search`."""
        queries = check_search(queries, k, self.dim)
        found = min(k, self.size)
        scores, items = self._index.search(
            queries, found, params=self.config.search_parameters(found)
        )
        scores[items == PADDING_ITEM] = PADDING_SCORE  # FAISS pads with the lowest float
        if found < k:
            wider = ((0, 0), (0, k - found))
            scores = np.pad(scores, wider, constant_values=PADDING_SCORE)
            items = np.pad(items, wider, constant_values=PADDING_ITEM)
        return scores, items

    def exact(self) -> ItemIndex:
        """Itself, or an `ExactIndex` of the stored vectors (a copy, made once)."""
        return self if self.is_exact else self._exact

    @cached_property
    def _exact(self) -> ExactIndex:
        return ExactIndex(self._index.reconstruct_n(0, self.size))

    def save(self, folder: Path) -> None:
        """Write ``index.faiss``."""
        faiss.write_index(self._index, str(folder / FAISS_FILE))
