"""Larger catalogues than there are: real vectors, and others drawn around them."""

from typing import Final

import numpy as np

from twotower.errors import InputError
from twotower.index.base import check_vectors
from twotower.types import FloatArray

_SAMPLE: Final = 500
_BLOCK: Final = 1 << 16


def grown(vectors: FloatArray, size: int, seed: int = 0) -> FloatArray:
    """``size`` item vectors that lie as the given ones do.

    With fewer than there are, a draw of them. With more, all of them, and behind them copies of
    some moved in a random direction: as far as an item is from its nearest, at the median.
    A copy keeps its length.

    Parameters
    ----------
    vectors
        ``(items, dim)`` float32, two at least.
    size
        At least 1.

    Returns
    -------
    FloatArray
        ``(size, dim)`` float32.

    Raises
    ------
    InputError
        Where ``size`` is below 1, or there are no two vectors.
    """
    vectors = check_vectors(vectors)
    if size < 1 or len(vectors) < 2:
        raise InputError(
            f"size must be at least 1 and there must be 2 vectors, got {size} and {len(vectors)}"
        )
    rng = np.random.default_rng(seed)
    if size <= len(vectors):
        return vectors[np.sort(rng.choice(len(vectors), size, replace=False))]
    # A random direction of independent parts has about this length in all.
    spread = np.float32(nearest_distance(vectors, rng) / np.sqrt(vectors.shape[1]))
    found = np.empty((size, vectors.shape[1]), dtype=np.float32)
    found[: len(vectors)] = vectors
    for start in range(len(vectors), size, _BLOCK):
        block = found[start : start + _BLOCK]
        source = vectors[rng.integers(len(vectors), size=len(block))]
        block[:] = source + spread * rng.standard_normal(block.shape, dtype=np.float32)
        length = np.linalg.norm(block, axis=1, keepdims=True)
        block *= np.linalg.norm(source, axis=1, keepdims=True) / np.maximum(length, 1e-12)
    return found


def nearest_distance(vectors: FloatArray, rng: np.random.Generator) -> float:
    """Median Euclidean distance of some vectors to the nearest other."""
    rows = rng.choice(len(vectors), min(_SAMPLE, len(vectors)), replace=False)
    squares = np.square(vectors).sum(axis=1)
    distances = squares[rows, None] + squares - 2 * vectors[rows] @ vectors.T
    distances[np.arange(len(rows)), rows] = np.inf
    return float(np.median(np.sqrt(np.maximum(distances.min(axis=1), 0))))
