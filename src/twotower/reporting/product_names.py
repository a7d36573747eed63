"""Names of the default model where the product is shown, in place of those that the study gave."""

from collections.abc import Sequence
from typing import Final, TypeVar

from twotower.evaluation.results import Absent, Difference, Results, Row

Named = TypeVar("Named", Row, Difference, Absent)

PRODUCT_NAMES: Final = {"v10": "two-tower", "v10+rerank": "two-tower, both stages"}
"""Name in the study → name of the product."""


def product_name(model: str) -> str:
    """The product's name of a model; other models keep theirs.

    Examples
    --------
    >>> product_name("v10"), product_name("item-knn")
    ('two-tower', 'item-knn')
    """
    return PRODUCT_NAMES.get(model, model)


def with_product_names(results: Results) -> Results:
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
