"""The history side of training examples: what a user had before each event."""

from typing import Protocol

import numpy as np

from twotower.data import Histories
from twotower.types import Array, FloatArray


class ContextBuilder(Protocol):
    """Makes the history side of examples: what a user had before each event."""

    def __call__(self, events: Array) -> tuple[Array, Array, FloatArray]:
        """Histories ``(B, L)``, lengths ``(B,)`` and features ``(B, F)`` before each event."""
        ...


def no_context(events: Array) -> tuple[Array, Array, FloatArray]:
    """The context of a model that knows a user by id alone."""
    size = len(events)
    empty = np.zeros((size, 0), dtype=np.int64)
    return empty, np.zeros(size, dtype=np.int64), np.zeros((size, 0), dtype=np.float32)


class HistoryContext:
    """The items before each event, and the user features after the event before it.

    An example never sees its own target: event ``e`` is predicted from the events of the same
    user strictly before ``e``.
    """

    def __init__(
        self, train: Histories, length: int, running: FloatArray, empty: FloatArray
    ) -> None:
        self._items = train.items.astype(np.int64) + 1
        self._starts = np.repeat(train.indptr[:-1], train.lengths)
        self._length = length
        self._running, self._empty = running, empty

    def __call__(self, events: Array) -> tuple[Array, Array, FloatArray]:
        """Histories, lengths and features before each event."""
        starts = self._starts[events]
        lengths = np.minimum(events - starts, self._length)
        width = int(lengths.max(initial=1))  # no wider than this batch needs
        column = np.arange(width)
        used = column < lengths[:, None]
        position = (events - lengths)[:, None] + column
        histories = np.where(used, self._items[np.where(used, position, 0)], 0)
        first = events == starts
        features = np.where(first[:, None], self._empty, self._running[events - 1])
        return histories, lengths, features
