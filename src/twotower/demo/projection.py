"""Two-dimensional map of the catalogue by principal components."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twotower.types import Array, FloatArray


@dataclass(frozen=True)
class Projection:
    """Principal components (Pearson, 1901): the two directions of greatest variance."""

    mean: FloatArray
    """``(d,)``."""
    directions: FloatArray
    """``(d, 2)`` of length 1."""
    kept: float
    """Share of the variance that the two dimensions show, from 0 to 1."""

    @classmethod
    def of(cls, vectors: FloatArray) -> "Projection":
        """Fit to ``(n, d)`` vectors, ``d`` at least 2."""
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        values, directions = np.linalg.eigh(centred.T @ centred)
        total = float(values.sum())
        kept = float(values[-2:].sum()) / total if total > 0 else 1.0
        return cls(mean, directions[:, :-3:-1].astype(np.float32), kept)

    def points(self, vectors: FloatArray) -> FloatArray:
        """``(n, 2)`` positions of vectors on the map."""
        places: FloatArray = np.matmul(vectors - self.mean, self.directions, dtype=np.float32)
        return places


@dataclass(frozen=True)
class CatalogueMap:
    """Items in two dimensions."""

    places: FloatArray
    """``(items, 2)``."""
    groups: Array
    """``(items,)`` position of each in ``names``, or -1."""
    names: Sequence[str]
    titles: Sequence[str]
