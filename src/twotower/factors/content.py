"""Content-based baseline: items with titles similar to those of the history."""

import numpy as np

from twotower.data import Queries
from twotower.factors.scorer import FactorScorer, history_sums
from twotower.types import FloatArray


def content_search(titles: FloatArray) -> FactorScorer:
    """Scores an item by the cosine of its title and the mean title of the history.

    ``titles`` are ``(num_items, t)`` float32 of unit length, zero where there is no title. Nothing
    is fitted and no interaction counted: new items are scored like any other, which makes this the
    baseline for text models on new items. An item without a title, and every item for an empty
    history, scores 0.
    """

    def encode(queries: Queries) -> FloatArray:
        sums = history_sums(queries.histories, titles)
        norms = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
        vectors: FloatArray = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
        return vectors

    return FactorScorer(titles, encode)
