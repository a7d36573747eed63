"""Image decoding: any web image to upright RGB, or the reason for refusing it."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

from twotower.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF")
"""Formats that are read; Pillow's other decoders are never used on untrusted files."""
MAX_PIXELS: Final = 40_000_000
"""A small file can unfold into gigabytes; no product photograph is larger than this."""
MIN_SIDE: Final = 8
"""Shops answer with a single white pixel where they have no picture."""


class BrokenImageError(Exception):
    """The file is not a readable image; the message is the reason."""


def read_picture(path: Path) -> "Image":
    """An RGB image, upright, on white where it is transparent, its first frame if it moves.

    Raises
    ------
    BrokenImageError
        Where the file cannot be read or decoded, has more than `MAX_PIXELS`, or a side below
        `MIN_SIDE`. The size is checked before anything is decoded.
    InputError
        Where Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise InputError(
            "reading images needs Pillow, which is not installed",
            "run pip install 'twotower[image]'",
        ) from error
    try:
        # Pillow's own size check warns or raises before ours.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = Image.open(path, formats=FORMATS)
        with opened:
            _check_size(*opened.size)
            upright = ImageOps.exif_transpose(opened)
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                white = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(white, upright)
            return upright.convert("RGB")
    except UnidentifiedImageError as error:
        raise BrokenImageError(f"not a {', '.join(FORMATS)} image") from error
    except Image.DecompressionBombError as error:
        raise BrokenImageError(f"more than {MAX_PIXELS:,} pixels") from error
    except FileNotFoundError as error:
        raise BrokenImageError("no such file") from error
    # On a damaged file decoders raise other errors too: Pillow documents OSError only.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError) as error:
        raise BrokenImageError(f"cannot be decoded: {error}") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BrokenImageError(f"more than {MAX_PIXELS:,} pixels: {width} x {height}")
    if min(width, height) < MIN_SIDE:
        raise BrokenImageError(f"smaller than {MIN_SIDE} pixels: {width} x {height}")
