"""Base of settings: frozen, validated, and strict about unknown names.

And what a failed validation says first.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from twotower.errors import InputError

UNKNOWN: Final = "extra_forbidden"
"""Pydantic's name of a key that a model does not have."""


class Config(BaseModel):
    """A frozen pydantic model that refuses unknown fields.

    Schemas are built at first use: most processes use few of the settings that they import. Threads
    may be the first to use one, which pydantic makes safe from the release that we require.

    Raises
    ------
    InputError
        Where a value does not fit, or at an unknown name; the known ones are listed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refusal(error, type(self)) from None

    # Not for settings within settings: those are validated with the whole.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

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
    path
        Names and positions that lead to it; empty for the whole.
    what
        What is wrong with it.
    value
        What was given.
    kind
        Pydantic's name of the problem.
    others
        Problems beside it.
    """

    path: tuple[str | int, ...]
    what: str
    value: Any
    kind: str
    others: int

    @property
    def place(self) -> str:
        """The path joined by points."""
        return ".".join(map(str, self.path))

    def __str__(self) -> str:
        """In words, with the value where it is short and not said yet."""
        place = f"{self.place}: " if self.place else ""
        is_whole = isinstance(self.value, dict | list | BaseModel)
        got = "" if is_whole or ", got " in self.what else f", got {self.value!r}"
        return f"{place}{self.what}{got}"


def first_problem(error: ValidationError | Sequence[Any]) -> Problem:
    """The first problem of a failed validation, or of the details that pydantic gives of one.

    Before a missing key comes an unknown one beside it, which may be the same misspelt.
    """
    errors = error.errors() if isinstance(error, ValidationError) else error
    first = errors[0]
    if first["type"] == "missing":
        beside = (other for other in errors if other["loc"][:-1] == first["loc"][:-1])
        first = next((other for other in beside if other["type"] == UNKNOWN), first)
    kind, what = first["type"], str(first["msg"]).removeprefix("Value error, ")
    what = "unknown key" if kind == UNKNOWN else what
    return Problem(tuple(first["loc"]), what, first.get("input"), kind, len(errors) - 1)


def refusal(error: ValidationError, kind: Any, where: str | None = None) -> InputError:
    """A failed validation of ``kind`` as one line, with the known keys beside an unknown one.

    ``where`` names the origin of the values, such as a file.
    """
    first = first_problem(error)
    return InputError(f"{where}: {first}" if where else str(first), known_keys(first, kind))


def known_keys(problem: Problem, kind: Any) -> str | None:
    """The keys that ``kind`` has where it was given another one, nearest first; None otherwise.

    Parameters
    ----------
    kind
        The annotation of what was validated: a model, or a list or union of models.
    """
    if problem.kind != UNKNOWN:
        return None
    *parts, key = map(str, problem.path)
    models = _models_in(kind)
    for part in parts:
        below = [
            model
            for owner in models
            for name, field in owner.model_fields.items()
            if part in (name, field.alias)
            for model in _models_in(field.annotation)
        ]
        # Else it is a position, a key of a mapping, or the member of a union.
        models = below or [model for model in models if _is_member(model, part)] or models
    names = [field.alias or name for model in models for name, field in model.model_fields.items()]
    known = list(dict.fromkeys(names))
    near = get_close_matches(key, known, n=1)
    return f"{f'did you mean {near[0]}? ' if near else ''}it is one of {', '.join(known)}"


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Models that values of an annotation consist of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _is_member(model: type[BaseModel], tag: str) -> bool:
    """Whether pydantic names the model so within a union: by its kind, or as a class."""
    kind = model.model_fields.get("kind")
    return tag == model.__name__ or (kind is not None and tag in get_args(kind.annotation))
