"""`Vocabulary`: integer codes for ids, assigned as the ids are read."""

from collections.abc import Iterable, Iterator

import numpy as np

from twotower.types import IndexArray


class Vocabulary:
    """Append-only map from id to code, in order of first appearance."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._codes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._codes)

    @property
    def ids(self) -> list[str]:
        """Every id, at the place of its code."""
        return list(self._codes)

    def add(self, ids: Iterable[str]) -> IndexArray:
        """Codes of the ids, new ones where they are new."""
        codes = self._codes
        return np.fromiter((codes.setdefault(id_, len(codes)) for id_ in ids), dtype=np.int32)

    def find(self, ids: Iterable[str | None]) -> IndexArray:
        """Codes of the ids, -1 where there is none yet."""
        codes = self._codes
        return np.fromiter((codes.get(id_, -1) for id_ in ids), dtype=np.int32)  # type: ignore[arg-type]
