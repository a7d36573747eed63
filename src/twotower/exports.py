"""Lazy exports: names of a package that are imported when they are first used."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def on_first_use(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` for a package, that imports a name from its home.

    Parameters
    ----------
    package
        ``__name__`` of the package.
    homes
        Name → module that defines it.

    Examples
    --------
    >>> find = on_first_use("twotower", {"Dataset": "twotower.data.dataset"})
    >>> find("Dataset").__name__
    'Dataset'
    >>> find("Datasets")
    Traceback (most recent call last):
    ...
    AttributeError: module 'twotower' has no attribute 'Datasets'
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return find
