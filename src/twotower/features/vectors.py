"""Row normalisation of vectors."""

import numpy as np

from twotower.types import FloatArray


def unit_rows(vectors: FloatArray) -> FloatArray:
    """Divide each row by its length, in place; a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(norms > 0, norms, 1.0)
    return vectors
