"""What the model knows of items that training never saw, as arrays and as bytes to keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from twotower.bundle.contents import BundleContents
from twotower.types import FloatArray


@dataclass(frozen=True)
class EncodedItems:
    """Row ``i`` of each is one item.

    Attributes
    ----------
    vectors
        ``(items, d)`` outputs of the item tower.
    user_features
        ``(items, 12)`` what an event with the item adds to its user's features.
    history
        ``(items, h)`` what the user tower reads of it in a history, or None.
    text
        ``(items, t)`` unit text vectors, or None.
    """

    vectors: FloatArray
    user_features: FloatArray
    history: FloatArray | None
    text: FloatArray | None

    def to_bytes(self, row: int) -> bytes:
        """One item as float32, without its text: the inverse of `of_bytes`."""
        parts = [self.vectors[row], self.user_features[row]]
        if self.history is not None:
            parts.append(self.history[row])
        return np.concatenate(parts, dtype=np.float32).tobytes()

    @classmethod
    def of_bytes(
        cls, kept: Sequence[bytes], text: FloatArray | None, contents: BundleContents
    ) -> Self:
        """What `to_bytes` gave of items that the same bundle encoded, and their texts."""
        history = contents.history_table
        widths = [contents.item_vectors.shape[1], contents.user_features.item_table.shape[1]]
        rows = np.stack([np.frombuffer(one, dtype=np.float32) for one in kept])
        vectors, user_features, rest = np.split(rows, np.cumsum(widths), axis=1)
        return cls(vectors, user_features, None if history is None else rest, text)
