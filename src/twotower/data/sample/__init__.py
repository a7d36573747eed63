"""Bundled sample data set: a generated, entirely synthetic game store."""

from twotower.data.sample.covers import cover_pixels, draw_cover, write_covers
from twotower.data.sample.folder import sample_folder, write_sample
from twotower.data.sample.tables import Sample, generate_sample

__all__ = [
    "Sample",
    "cover_pixels",
    "draw_cover",
    "generate_sample",
    "sample_folder",
    "write_covers",
    "write_sample",
]
