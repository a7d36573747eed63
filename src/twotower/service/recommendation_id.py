"""Ids of recommendations: they name the model and the user's group, so that no answer is stored.

An event that names the id of an answer is attributed to it by any process, on any machine.
"""

import random
from typing import Final, Literal, NamedTuple, Self, TypeAlias, get_args

Arm: TypeAlias = Literal["", "a", "b", "i"]
"""``a`` is the bundle in service, ``b`` the other one of a split, ``i`` both, interleaved; empty
where there is no split."""
_MARK: Final = "~"
_TEAMS: Final = "."
_LONGEST: Final = 200


class RecommendationId(NamedTuple):
    """What the id of an answer says."""

    model_version: str
    """Of the bundle that answered; of an interleaved answer, of the bundle in service."""
    arm: Arm = ""
    """Of the comparison, if there was one."""
    known_user: bool = False
    """Whether the bundle knew the user."""
    unit: str = ""
    """Revision of the comparison, and a keyed hash of the user and the day; empty without one."""
    teams: str = ""
    """Of an interleaved answer, by place: the bundle that the item came from, ``a`` or ``b``, or
    ``-``. Places beyond those that an id has room for, a hundred or so, are of neither."""

    def new(self) -> str:
        """An id that no other answer has."""
        user, own = "k" if self.known_user else "n", random.getrandbits(48)
        unit = self.unit
        if self.teams:
            room = _LONGEST - len(f"{self.model_version}~{self.arm}~{user}~{unit}.~{own:012x}")
            unit = f"{unit}{_TEAMS}{self.teams[: max(0, room)]}"
        return f"{self.model_version}~{self.arm}~{user}~{unit}~{own:012x}"

    @classmethod
    def read(cls, text: str | None) -> Self | None:
        """What an id says; None where there is none, or it is none of ours."""
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
