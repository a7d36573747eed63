"""File readers: a log or catalogue as chunks of canonical columns."""

from twotower.data.readers.chunk import Check, Chunk, Reject, set_aside
from twotower.data.readers.mapping import ColumnMapping, Columns
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.source import CatalogueFile, LogFile, Source, read_source

__all__ = [
    "CatalogueFile",
    "Check",
    "Chunk",
    "ColumnMapping",
    "Columns",
    "LogFile",
    "ReadOptions",
    "Reject",
    "Source",
    "read_source",
    "set_aside",
]
