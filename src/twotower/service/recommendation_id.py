"""Ids of recommendations: they say which model answered whom, so that nothing is kept of an answer.

An event that names the id of an answer is attributed to it by any process, on any machine.
"""

import random
from typing import Final, Literal, NamedTuple, Self, TypeAlias

Arm: TypeAlias = Literal["", "a", "b"]
"""``a`` is the bundle in service, ``b`` the other one of a split; empty where there is no split."""
_MARK: Final = "~"
_LONGEST: Final = 200


class RecommendationId(NamedTuple):
    """What the id of an answer says.

    Attributes
    ----------
    model_version
        Of the bundle that answered.
    arm
        Of the split, if there was one.
    known_user
        Whether the bundle knew the user.
    unit
        Of the split: keyed hash of the user and the day; empty without a split.
    """

    model_version: str
    arm: Arm = ""
    known_user: bool = False
    unit: str = ""

    def new(self) -> str:
        """An id that no other answer has."""
        user, own = "k" if self.known_user else "n", random.getrandbits(48)
        return f"{self.model_version}~{self.arm}~{user}~{self.unit}~{own:012x}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """What an id says; None where it is none of ours."""
        parts = text.rsplit(_MARK, 4)
        if len(text) > _LONGEST or len(parts) != 5:
            return None
        version, arm, user, unit, _ = parts
        if arm not in ("", "a", "b") or user not in ("k", "n") or bool(arm) != bool(unit):
            return None
        return cls(version, arm, user == "k", unit)  # type: ignore[arg-type]
