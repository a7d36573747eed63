"""How alike two items are, whatever their vectors are made of."""

import numpy as np

from twotower.types import FloatArray


def part_lengths(vectors: FloatArray, tower_dim: int) -> FloatArray:
    """``(items, 2)`` lengths of the towers' part of vectors ``(items, d)`` and of their factors."""
    parts = (vectors[:, :tower_dim], vectors[:, tower_dim:])
    squares = [np.einsum("id,id->i", part, part) for part in parts]
    lengths: FloatArray = np.sqrt(np.stack(squares, axis=1))
    return lengths


def likeness(
    vectors: FloatArray, lengths: FloatArray, others: FloatArray, tower_dim: int
) -> FloatArray:
    """``(items, others)`` mean cosine of the parts: neither length nor popularity counts.

    What the towers know of two items and what their buyers say are asked alike. A model without
    factors has one part.

    Parameters
    ----------
    vectors
        ``(items, d)``.
    lengths
        Their `part_lengths`.
    others
        ``(others, d)``.
    """
    parts = [slice(0, tower_dim)]
    if vectors.shape[1] > tower_dim:
        parts.append(slice(tower_dim, None))
    own = part_lengths(others, tower_dim)
    total = np.zeros((len(vectors), len(others)), dtype=np.float32)
    for place, part in enumerate(parts):
        scale = np.maximum(np.outer(lengths[:, place], own[:, place]), 1e-12)
        total += vectors[:, part] @ others[:, part].T / scale
    return total / np.float32(len(parts))
