"""Forgotten users: tombstones with a keyed hash instead of the user id."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Record that a user was forgotten."""

    digest: str
    """Keyed hash of the user's id, see `Forgotten.digest`."""
    forgotten_at: int
    """Milliseconds since 1970-01-01 UTC. Events up to then must not come back; later ones count as
    those of a new user."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Result of one call of `StateStore.forget`."""

    tombstones: tuple[Tombstone, ...]
    """One for each user."""
    rows: int
    """Number of deleted database rows: events and attributes."""
    revision: int
    """Revision of the newest tombstone, which followers confirm."""


class Forgotten:
    """The tombstones of one database, to recognise a forgotten user's id when it is seen.

    May grow while other threads read it. The key is drawn at random when the database is created.
    Whoever has the key can test an id; the hashes alone do not reveal ids.
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
        """Add tombstones; if a user has two, the later one counts."""
        for tombstone in tombstones:
            self._times[tombstone.digest] = max(
                tombstone.forgotten_at, self._times.get(tombstone.digest, 0)
            )

    def since(self, user_id: str) -> int | None:
        """When a user was forgotten, in milliseconds since 1970-01-01 UTC, or None."""
        return self._times.get(self.digest(user_id)) if self._times else None

    def tombstones(self) -> list[Tombstone]:
        """All tombstones."""
        return [Tombstone(digest, time) for digest, time in list(self._times.items())]
