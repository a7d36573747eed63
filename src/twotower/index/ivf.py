"""FAISS IVF: vectors sorted into cells, of which a search visits a few."""

import math
from typing import Any, ClassVar, Literal, Self

import faiss
from pydantic import Field, model_validator

from twotower.errors import InputError
from twotower.index.faiss_index import FaissSettings
from twotower.types import FloatArray


class IvfConfig(FaissSettings):
    """Inverted file over k-means cells (Sivic and Zisserman, 2003), vectors kept whole."""

    kind: Literal["ivf"] = "ivf"
    structure: ClassVar[str] = "IndexIVFFlat"
    cells: int | None = Field(default=None, ge=1)
    """Number of cells; by default twice the square root of the number of items."""
    probes: int = Field(default=16, ge=1)
    """Cells that a search visits; all of them where there are fewer."""
    seed: int = Field(default=0, ge=0)
    """Draws the first centroids."""

    @model_validator(mode="after")
    def _probes_fit(self) -> Self:
        if self.cells is not None and self.probes > self.cells:
            raise ValueError(
                f"probes must be at most cells {self.cells}, got {self.probes}; "
                f"pass probes={self.cells} or fewer"
            )
        return self

    def create(self, vectors: FloatArray) -> Any:
        """Find the cells by k-means and sort the vectors into them."""
        size, dim = vectors.shape
        cells = min(size, round(2 * math.sqrt(size))) if self.cells is None else self.cells
        if cells > size:
            raise InputError(
                f"cells must be at most the number of items {size}, got {cells}",
                "pass fewer, or none for twice the square root",
            )
        quantizer = faiss.IndexFlatIP(dim)
        index = faiss.IndexIVFFlat(quantizer, dim, cells, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = self.seed
        index.cp.min_points_per_centroid = 1  # small catalogues are fine, so no warning
        index.train(vectors)
        index.add(vectors)
        return index

    def tune(self, index: Any) -> None:
        """Set ``probes``."""
        index.nprobe = min(self.probes, index.nlist)
