"""Random walk of three steps (RP3beta): from the items of a history to users, and on to items."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import Field
from scipy import sparse

from twotower.config import Config
from twotower.data import Histories, Queries
from twotower.factors.item_knn import binary_matrix
from twotower.types import Array, FloatArray


class WalkConfig(Config):
    r"""How a walk is weighed.

    .. math:: s_{ij} = \frac{\Big(\sum_{u \in U_i \cap U_j} |I_u|^{-a}\Big)^q}
              {|U_i|^{b} \, |U_j|^{c}}

    with :math:`U_i` the users of item ``i`` and :math:`I_u` the items of user ``u``. With
    ``a = b``, ``q = 1`` this is RP3beta (Paudel et al., *Updatable, accurate, diverse, and scalable
    recommendations for interactive applications*, ACM TiiS 2016), with ``a = 0`` and ``b = c`` a
    half item-kNN's cosine, and with ``a = 1`` and the same halves the linear filter of GF-CF (Shen
    et al., *How powerful is graph convolution for recommendation?*, CIKM 2021).
    """

    user_power: float = Field(0.5, ge=0)
    """``a``: how strongly users with many items are down-weighted."""
    history_power: float = Field(0.6, ge=0)
    """``b``: how strongly popular history items are down-weighted."""
    popularity_power: float = Field(0.4, ge=0)
    """``c``: how strongly popular candidates are down-weighted."""
    sharpness: float = Field(1.0, gt=0)
    """``q``: above 1 a strong link counts for more than several weak ones (case amplification,
    Breese et al., UAI 1998)."""


@dataclass(frozen=True, slots=True)
class RandomWalk:
    """Scores an item by the walks that lead to it from the items of the history.

    Nothing is trained, and a user is represented by the history alone.
    """

    similarity: sparse.csr_array
    """``(num_items, num_items)`` sparse float32; row ``i`` is where a walk from ``i`` ends."""

    @classmethod
    def fit(cls, train: Histories, num_items: int, config: WalkConfig | None = None) -> Self:
        """Weigh all walks of the training interactions."""
        config = config or WalkConfig()
        shared = shared_users(train, num_items, config.user_power)
        return cls(weighed(shared, users_of_items(train, num_items), config))

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return int(self.similarity.shape[0])

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32; 0 where no walk leads."""
        product = binary_matrix(queries.histories, self.num_items) @ self.similarity
        scores: FloatArray = product.toarray()
        return scores


def users_of_items(train: Histories, num_items: int) -> Array:
    """``(num_items,)`` users of each item, 1 where there is none."""
    matrix = binary_matrix(train, num_items)
    return np.maximum(np.bincount(matrix.indices, minlength=num_items), 1)


def shared_users(train: Histories, num_items: int, user_power: float) -> sparse.csr_array:
    """``(num_items, num_items)`` the sum over users in `WalkConfig`; nothing on the diagonal."""
    matrix = binary_matrix(train, num_items)
    length = np.maximum(np.diff(matrix.indptr), 1)
    half = sparse.diags_array((length ** (-user_power / 2)).astype(np.float32)) @ matrix
    shared = (half.T @ half).tocsr()
    shared.setdiag(0)
    shared.eliminate_zeros()
    return shared


def weighed(shared: sparse.csr_array, users: Array, config: WalkConfig) -> sparse.csr_array:
    """The similarities of `shared_users`, given the ``users`` of each item ``(num_items,)``."""
    left = (users**-config.history_power).astype(np.float32)
    right = (users**-config.popularity_power).astype(np.float32)
    data = shared.data**config.sharpness
    data *= np.repeat(left, np.diff(shared.indptr))
    data *= right[shared.indices]
    return sparse.csr_array((data, shared.indices, shared.indptr), shape=shared.shape)
