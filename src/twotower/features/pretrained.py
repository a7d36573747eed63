"""Helpers for pretrained encoders: package checks and loading without progress bars."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from twotower.errors import InputError


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
