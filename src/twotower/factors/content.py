"""Content search: items whose titles are like those of the history, with interactions or not."""

import numpy as np

from twotower.data import Queries
from twotower.factors.scorer import FactorScorer, history_sums
from twotower.types import FloatArray


def content_search(titles: FloatArray) -> FactorScorer:
    """Scores an item by the cosine of its title and the mean title of the history.

    ``titles`` are ``(num_items, t)`` float32 of unit length, zero where there is no title. Nothing
    is fitted and no interaction counted, so that a new item is scored as any other: what a model
    that reads text has to beat on new items. An item without a title, and every item for an empty
    history, scores 0.
    """

    def encode(queries: Queries) -> FloatArray:
        sums = history_sums(queries.histories, titles)
        norms = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
        vectors: FloatArray = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
        return vectors

    return FactorScorer(titles, encode)
