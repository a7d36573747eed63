"""The users of a bundle that is served, of whom some are forgotten meanwhile."""

from typing import Self

from twotower.data import IdMap


class ServedUsers(IdMap):
    """A map of ids, out of which an id can be taken. Rows stay where they are."""

    @classmethod
    def of(cls, users: IdMap) -> Self:
        """The same users; both share the table of ids."""
        made = cls.__new__(cls)
        made.ids, made.kind = users.ids, users.kind
        made.__dict__["_index"] = users._index
        return made

    def forget(self, external: str) -> None:
        """Take an id out, so that it is as unknown as any other."""
        self._index.pop(external, None)

    def known(self) -> list[str]:
        """The ids that are left."""
        return list(self._index)
