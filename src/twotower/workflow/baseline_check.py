"""A trained model beside simple baselines, on validation, and what to do where one is better."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np

from twotower.data import Dataset, Part
from twotower.evaluation.protocols import validation_ndcg
from twotower.models.base import Scorer
from twotower.reporting.product_names import product_name
from twotower.training.fit import Trained
from twotower.workflow.baselines import BASELINES
from twotower.workflow.progress import Reporter
from twotower.workflow.reranking import SecondStage, TwoStages, fitted_blend

FLOOR: Final = ("popularity", "item-knn", "ease")
EASE_ITEMS: Final = 5_000
"""Trained items up to which EASE is among them: it inverts a matrix of as many rows."""
MOST_USERS: Final = 20_000


def warn_below_baselines(
    name: str,
    trained: Trained,
    dataset: Dataset,
    reporter: Reporter,
    second_stage: SecondStage | None = None,
) -> dict[str, float]:
    """Say in words where a baseline is better than a model with towers.

    ``second_stage`` gives the model's, where it is fitted for other ends too.

    Returns
    -------
    Validation NDCG@10 of the model, under its name, and of each baseline; empty for a model
    without towers.
    """
    if not trained.variant.model.has_towers or not dataset.has(Part.VALIDATION):
        return {}

    def measured(scorer: Scorer) -> float:
        return validation_ndcg(scorer, dataset, max_queries=MOST_USERS)

    scorer = trained.module.scorer()
    found = {name: measured(scorer)}
    small = len(np.unique(dataset.train.items)) <= EASE_ITEMS
    for baseline in FLOOR if small else FLOOR[:-1]:
        found[baseline] = measured(BASELINES[baseline](dataset.train, len(dataset.items)))
    best = max(found, key=lambda model: found[model])
    if best != name:
        blend = (second_stage or partial(fitted_blend, dataset=dataset))(trained)
        again = (
            found[name]
            if blend is None
            else measured(TwoStages(scorer, blend, exclude_seen=not dataset.has_repeats))
        )
        served = blend is not None and blend.helps
        reporter.failure(" ".join(_words(name, best, found, again, served=served)))
    return found


def _words(
    name: str, best: str, found: dict[str, float], again: float, *, served: bool
) -> Iterator[str]:
    stage = "the second stage"
    if not served:
        stage += " (rerank=true, recommend --rerank)"
    yield (
        f"{best} is better than {product_name(name)} on this data set: "
        f"validation NDCG@10 {found[best]:.4f} against {found[name]:.4f};"
    )
    if again >= found[best] and served:
        yield f"{stage}, which the bundle serves, has {again:.4f}: there is nothing to do"
    elif again >= found[best]:
        yield f"ask for {stage}, which has {again:.4f} and is in the bundle"
    elif again > found[name]:
        yield (
            f"{stage} comes nearest with {again:.4f}; "
            "search better settings with 'twotower tune', or give the model more interactions"
        )
    else:
        yield "search better settings with 'twotower tune', or give the model more interactions"
