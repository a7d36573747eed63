"""The base of every settings object: frozen, validated, and strict about unknown names.

And what a failed validation says first.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails


class Config(BaseModel):
    """A frozen pydantic model that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def vary(self, **changes: object) -> Self:
        """A copy with the given fields replaced, validated again."""
        current = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**current, **changes})


def first_problem(error: ValidationError) -> tuple[str, ErrorDetails]:
    """The place of the first value that does not fit, joined by points, and pydantic's details."""
    first = error.errors()[0]
    return ".".join(str(part) for part in first["loc"]), first
