"""Cover images of the sample, drawn from the catalogue columns of each product.

Background by category, one to five motifs by franchise, a band by platform, a row of marks
that counts the entry: pictures that belong together look alike, so that an image encoder has
something to find. Drawn in integer arithmetic, hence the same pixels everywhere.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twotower.data import columns
from twotower.data.atomic import atomic_file
from twotower.data.sample.words import GENRES, PLATFORMS
from twotower.errors import InputError
from twotower.types import BoolArray

if TYPE_CHECKING:
    from PIL.Image import Image

SIZE: Final = 128
"""Pixels a side."""

BACKGROUNDS: Final = (
    (192, 57, 43), (125, 60, 152), (46, 64, 83), (244, 208, 63), (110, 44, 0),
    (39, 174, 96), (93, 173, 226), (245, 176, 65), (28, 28, 36), (229, 152, 176),
    (200, 200, 200),
)  # fmt: skip
"""One per genre, the last for accessories."""
BANDS: Final = (
    (30, 90, 200), (20, 40, 140), (20, 140, 60), (10, 90, 40), (210, 30, 40), (90, 90, 90),
)  # fmt: skip
"""One per platform."""


def cover_pixels(row: Mapping[str, Any]) -> NDArray[np.uint8]:
    """``(128, 128, 3)`` uint8 RGB cover of a row of the sample's catalogue.

    It needs ``category``, ``platform``, ``entry`` and ``franchise``; ``title`` takes the place of a
    franchise that is None.
    """
    try:
        genres = [genre.name for genre in GENRES]
        genre = genres.index(row[columns.CATEGORY]) if row["entry"] else len(GENRES)
        platform = [known.name for known in PLATFORMS].index(row["platform"])
        theme = row["franchise"] or row[columns.TITLE]
    except (KeyError, ValueError) as error:
        raise InputError(
            f"not a row of the sample's catalogue: {error}", "pass a row of generate_sample()"
        ) from None
    pixels = np.empty((SIZE, SIZE, 3), dtype=np.uint8)
    pixels[:] = BACKGROUNDS[genre]
    digest = hashlib.sha256(theme.encode()).digest()
    accent = digest[:3]
    for motif in range(1 + digest[3] % 5):
        shape, x, y, radius = digest[4 + 4 * motif : 8 + 4 * motif]
        mask = _shape(shape % 4, 16 + x % 96, 30 + y % 70, 12 + radius % 20)
        pixels[mask] = tuple((channel + 60 * motif) % 256 for channel in accent)
    pixels[:18] = BANDS[platform]
    for mark in range(row["entry"]):
        pixels[SIZE - 14 : SIZE - 4, 6 + 14 * mark : 14 + 14 * mark] = 255
    return pixels


def _shape(kind: int, x: int, y: int, radius: int) -> BoolArray:
    """``(128, 128)`` mask of a disc, a square, a diamond or a ring around ``(x, y)``."""
    rows, cols = np.ogrid[:SIZE, :SIZE]
    down, right = abs(rows - y), abs(cols - x)
    distance = down * down + right * right
    masks = (
        distance <= radius * radius,
        (down <= radius) & (right <= radius),
        down + right <= radius,
        (distance <= radius * radius) & (4 * distance >= radius * radius),
    )
    return masks[kind]


def draw_cover(row: Mapping[str, Any]) -> "Image":
    """The cover of one catalogue row as a Pillow image (needs the extra ``image``)."""
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(
            "drawing covers needs Pillow, which is not installed",
            "pip install 'twotower[image]'",
        ) from error
    return Image.fromarray(cover_pixels(row))


def write_covers(catalogue: pl.DataFrame, folder: Path) -> int:
    """Write a PNG for each row that names an ``image``, below ``folder``; returns how many."""
    pictured = catalogue.filter(pl.col(columns.IMAGE).is_not_null())
    for row in pictured.iter_rows(named=True):
        with atomic_file(Path(folder) / row[columns.IMAGE], durable=False) as temporary:
            draw_cover(row).save(temporary, format="PNG")
    return pictured.height
