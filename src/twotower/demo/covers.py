"""Cover images of items: addresses, files beside the catalogue, or the sample's drawings."""

import base64
import io
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import polars as pl

from twotower.data import columns
from twotower.data.images import WEB
from twotower.data.sample import draw_cover, sample_folder
from twotower.errors import TwoTowerError

FOLDER: Final = "TWOTOWER_IMAGES"
"""Environment variable: the folder that image paths are relative to."""
SIDE: Final = 128
"""Longest side of a cover in pixels."""


def data_summary(bundle: Path, fingerprint: str) -> dict[str, Any] | None:
    """Counts of `prepare` from a data set beside the bundle with the same fingerprint."""
    try:
        found = json.loads((bundle.resolve().parent / "dataset" / "manifest.json").read_bytes())
        return dict(found["summary"]) if found["fingerprint"] == fingerprint else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Covers:
    """Finds the cover images of items.

    Parameters
    ----------
    catalogue
        The bundle's.
    folder
        What paths are relative to, or None.
    """

    def __init__(self, catalogue: pl.DataFrame, folder: Path | None) -> None:
        named = columns.IMAGE in catalogue.columns
        self._ids = catalogue[columns.ITEM_ID]
        self._names: list[str | None] = catalogue[columns.IMAGE].to_list() if named else []
        self._folder = None if folder is None else folder.resolve()
        self._drawn = self._folder == sample_folder().resolve()

    def source(self, row: int) -> str | None:
        """What an ``img`` element shows for a row of the bundle; None where there is no image.

        A path that leads out of the folder shows nothing: a catalogue is untrusted input.
        """
        name = self._names[row] if row < len(self._names) else None
        if not name or name.startswith(WEB):
            return name or None
        if self._folder is None:
            return None
        if self._drawn:
            return _drawn(self._ids[row])
        path = (self._folder / name).resolve()
        return _read(path) if path.is_relative_to(self._folder) else None


def image_folder(summary: dict[str, Any] | None) -> Path | None:
    """The folder of image paths: as `FOLDER` says, else where `prepare` found the catalogue."""
    folder = os.environ.get(FOLDER) or (summary or {}).get("image_folder")
    return None if folder is None else Path(folder)


@lru_cache(maxsize=4096)
def _read(path: Path) -> str | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.thumbnail((SIDE, SIDE))
            return _encoded(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


@lru_cache(maxsize=4096)
def _drawn(item_id: str) -> str | None:
    rows = _sample().filter(pl.col(columns.ITEM_ID) == item_id)
    try:
        return _encoded(draw_cover(rows.row(0, named=True))) if rows.height else None
    except TwoTowerError:
        return None


@lru_cache(maxsize=1)
def _sample() -> pl.DataFrame:
    return pl.read_parquet(sample_folder() / "items.parquet")


def _encoded(image: Any) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
