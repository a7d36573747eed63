"""Base of settings: frozen, validated, and strict about unknown names.

And what a failed validation says first.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """A frozen pydantic model that refuses unknown fields.

    Schemas are built at first use: most processes use few of the settings that they import. Threads
    may be the first to use one, which pydantic makes safe from the release that we require.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def vary(self, **changes: object) -> Self:
        """A copy with the given fields replaced, validated again."""
        current = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**current, **changes})


class Body(Config):
    """The body of a request: its schema is built where it is defined, not by the first request."""

    model_config = ConfigDict(defer_build=False)


class Problem(NamedTuple):
    """The first value that does not fit.

    Attributes
    ----------
    place
        The names that lead to it, joined by points; empty for the whole.
    what
        What is wrong with it.
    value
        What was given.
    kind
        Pydantic's name of the problem.
    others
        Problems beside it.
    """

    place: str
    what: str
    value: Any
    kind: str
    others: int

    def __str__(self) -> str:
        """In words, with the value where it is short and not said yet."""
        place = f"{self.place}: " if self.place else ""
        is_whole = isinstance(self.value, dict | list | BaseModel)
        got = "" if is_whole or ", got " in self.what else f", got {self.value!r}"
        return f"{place}{self.what}{got}"


def first_problem(error: ValidationError | Sequence[Any]) -> Problem:
    """The first problem of a failed validation, or of the details that pydantic gives of one."""
    errors = error.errors() if isinstance(error, ValidationError) else error
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"])
    what = str(first["msg"]).removeprefix("Value error, ")
    return Problem(place, what, first.get("input"), first["type"], len(errors) - 1)
