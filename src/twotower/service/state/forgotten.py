"""Forgotten users: tombstones that hold a keyed hash in place of the id."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tombstone:
    """That a user was forgotten."""

    digest: str
    """Keyed hash of the user's id, see `Forgotten.digest`."""
    forgotten_at: int
    """Milliseconds since 1970-01-01 UTC. What the user did until then must not come back; what the
    user does later counts, as that of a new user."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What one call of `StateStore.forget` did."""

    tombstones: tuple[Tombstone, ...]
    """One for each user."""
    rows: int
    """Rows of the database that were deleted: events and attributes."""
    revision: int
    """The newest tombstone's: followers confirm it."""


class Forgotten:
    """The tombstones of one database, by which an id is recognised when it is seen.

    It grows while it is read, from any thread. The database's key was drawn when it was made. An id
    can be tested with it: it protects the ids from those who have only the list.
    """

    def __init__(self, key: bytes) -> None:
        self.key = key
        self._times: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._times)

    def digest(self, user_id: str) -> str:
        """Keyed BLAKE2b (RFC 7693) of an id, in hexadecimal."""
        return hashlib.blake2b(user_id.encode(), key=self.key, digest_size=32).hexdigest()

    def add(self, tombstones: Iterable[Tombstone]) -> None:
        """Add tombstones; of two of one user the later one counts."""
        for tombstone in tombstones:
            self._times[tombstone.digest] = max(
                tombstone.forgotten_at, self._times.get(tombstone.digest, 0)
            )

    def since(self, user_id: str) -> int | None:
        """When a user was forgotten, in milliseconds since 1970-01-01 UTC, or None."""
        return self._times.get(self.digest(user_id)) if self._times else None

    def tombstones(self) -> list[Tombstone]:
        """All of them."""
        return [Tombstone(digest, time) for digest, time in list(self._times.items())]
