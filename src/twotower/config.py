"""The base of every settings object: frozen, validated, and strict about unknown names."""

from typing import Self

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen pydantic model that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def vary(self, **changes: object) -> Self:
        """A copy with the given fields replaced, validated again."""
        current = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**current, **changes})
