"""Graph filter (BSPM, GF-CF): a history smoothed over the user-item graph, then sharpened."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from pydantic import Field
from scipy import sparse
from scipy.sparse.linalg import svds

from twotower.config import Config
from twotower.data import Histories, Queries
from twotower.factors.item_knn import binary_matrix
from twotower.types import FloatArray

SHARPEST: Final = 2.75
"""Above it one step of the sharpening no longer converges."""


class FilterConfig(Config):
    r"""How much of which filter.

    With :math:`R` the binary interactions, :math:`D_U` and :math:`D_I` the numbers of interactions
    of users and items, :math:`A = D_U^{-1/2} R D_I^{-1/2}`, :math:`P = A^\top A`, and :math:`V` its
    leading eigenvectors, a history :math:`x` is smoothed to

    .. math:: b = x P + \beta \, x D_I^{-1/2} V V^\top D_I^{1/2}

    and sharpened by one step of Runge and Kutta's method, of length ``T``, of :math:`y' = -y P`
    from :math:`y(0) = b` (Choi et al., *Blurring-sharpening process models for collaborative
    filtering*, SIGIR 2023). With ``T = 0`` it is GF-CF (Shen et al., *How powerful is graph
    convolution for recommendation?*, CIKM 2021). The start values are those of the papers.
    """

    factors: int = Field(256, ge=1)
    """Columns of ``V``."""
    low_pass: float = Field(0.2, ge=0)
    """``β``."""
    sharpening: float = Field(2.5, ge=0, le=SHARPEST)
    """``T``."""


@dataclass(frozen=True, slots=True)
class GraphFilter:
    """Scores items by the filtered history; a new user is scored as any other."""

    interactions: sparse.csr_array
    """``(users, num_items)`` sparse float32, ``A`` of `FilterConfig`."""
    vectors: FloatArray
    """``(num_items, f)`` float32 leading right singular vectors of it, the largest first; ``f`` is
    less than `FilterConfig.factors` where the log is small."""
    scale: FloatArray
    """``(num_items, 1)`` float32, the diagonal of ``D_I`` to the power of -1/2."""
    config: FilterConfig
    """What the scores are made with."""

    @classmethod
    def fit(cls, train: Histories, num_items: int, config: FilterConfig | None = None) -> Self:
        """Normalise the training interactions and find their singular vectors."""
        config = config or FilterConfig()
        matrix = binary_matrix(train, num_items)
        of_user = np.maximum(np.diff(matrix.indptr), 1)
        of_item = np.maximum(np.bincount(matrix.indices, minlength=num_items), 1)
        left, right = (each.astype(np.float32) ** np.float32(-0.5) for each in (of_user, of_item))
        interactions = (sparse.diags_array(left) @ matrix @ sparse.diags_array(right)).tocsr()
        vectors = _singular_vectors(interactions, config.factors)
        return cls(interactions, vectors, right[:, None], config)

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return int(self.interactions.shape[1])

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32; 0 without a history."""
        history = binary_matrix(queries.histories, self.num_items).toarray().T
        found = self._smoothed(history)
        if self.config.low_pass:
            vectors = self.vectors[:, : self.config.factors]
            kept = vectors @ (vectors.T @ (history * self.scale))
            found += np.float32(self.config.low_pass) * kept / self.scale
        step = np.float32(self.config.sharpening)
        change = found
        for order in range(1, 5 if step else 1):  # Runge-Kutta of a linear equation: its series
            change = self._smoothed(change) * (-step / order)
            found = found + change
        return np.ascontiguousarray(found.T)

    def _smoothed(self, columns: FloatArray) -> FloatArray:
        smoothed: FloatArray = self.interactions.T @ (self.interactions @ columns)
        return smoothed


def _singular_vectors(matrix: sparse.csr_array, most: int) -> FloatArray:
    count = min(most, min(matrix.shape) - 1)
    if count < 1:
        return np.zeros((matrix.shape[1], 0), dtype=np.float32)
    _, _, rows = svds(matrix, k=count, rng=np.random.default_rng(0))
    return np.ascontiguousarray(rows[::-1].T, dtype=np.float32)
