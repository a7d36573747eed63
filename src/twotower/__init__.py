"""twotower: from an interaction log and a catalogue to a served recommender."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from twotower.data import Dataset
    from twotower.data.prepare import prepare
    from twotower.inference.filters import Filters
    from twotower.recommender import Recommender

__all__ = ["Dataset", "Filters", "Recommender", "__version__", "prepare"]

_HOME = {
    "Dataset": "twotower.data",
    "Filters": "twotower.inference.filters",
    "Recommender": "twotower.recommender",
    "prepare": "twotower.data.prepare",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: ``import twotower`` stays instant."""
    if name not in _HOME:
        raise AttributeError(f"module 'twotower' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """The public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
