"""A metric of another package."""

import numpy as np

from twotower.evaluation.ranking import Ranks
from twotower.types import DoubleArray


def average_precision_at_k(ranks: Ranks, k: int) -> DoubleArray:
    """Mean precision at the ranks of a query's targets within the first ``k``."""
    values = np.zeros(len(ranks.indptr) - 1)
    for query, (start, end) in enumerate(zip(ranks.indptr, ranks.indptr[1:], strict=False)):
        own = np.sort(ranks.ranks[start:end])
        precision = np.arange(1, len(own) + 1) / own
        values[query] = precision[own <= k].sum() / min(k, len(own))
    return values
