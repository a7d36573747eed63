"""Recommendation ids: encode the model and the user's experiment arm, so no answer is stored.

Any process on any machine can attribute an event to the answer whose id it carries.
"""

import random
from typing import Final, Literal, NamedTuple, Self, TypeAlias, get_args

Arm: TypeAlias = Literal["", "a", "b", "i"]
"""``a`` is the bundle in service, ``b`` the other one of a split, ``i`` both, interleaved; empty
without a comparison."""
_MARK: Final = "~"
_TEAMS: Final = "."
_LONGEST: Final = 200


class RecommendationId(NamedTuple):
    """The content of an answer's id."""

    model_version: str
    """Version of the answering bundle; for an interleaved answer, of the bundle in service."""
    arm: Arm = ""
    """Arm of the comparison, if there was one."""
    known_user: bool = False
    """Whether the bundle knew the user."""
    unit: str = ""
    """Revision of the comparison, and a keyed hash of user and day; empty without a comparison."""
    teams: str = ""
    """For an interleaved answer, the source of the item at each position: ``a``, ``b`` or ``-``
    for neither. Positions beyond what an id can hold, about a hundred, count for neither."""

    def new(self) -> str:
        """A unique id with this content."""
        user, own = "k" if self.known_user else "n", random.getrandbits(48)
        unit = self.unit
        if self.teams:
            room = _LONGEST - len(f"{self.model_version}~{self.arm}~{user}~{unit}.~{own:012x}")
            unit = f"{unit}{_TEAMS}{self.teams[: max(0, room)]}"
        return f"{self.model_version}~{self.arm}~{user}~{unit}~{own:012x}"

    @classmethod
    def read(cls, text: str | None) -> Self | None:
        """Parse an id; None if it is missing or was not issued by this service."""
        text = text or ""
        parts = text.rsplit(_MARK, 4)
        if len(text) > _LONGEST or len(parts) != 5:
            return None
        version, arm, user, unit, _ = parts
        unit, _, teams = unit.partition(_TEAMS)
        if arm not in get_args(Arm) or user not in ("k", "n") or bool(arm) != bool(unit):
            return None
        return cls(version, arm, user == "k", unit, teams)  # type: ignore[arg-type]

    def team(self, position: int | None) -> str | None:
        """The bundle that the item at a position came from, counted from 1; None for neither."""
        if position is None or not 1 <= position <= len(self.teams):
            return None
        team = self.teams[position - 1]
        return team if team in ("a", "b") else None
