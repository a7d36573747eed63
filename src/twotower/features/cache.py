"""Embedding cache on disk: vectors by encoder name and content hash."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from twotower.data.atomic import atomic_file
from twotower.features.text import TextEncoder
from twotower.types import Array, FloatArray, Mapper

logger = logging.getLogger(__name__)

T = TypeVar("T")
EncodeProgress = Callable[[int, int], None]
"""Called with the number encoded so far and the number to encode."""

CHUNK: Final = 512
"""Texts encoded between two calls of ``progress``."""
MAX_VECTORS: Final = 1_000_000
"""Most vectors of a file (1.6 GB at 384 dimensions), unless one call needs more; the newest are
kept."""
KEY_BYTES: Final = 16
"""Bytes of the sha256 of a content that form its key."""


def cache_folder() -> Path:
    """``$TWOTOWER_CACHE``, else ``~/.cache/twotower``."""
    return Path(os.environ.get("TWOTOWER_CACHE") or Path.home() / ".cache" / "twotower")


def cached_embeddings(
    encoder: TextEncoder,
    texts: Sequence[str],
    folder: Path | None = None,
    progress: EncodeProgress | None = None,
    mapper: Mapper = map,
) -> FloatArray:
    """``(texts, dim)`` vectors; only texts that the cache lacks are encoded.

    An interrupted run keeps what it encoded. Two processes may share a folder: each writes a
    complete file, and the last write wins.

    Parameters
    ----------
    encoder
        Its name is the file name, so a change of weights needs a change of name.
    texts
        Repeats are encoded once.
    folder
        Folder of the cache, one file per encoder; None for `cache_folder`.
    progress
        Called with the number of texts encoded so far and the number to encode.
    mapper
        Encodes the chunks: `map`, or that of `twotower.cluster.ray_cluster`.
    """
    keys = [hashlib.sha256(text.encode()).digest()[:KEY_BYTES] for text in texts]
    # Equal lengths meet in a chunk, so that little of a batch is padding; the longest come
    # first, so that the remaining time is not underestimated.
    contents = dict(
        sorted(zip(keys, texts, strict=True), key=lambda pair: len(pair[1]), reverse=True)
    )
    vectors = cached_vectors(
        encoder.name, encoder.dim, contents, encoder.encode, folder, CHUNK, progress, mapper
    )
    result = np.zeros((len(texts), encoder.dim), dtype=np.float32)
    for row, key in enumerate(keys):
        result[row] = vectors[key]
    return result


def cached_vectors(
    name: str,
    dim: int,
    contents: Mapping[bytes, T],
    encode: Callable[[Sequence[T]], Iterable[FloatArray | None]],
    folder: Path | None,
    chunk: int,
    progress: EncodeProgress | None,
    mapper: Mapper = map,
) -> Mapping[bytes, FloatArray]:
    """Vectors by key: those of the cache file ``name``, and of newly encoded contents.

    Parameters
    ----------
    contents
        By key, in the order in which they are encoded.
    encode
        Returns a unit or zero vector per content, or None on failure: such a content is not
        cached, and is tried again the next time.
    chunk
        Contents encoded at a time.
    mapper
        Encodes the chunks.
    """
    path = (folder or cache_folder()) / f"{quote(name, safe='')}.safetensors"
    vectors = _read(path, dim)
    todo = [(key, content) for key, content in contents.items() if key not in vectors]
    parts = [todo[start : start + chunk] for start in range(0, len(todo), chunk)]
    known, done = len(vectors), 0
    try:
        chunks = [[content for _, content in part] for part in parts]
        for part, encoded in zip(parts, mapper(encode, chunks), strict=True):
            for (key, _), vector in zip(part, encoded, strict=True):
                if vector is not None:
                    vectors[key] = vector
            done += len(part)
            if progress is not None:
                progress(done, len(todo))
    finally:
        if len(vectors) > known:
            _write(path, vectors, dim, max(MAX_VECTORS, len(contents)))
    return vectors


def _read(path: Path, dim: int) -> dict[bytes, FloatArray]:
    if not path.exists():
        return {}
    try:
        stored = load_file(path)
        keys, vectors = stored["keys"], stored["vectors"]
        if keys.shape != (len(vectors), KEY_BYTES) or vectors.shape != (len(keys), dim):
            raise ValueError(f"keys {keys.shape} and vectors {vectors.shape} do not fit dim {dim}")
        # Bits that changed on disk would otherwise go unnoticed: the format has no checksum.
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.linalg.norm(vectors, axis=1)
        if not np.all((np.abs(norms - 1) < 1e-3) | (norms == 0)):
            raise ValueError("vectors are not normalised")
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        logger.warning("the cache %s is broken (%s) and is rebuilt", path, error)
        return {}
    return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}


def _write(path: Path, vectors: dict[bytes, FloatArray], dim: int, most: int) -> None:
    newest = list(vectors.items())[-most:]
    keys = np.frombuffer(b"".join(key for key, _ in newest), dtype=np.uint8)
    arrays: dict[str, Array] = {
        "keys": keys.reshape(-1, KEY_BYTES),
        "vectors": np.asarray([vector for _, vector in newest], np.float32).reshape(-1, dim),
    }
    try:
        with atomic_file(path) as temporary:
            save_file(arrays, temporary)
    except OSError as error:  # a full or read-only disk must not fail this run
        logger.warning("the cache %s could not be written (%s)", path, error)
