"""Vectors of users without a history, by a regression on their attributes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from twotower.data import Histories
from twotower.features.declared_columns import Encoded
from twotower.types import DoubleArray, FloatArray

if TYPE_CHECKING:  # where it is used: a bundle is read without it, and it takes a tenth of a second
    from scipy import sparse

PENALTIES: Final = (1.0, 10.0, 100.0, 1000.0)
"""Ridge penalties, of which the one with the least leave-one-out error is taken."""
_SMALL: Final = 1e-3
"""Penalty of the projection onto item vectors, in units of their mean square."""
_BLOCK: Final = 4096


@dataclass(frozen=True)
class AttributeRegression:
    r"""A linear map from encoded attributes to user vectors.

    With item vectors :math:`V` and the items :math:`c_u` of a user as 0 and 1, the vector whose
    scores are nearest to :math:`c_u` is :math:`(V^T V)^{-1} V^T c_u`. A ridge regression predicts
    it from the attributes :math:`x_u` of the users with a training history. The scores of a user
    without one then approximate the popularity of items among users with similar attributes. The
    intercept is not penalised; the penalty has the lowest leave-one-out error of the scores.
    """

    table: FloatArray
    """``(rows, d)`` coefficients of the rows of the table of values; row 0 is none."""
    dense: FloatArray
    """``(D + 1, d)`` coefficients of the numbers; the last row is the intercept."""

    @classmethod
    def fit(cls, users: Encoded, rows: int, train: Histories, items: FloatArray) -> Self:
        """Fit on the users with a training history.

        Parameters
        ----------
        users
            ``(users,)`` encoded attributes.
        rows
            Of the table of values.
        train
            One row per user.
        items
            ``(items, d)`` vectors as they are scored.
        """
        known = np.flatnonzero(train.lengths)
        gram_of_items = _gram(items)
        targets = _projected(train.select(known), items, gram_of_items)
        attributes = _design(users.take(known), rows)
        gram = (attributes.T @ attributes).toarray()
        sums = attributes.T @ targets
        fits = (_solved(gram, sums, penalty) for penalty in PENALTIES)
        # Errors of scores, not vectors: directions in which items hardly differ do not matter.
        scale: DoubleArray = np.linalg.cholesky(gram_of_items).astype(np.float64)
        best = min(fits, key=lambda fit: _left_out_error(attributes, targets, scale, *fit))[0]
        weights = best.astype(np.float32)
        weights[0] = 0
        return cls(weights[:rows], weights[rows:])

    def __call__(self, users: Encoded) -> FloatArray:
        """``(n, d)`` user vectors."""
        design = _design(users, len(self.table))
        vectors: FloatArray = design @ np.concatenate([self.table, self.dense])
        return vectors.astype(np.float32)


def _gram(items: FloatArray) -> DoubleArray:
    gram: DoubleArray = items.T.astype(np.float64) @ items
    small = _SMALL * max(float(np.trace(gram)) / len(gram), 1e-12)
    return gram + small * np.eye(len(gram))


def _projected(histories: Histories, items: FloatArray, gram: DoubleArray) -> DoubleArray:
    from scipy import sparse

    ones = np.ones(len(histories.items))
    shape = (len(histories), len(items))
    seen = sparse.csr_matrix((ones, histories.items, histories.indptr), shape=shape)
    sums = seen @ items.astype(np.float64)
    return np.linalg.solve(gram, sums.T).T


def _design(users: Encoded, rows: int) -> "sparse.csr_matrix":
    """``(n, rows + D + 1)`` the attributes of each user and 1, as a linear map reads them."""
    from scipy import sparse

    count, slots = users.codes.shape
    starts = np.arange(0, count * slots + 1, slots)
    values = users.weights.ravel().astype(np.float64)
    of_table = sparse.csr_matrix((values, users.codes.ravel(), starts), shape=(count, rows))
    dense = np.column_stack([users.dense, np.ones(count)])
    return sparse.csr_matrix(sparse.hstack([of_table, sparse.csr_matrix(dense)], format="csr"))


def _solved(
    gram: DoubleArray, sums: DoubleArray, penalty: float
) -> tuple[DoubleArray, DoubleArray]:
    """Weights, and the inverse that they come from."""
    ridge = np.full(len(gram), penalty)
    ridge[-1] = 1e-6  # the intercept
    inverse: DoubleArray = np.linalg.inv(gram + np.diag(ridge)).astype(np.float64)
    return inverse @ sums, inverse


def _left_out_error(
    attributes: "sparse.csr_matrix",
    targets: DoubleArray,
    scale: DoubleArray,
    weights: DoubleArray,
    inverse: DoubleArray,
) -> float:
    """Sum of squares of each user's error by the regression on all others, times ``scale``."""
    errors = []
    for start in range(0, len(targets), _BLOCK):
        rows = attributes[start : start + _BLOCK]
        leverage = np.asarray(rows.multiply(rows @ inverse).sum(axis=1))
        left = (targets[start : start + _BLOCK] - rows @ weights) / np.maximum(1 - leverage, 1e-6)
        errors.append(float(((left @ scale) ** 2).sum()))
    return sum(errors)
