"""Data preparation: from files to a frozen `Dataset` (read, validate, reduce, split)."""

from typing import TYPE_CHECKING

from twotower.data.histories import Histories, Queries
from twotower.data.ids import IdMap
from twotower.exports import on_first_use

if TYPE_CHECKING:
    from twotower.data.dataset import Dataset, Part
else:
    __getattr__ = on_first_use(
        __name__, {"Dataset": "twotower.data.dataset", "Part": "twotower.data.dataset"}
    )

__all__ = ["Dataset", "Histories", "IdMap", "Part", "Queries"]
