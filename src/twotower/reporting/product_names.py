"""Names of the default model: the study's, in files and folders, and the product's, as shown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from twotower.evaluation.results import Absent, Difference, Results, Row

Named = TypeVar("Named", "Row", "Difference", "Absent")

DEFAULT_MODEL: Final = "v10"
"""Name in the study of the variant that is trained where none is named."""
PRODUCT: Final = "two-tower"
"""What that variant is called outside the study."""
RERANKED: Final = "+rerank"
"""What the name of a model gets behind it where the second stage has ordered its candidates."""
PRODUCT_NAMES: Final = {
    DEFAULT_MODEL: PRODUCT,
    DEFAULT_MODEL + RERANKED: f"{PRODUCT}, both stages",
}
"""Name in the study → name of the product."""


def product_name(model: str) -> str:
    """The product's name of a model; other models keep theirs.

    Examples
    --------
    >>> product_name("v10"), product_name("item-knn")
    ('two-tower', 'item-knn')
    """
    return PRODUCT_NAMES.get(model, model)


def study_name(model: str) -> str:
    """The name under which a model is kept: the study's.

    Examples
    --------
    >>> study_name("two-tower"), study_name("v9")
    ('v10', 'v9')
    """
    return DEFAULT_MODEL if model == PRODUCT else model


def seed_label(model: str, seed: int) -> str:
    """A model of one seed, in progress and notes.

    Examples
    --------
    >>> seed_label("v10", 0)
    'two-tower seed 0'
    """
    return f"{product_name(model)} seed {seed}"


def with_product_names(results: "Results") -> "Results":
    """The same figures under the product's names."""
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
