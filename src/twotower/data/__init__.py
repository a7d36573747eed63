"""Data preparation: from files to a frozen `Dataset` (read, validate, reduce, split)."""

from twotower.data.dataset import Dataset, Part
from twotower.data.histories import Histories, Queries
from twotower.data.ids import IdMap

__all__ = ["Dataset", "Histories", "IdMap", "Part", "Queries"]
