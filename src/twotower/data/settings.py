"""`PrepareSettings`: k-core, repeats, split and strictness of data preparation."""

from typing import Any

from pydantic import Field, field_validator

from twotower.config import Config
from twotower.data.splits import Split


class PrepareSettings(Config):
    """Settings of `prepare`: what is kept, and how it is split.

    Attributes
    ----------
    k_core
        Users and items below this many interactions are removed, until none is; 0 keeps
        every user, and every item of the catalogue.
    keep_repeats
        Keep every interaction of a user with an item, not only the earliest.
    split
        Which interactions are held out: one of `twotower.data.splits`, or its kind alone, such
        as ``"random"``. None takes the split of the files where they have one, else leaves the
        last two out.
    keep_unknown_items
        Keep interactions with items that the catalogue lacks, and give each an empty row of it.
    strict
        Stop at the first bad row instead of setting it aside.
    """

    k_core: int = Field(default=5, ge=0)
    keep_repeats: bool = False
    split: Split | None = None
    keep_unknown_items: bool = False
    strict: bool = False

    @field_validator("split", mode="before")
    @classmethod
    def _from_kind(cls, split: Any) -> Any:
        return {"kind": split} if isinstance(split, str) else split
