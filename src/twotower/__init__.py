"""twotower: from an interaction log and a catalogue to a served recommender."""

from typing import TYPE_CHECKING

from twotower.exports import on_first_use

__version__ = "0.1.0"

if TYPE_CHECKING:
    from twotower.data import Dataset
    from twotower.data.prepare import prepare
    from twotower.inference.filters import Filters
    from twotower.recommender import Recommender
else:
    __getattr__ = on_first_use(
        __name__,
        {
            "Dataset": "twotower.data.dataset",
            "Filters": "twotower.inference.filters",
            "Recommender": "twotower.recommender",
            "prepare": "twotower.data.prepare",
        },
    )

__all__ = ["Dataset", "Filters", "Recommender", "__version__", "prepare"]


def __dir__() -> list[str]:
    """The public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
