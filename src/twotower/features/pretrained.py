"""Helpers of pretrained encoders: package checks, quiet loading, unit vectors."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from twotower.errors import InputError
from twotower.types import FloatArray


def require(subject: str, packages: Sequence[str], fix: str) -> None:
    """`InputError` with the first of the packages that is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"{subject} needs the package {package}, which is not installed", fix)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hide the progress bar of transformers while a model is loaded."""
    from transformers.utils import logging as transformers_logging

    quiet: Any = transformers_logging
    bars = quiet.is_progress_bar_enabled()
    quiet.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            quiet.enable_progress_bar()


def unit_rows(vectors: FloatArray) -> FloatArray:
    """Divide each row by its length, in place; a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(norms > 0, norms, 1.0)
    return vectors
