"""How alike two items are, whatever their vectors are made of."""

import numpy as np

from twotower.types import FloatArray

_LEAST = np.float32(1e-12)


def part_lengths(vectors: FloatArray, tower_dim: int) -> FloatArray:
    """``(items, parts)`` lengths of the towers' part of ``(items, d)``, and of the factors'."""
    parts = _parts(vectors, tower_dim)
    squares = [np.einsum("id,id->i", part, part) for part in parts]
    lengths: FloatArray = np.sqrt(np.stack(squares, axis=1))
    return lengths


def alike(vectors: FloatArray, lengths: FloatArray, one: FloatArray, tower_dim: int) -> FloatArray:
    """``(items,)`` mean cosine of the parts of vectors ``(items, d)`` with those of ``one`` (d,).

    What the towers know of two items and what their buyers say are asked alike; neither length
    nor popularity counts. A model without factors has one part.

    Parameters
    ----------
    lengths
        `part_lengths` of the vectors: over a whole catalogue they take longer than the rest.
    """
    parts = _parts(vectors, tower_dim)
    total = np.zeros(len(vectors), dtype=np.float32)
    for place, wanted in enumerate(_parts(unit_parts(one[None], tower_dim), tower_dim)):
        total += parts[place] @ wanted[0] / np.maximum(lengths[:, place], _LEAST)
    return total / np.float32(len(parts) ** 0.5)


def unit_parts(vectors: FloatArray, tower_dim: int) -> FloatArray:
    """Vectors ``(n, d)`` whose dot products are the mean cosines of `alike`."""
    units = np.empty_like(vectors)
    parts = _parts(vectors, tower_dim)
    for part, unit in zip(parts, _parts(units, tower_dim), strict=True):
        length = np.sqrt(np.einsum("id,id->i", part, part) * np.float32(len(parts)))
        np.divide(part, np.maximum(length, _LEAST)[:, None], out=unit)
    return units


def _parts(vectors: FloatArray, tower_dim: int) -> list[FloatArray]:
    if vectors.shape[1] == tower_dim:
        return [vectors]
    return [vectors[:, :tower_dim], vectors[:, tower_dim:]]
