"""Data preparation: from files to a frozen `Dataset` (read, validate, filter, split)."""

from typing import TYPE_CHECKING

from twotower.exports import on_first_use

if TYPE_CHECKING:
    from twotower.data.dataset import Dataset, Part
    from twotower.data.histories import Histories, Queries
    from twotower.data.ids import IdMap
else:
    __getattr__ = on_first_use(
        __name__,
        {
            "Dataset": "twotower.data.dataset",
            "Histories": "twotower.data.histories",
            "IdMap": "twotower.data.ids",
            "Part": "twotower.data.dataset",
            "Queries": "twotower.data.histories",
        },
    )

__all__ = ["Dataset", "Histories", "IdMap", "Part", "Queries"]
