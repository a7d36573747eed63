"""What every trained model offers to evaluation and serving."""

from typing import Protocol, runtime_checkable

from twotower.data import Queries
from twotower.types import FloatArray


@runtime_checkable
class Scorer(Protocol):
    """Scores every item of the catalogue for a batch of queries."""

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        ...

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32; higher ranks first. Seen items are not masked."""
        ...


@runtime_checkable
class VectorScorer(Scorer, Protocol):
    """A scorer whose score is the dot product of a user vector and an item vector."""

    def user_vectors(self, queries: Queries) -> FloatArray:
        """``(queries, dim)`` float32."""
        ...

    def item_vectors(self) -> FloatArray:
        """``(num_items, dim)`` float32, row ``i`` for item index ``i``."""
        ...
