"""FAISS IVF index: vectors in k-means cells, of which a search visits a few."""

import math
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from twotower.errors import InputError
from twotower.index.faiss_index import FaissSettings, Numbers, load_faiss, quantizer
from twotower.types import FloatArray


class IvfConfig(FaissSettings):
    """Inverted file over k-means cells (Sivic and Zisserman, 2003)."""

    kind: Literal["ivf"] = "ivf"
    searching: ClassVar[frozenset[str]] = frozenset({"probes", "reach"})
    cells: int | None = Field(default=None, ge=1)
    """Number of cells; by default twice the square root of the number of items."""
    probes: int = Field(default=16, ge=1)
    """Minimum number of cells that a search visits; all cells if there are fewer."""
    reach: float = Field(default=12, ge=0)
    """A search for ``k`` items visits cells with at least about ``reach * k`` items, since the
    best items of a large ``k`` are spread over more cells."""
    numbers: Numbers = "float32"
    """``float16`` halves the memory at almost no loss; ``int8`` quarters it, but confuses items
    with close scores."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the initial centroids."""

    @model_validator(mode="after")
    def _probes_fit(self) -> Self:
        if self.cells is not None and self.probes > self.cells:
            raise ValueError(
                f"probes must be at most cells {self.cells}, got {self.probes}; "
                f"pass probes={self.cells} or fewer"
            )
        return self

    @property
    def structure(self) -> str:
        """``IndexIVFFlat``, or ``IndexIVFScalarQuantizer`` for rounded numbers."""
        return "IndexIVFFlat" if self.numbers == "float32" else "IndexIVFScalarQuantizer"

    def create(self, vectors: FloatArray) -> Any:
        """Find the cells by k-means and assign the vectors to them."""
        size, dim = vectors.shape
        cells = number_of_cells(self.cells, size)
        faiss = load_faiss()
        nearest, metric = faiss.IndexFlatIP(dim), faiss.METRIC_INNER_PRODUCT
        if self.numbers == "float32":
            index = faiss.IndexIVFFlat(nearest, dim, cells, metric)
        else:
            coded = quantizer(self.numbers)
            index = faiss.IndexIVFScalarQuantizer(nearest, dim, cells, coded, metric)
        index.cp.seed = self.seed
        index.cp.min_points_per_centroid = 1  # small catalogues are fine, so no warning
        index.train(vectors)
        index.add(vectors)
        return index

    def search_parameters(self, index: Any, k: int) -> Any:
        """Visit ``probes`` cells, or more if ``reach`` requires it."""
        probes = number_of_probes(index, self.probes, self.reach * k)
        return load_faiss().SearchParametersIVF(nprobe=probes)


def number_of_cells(cells: int | None, size: int) -> int:
    """The cells of an inverted file over ``size`` items: by default twice the square root.

    Raises
    ------
    InputError
        If there are more cells than items.
    """
    if cells is None:
        return min(size, round(2 * math.sqrt(size)))
    if cells > size:
        raise InputError(
            f"cells must be at most the number of items {size}, got {cells}",
            "pass fewer, or none for the default",
        )
    return cells


def number_of_probes(index: Any, least: int, held: float) -> int:
    """The cells that a search visits: ``least``, or more to hold about ``held`` items."""
    cells: int = index.nlist
    wanted = math.ceil(held * cells / max(int(index.ntotal), 1))
    return min(max(least, wanted), cells)
