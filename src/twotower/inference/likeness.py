"""How alike two items are, whatever their vectors are made of."""

import numpy as np

from twotower.types import FloatArray


def part_scales(vectors: FloatArray, tower_dim: int) -> FloatArray:
    """``(items, parts)`` factors of the towers' part of ``(items, d)``, and of the rest.

    Dot products of the parts times these are mean cosines of the parts: what the towers know of two
    items and what their buyers say are asked alike, and neither length nor popularity counts. A
    model without factors has one part. A part of zeros stays so.
    """
    parts = _parts(vectors, tower_dim)
    squares = np.stack([np.einsum("id,id->i", part, part) for part in parts], axis=1)
    lengths = np.sqrt(squares * np.float32(len(parts)))
    scales: FloatArray = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return scales


def scale(vectors: FloatArray, scales: FloatArray, tower_dim: int) -> None:
    """Change ``(n, d)`` vectors to such whose dot products are mean cosines.

    Parameters
    ----------
    scales
        ``(n, parts)``, their `part_scales`.
    """
    for place, part in enumerate(_parts(vectors, tower_dim)):
        part *= scales[:, place : place + 1]


def alike(vectors: FloatArray, scales: FloatArray, row: int, tower_dim: int) -> FloatArray:
    """``(items,)`` mean cosine of each of ``(items, d)`` with one of them.

    Parameters
    ----------
    scales
        `part_scales` of the vectors: over a whole catalogue they take longer than the rest.
    """
    one = vectors[row : row + 1].copy()
    scale(one, scales[row : row + 1], tower_dim)
    total = np.zeros(len(vectors), dtype=np.float32)
    parts = zip(_parts(vectors, tower_dim), _parts(one, tower_dim), strict=True)
    for place, (part, wanted) in enumerate(parts):
        total += (part @ wanted[0]) * scales[:, place]
    return total


def _parts(vectors: FloatArray, tower_dim: int) -> list[FloatArray]:
    if vectors.shape[1] == tower_dim:
        return [vectors]
    return [vectors[:, :tower_dim], vectors[:, tower_dim:]]
