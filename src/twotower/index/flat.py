"""FAISS Flat: exact search over the raw vectors."""

from typing import Any, ClassVar, Literal

import faiss

from twotower.index.faiss_index import FaissSettings
from twotower.types import FloatArray


class FlatConfig(FaissSettings):
    """FAISS ``IndexFlatIP``: exact, nothing to train or tune."""

    kind: Literal["flat"] = "flat"
    is_exact: ClassVar[bool] = True

    @property
    def structure(self) -> str:
        """``IndexFlatIP``."""
        return "IndexFlatIP"

    def create(self, vectors: FloatArray) -> Any:
        """Store the vectors."""
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return index
