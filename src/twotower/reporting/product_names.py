"""Model names: study names (in files and folders) and product names (as displayed)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from twotower.evaluation.results import Absent, Difference, Results, Row

Named = TypeVar("Named", "Row", "Difference", "Absent")

DEFAULT_MODEL: Final = "v10"
"""Study name of the variant trained by default."""
PRODUCT: Final = "two-tower"
"""Product name of that variant."""
RERANKED: Final = "+rerank"
"""Suffix of a model's name if its candidates were re-ranked by the second stage."""
PRODUCT_NAMES: Final = {
    DEFAULT_MODEL: PRODUCT,
    DEFAULT_MODEL + RERANKED: f"{PRODUCT}, both stages",
}
"""Study name → product name."""


def product_name(model: str) -> str:
    """The product name of a model; models without one keep theirs.

    Examples
    --------
    >>> product_name("v10"), product_name("item-knn")
    ('two-tower', 'item-knn')
    """
    return PRODUCT_NAMES.get(model, model)


def study_name(model: str) -> str:
    """The study name of a model, under which it is stored.

    Examples
    --------
    >>> study_name("two-tower"), study_name("v9")
    ('v10', 'v9')
    """
    return DEFAULT_MODEL if model == PRODUCT else model


def seed_label(model: str, seed: int) -> str:
    """Label of a model and seed, for progress and notes.

    Examples
    --------
    >>> seed_label("v10", 0)
    'two-tower seed 0'
    """
    return f"{product_name(model)} seed {seed}"


def with_product_names(results: "Results") -> "Results":
    """The same results under product names."""
    return results.model_copy(
        update={
            "rows": _renamed(results.rows),
            "differences": _renamed(results.differences),
            "absent": _renamed(results.absent),
            "models": {product_name(model): words for model, words in results.models.items()},
        }
    )


def _renamed(figures: Sequence[Named]) -> list[Named]:
    return [
        figure.model_copy(
            update={
                name: product_name(getattr(figure, name))
                for name in ("model", "parent")
                if hasattr(figure, name)
            }
        )
        for figure in figures
    ]
