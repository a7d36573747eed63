"""Cached image embeddings: each distinct file is encoded once; unreadable files reported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from twotower.data.digest import file_sha256
from twotower.features.cache import KEY_BYTES, EncodeProgress, cached_vectors
from twotower.features.image import ImageEncoder
from twotower.features.picture import BrokenImageError, read_picture
from twotower.types import FloatArray

CHUNK: Final = 32
"""Images in memory at a time: a large photograph takes 10 MB and more."""


@dataclass(frozen=True)
class ImageEmbeddings:
    """Vectors of image files."""

    vectors: FloatArray
    """``(files, dim)`` float32 unit vectors, zero where there is no file or no picture in it."""
    broken: dict[int, str]
    """Row → why its file could not be read as an image."""


def cached_image_embeddings(
    encoder: ImageEncoder,
    paths: Sequence[Path | None],
    folder: Path | None = None,
    progress: EncodeProgress | None = None,
) -> ImageEmbeddings:
    """Encode files; only contents that the cache lacks are decoded and encoded.

    Parameters
    ----------
    encoder
        Its name is the file name of the cache, so a change of weights needs a change of name.
    paths
        Files, None where an item has none. Files of one content are encoded once.
    folder
        Folder of the cache, one file per encoder; None for `twotower.features.cache.cache_folder`.
    progress
        Called with the number of contents encoded so far and the number to encode.
    """
    broken: dict[int, str] = {}
    keys: dict[int, bytes] = {}
    contents: dict[bytes, Path] = {}
    for row, path in enumerate(paths):
        if path is None:
            continue
        try:
            keys[row] = bytes.fromhex(file_sha256(path))[:KEY_BYTES]
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            broken[row] = "no such file" if missing else f"cannot be read: {error.strerror}"
            continue
        contents.setdefault(keys[row], path)
    reasons: dict[Path, str] = {}

    def encode(chosen: Sequence[Path]) -> list[FloatArray | None]:
        pictures = {}
        for path in chosen:
            try:
                pictures[path] = read_picture(path)
            except BrokenImageError as error:
                reasons[path] = str(error)
        encoded = dict(zip(pictures, encoder.encode(list(pictures.values())), strict=True))
        return [encoded.get(path) for path in chosen]

    found = cached_vectors(encoder.name, encoder.dim, contents, encode, folder, CHUNK, progress)
    vectors = np.zeros((len(paths), encoder.dim), dtype=np.float32)
    for row, key in keys.items():
        if key in found:
            vectors[row] = found[key]
        else:
            broken[row] = reasons[contents[key]]
    return ImageEmbeddings(vectors, dict(sorted(broken.items())))
