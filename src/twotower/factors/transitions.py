"""Item-to-item transition counts: which items soon follow which."""

from typing import Final

import numpy as np
from scipy import sparse

from twotower.data import Histories
from twotower.factors.item_knn import strongest_links

DECAY: Final = 0.5
"""What a pair counts, for each event between its two: the next event counts 1, the one after it a
half."""
REACH: Final = 6
"""Events after an item that count as coming soon."""
SHRINKAGE: Final = 20.0
"""Added to an item's events: a single chance pair of rare items must not be a strong link."""
LINKS: Final = 200
"""Strongest transitions that are kept of each item."""


def transition_links(train: Histories, num_items: int, *, links: int = LINKS) -> sparse.csr_array:
    r"""``(num_items, num_items)`` sparse float32; row ``i`` holds what came soon after item ``i``.

    .. math:: t_{ij} = \frac{\sum_{i \to j} \gamma^{g}}{\sqrt{(n_i + s)(n_j + s)}}

    over the pairs of a user's events at most `REACH` apart, with ``g`` the events between the two,
    ``n`` an item's events, and ``s`` the `SHRINKAGE`. Item-kNN's similarity has no direction; this
    one does: the second part of a series follows the first. Pairs count the geometric mean of their
    events' weights, and those whose second event is not to be predicted do not count.
    """
    shape = (num_items, num_items)
    root = None if train.weights is None else np.sqrt(train.weights)
    rows = train.rows
    counted = sparse.csr_array(shape, dtype=np.float32)
    for gap in range(1, REACH + 1):
        first = np.flatnonzero(rows[:-gap] == rows[gap:])
        if train.learned is not None:
            first = first[train.learned[first + gap] > 0]
        value = np.full(len(first), DECAY ** (gap - 1), dtype=np.float32)
        if root is not None:
            value *= root[first] * root[first + gap]
        pairs = train.items[first], train.items[first + gap]
        counted += sparse.csr_array((value, pairs), shape=shape)
    events = np.bincount(train.items, weights=train.weights, minlength=num_items)
    scale = 1 / np.sqrt(events + SHRINKAGE).astype(np.float32)
    by_item = sparse.diags_array(scale)
    return strongest_links((by_item @ counted @ by_item).tocsr(), links)
