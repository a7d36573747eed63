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
        Users and items with fewer interactions are removed repeatedly until none is left; 0 keeps
        every user, and every item of the catalogue.
    keep_repeats
        Keep every interaction of a user with an item, not only the earliest.
    split
        How to split: one of `twotower.data.splits`, or just its kind, such as ``"random"``. None
        uses the split of the files if they have one, else leave-last-two.
    keep_unknown_items
        Keep interactions with items that the catalogue lacks, and add an empty catalogue row for
        each such item.
    strict
        Stop at the first bad row instead of rejecting it.
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
