"""Ids and indices: `IdMap`, frozen, and `Vocabulary`, which grows as ids are read."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np

from twotower.errors import InputError
from twotower.types import IndexArray


class IdMap:
    """Two-way map of unique external ids; the order given is the index."""

    def __init__(self, ids: Sequence[str], kind: str = "id") -> None:
        self.ids: tuple[str, ...] = tuple(ids)
        self.kind = kind
        if len(self._index) != len(self.ids):
            raise InputError(
                f"{kind} values must be unique, got {len(self.ids) - len(self._index)} repeats"
            )

    @cached_property
    def _index(self) -> dict[str, int]:
        return {external: index for index, external in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, external: object) -> bool:
        return external in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and self.ids == other.ids

    def __hash__(self) -> int:
        return hash(self.ids)

    def find(self, external: str) -> int | None:
        """Index of one external id, or None where it is unknown."""
        return self._index.get(external)

    def index(self, external: str) -> int:
        """Index of one external id; `InputError` where it is unknown."""
        try:
            return self._index[external]
        except KeyError:
            raise self._unknown(external) from None

    def indices(self, external: Iterable[str]) -> IndexArray:
        """Indices of many ids, in the order given; `InputError` at the first unknown."""
        try:
            return np.asarray([self._index[id_] for id_ in external], dtype=np.int32)
        except KeyError as error:
            raise self._unknown(error.args[0]) from None

    def unknown(self, external: Iterable[str]) -> list[str]:
        """The ids that are not known, each once."""
        index = self._index
        return [id_ for id_ in dict.fromkeys(external) if id_ not in index]

    def _unknown(self, external: str) -> InputError:
        return InputError(
            f"unknown {self.kind} {external!r}",
            f"pass one of the {len(self.ids):,} known, for example {self.ids[:3]}",
        )


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
        """Codes of the ids; unknown ids get new codes."""
        codes = self._codes
        return np.fromiter((codes.setdefault(id_, len(codes)) for id_ in ids), dtype=np.int32)

    def find(self, ids: Iterable[str | None]) -> IndexArray:
        """Codes of the ids; -1 for unknown ids."""
        codes = self._codes
        return np.fromiter((codes.get(id_, -1) for id_ in ids), dtype=np.int32)  # type: ignore[arg-type]
