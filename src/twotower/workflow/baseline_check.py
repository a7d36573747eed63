"""Comparison of a trained model with simple baselines, and advice where one is better."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

import numpy as np

from twotower.data import Dataset, Histories, Part, Queries
from twotower.evaluation.figures import Evaluation
from twotower.evaluation.metrics import ndcg_at_k
from twotower.evaluation.protocols import validation_ndcg
from twotower.evaluation.ranking import full_ranks
from twotower.evaluation.registry import FULL
from twotower.evaluation.significance import sign_flip_test
from twotower.factors.content import content_search
from twotower.models.base import Scorer
from twotower.reporting.product_names import product_name
from twotower.training.fit import Trained
from twotower.types import DoubleArray
from twotower.workflow.baselines import BASELINES, fitted_baseline
from twotower.workflow.models import text_vectors
from twotower.workflow.progress import Reporter
from twotower.workflow.reranking import EASE_ITEMS, SecondStage, both_stages, fitted_blend

FILTERED_EVENTS: Final = 2_000_000
"""Most interactions for comparing with the graph filter, whose settings search takes minutes."""
MOST_USERS: Final = 20_000
FIRST_ITEMS: Final = 3
"""History length of a visitor, see `warn_for_visitors`."""
MOST_VISITORS: Final = 1_000
METRIC: Final = "NDCG@10"
LEVEL: Final = 0.05
"""p-value below which a difference on test is significant."""


def warn_below_baselines(
    name: str,
    trained: Trained,
    dataset: Dataset,
    reporter: Reporter,
    second_stage: SecondStage | None = None,
) -> dict[str, float]:
    """Warn if a baseline is better than a model with towers.

    ``second_stage`` returns the model's re-ranking stage; by default it is fitted here.

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
    for baseline in _affordable(dataset):
        found[baseline] = measured(fitted_baseline(baseline, dataset, reporter))
    variant = trained.variant
    text = text_vectors(dataset, variant.text_encoder, variant.text_fields, reporter)
    if text.any():
        found["content"] = measured(content_search(text))
    best = max(found, key=lambda model: found[model])
    if best != name:
        blend = (second_stage or partial(fitted_blend, dataset=dataset))(trained)
        again = found[name] if blend is None else measured(both_stages(scorer, blend, dataset))
        served = blend is not None and blend.helps
        solved = served and again >= found[best]
        tell = reporter.note if solved else reporter.failure
        tell(" ".join(_words(name, best, found, again, served=served)))
    return found


def _affordable(dataset: Dataset) -> Iterator[str]:
    """Baselines without text that cost less than the model; content search is added to them.

    The graph filter is strong if the order of a log carries no information, as on Gowalla.
    """
    train = dataset.train
    yield from ("popularity", "item-knn")
    if len(np.unique(train.items)) <= EASE_ITEMS:
        yield "ease"
    if not dataset.in_order and len(train.items) <= FILTERED_EVENTS:
        yield "graph-filter"


def warn_for_visitors(
    trained: Trained, dataset: Dataset, reporter: Reporter, second_stage: SecondStage
) -> dict[str, float]:
    """Warn if popular items suit visitors better than what the bundle serves.

    The query is the first three items of a training user, the target is the fourth. Models have
    seen both, so a model that loses here does not suit visitors. Validation does not show this:
    users with long histories already had the popular items, and a re-ranking stage fitted to them
    ranks the rarest items first for a cold-start user.

    Returns
    -------
    NDCG@10 of ``popularity``, ``retrieval`` and ``served``; empty if there are no such queries.
    """
    train = dataset.train
    users = np.flatnonzero(train.lengths > FIRST_ITEMS)
    if not trained.variant.model.has_towers or not len(users):
        return {}
    if len(users) > MOST_VISITORS:
        users = np.sort(np.random.default_rng(0).choice(users, MOST_VISITORS, replace=False))
    starts = train.indptr[users]
    first = train.items[starts[:, None] + np.arange(FIRST_ITEMS)]
    ends = np.arange(len(users) + 1, dtype=np.int64)
    queries = Queries.anonymous(Histories(FIRST_ITEMS * ends, first.ravel()))
    targets = Histories(ends, train.items[starts + FIRST_ITEMS])

    def measured(scorer: Scorer) -> DoubleArray:
        hidden = not dataset.has_repeats
        return ndcg_at_k(full_ranks(scorer, queries, targets, exclude_seen=hidden), 10)

    scorer = trained.module.scorer()
    blend = second_stage(trained)
    popular = measured(BASELINES["popularity"](dataset))
    retrieval = served = measured(scorer)
    if blend is not None and blend.helps:
        served = measured(both_stages(scorer, blend, dataset))
    worse = popular - served
    if worse.mean() > 2 * worse.std() / np.sqrt(len(worse)):
        text = (
            f"visitors without an account: after the first {FIRST_ITEMS} items of a user, the next "
            f"has NDCG@10 {served.mean():.4f} by what the bundle serves, {popular.mean():.4f} by "
            "popularity;"
        )
        if retrieval.mean() > served.mean():
            text += (
                f" without the second stage {retrieval.mean():.4f}: leave it out for short "
                "histories (rerank=false, recommend --no-rerank)"
            )
        else:
            text += " serve popular items until there is a longer history"
        reporter.failure(text)
    found = {"popularity": popular, "retrieval": retrieval, "served": served}
    return {model: float(values.mean()) for model, values in found.items()}


def compare_on_test(
    name: str,
    served: Evaluation,
    both_stages: bool,
    baselines: Mapping[str, Evaluation],
    reporter: Reporter,
) -> None:
    """Report the test metrics of the served pipeline and of the best baseline.

    Nothing is chosen by them. The difference is tested per query (`sign_flip_test`).
    """
    what = f"the bundle serves {product_name(name)} "
    what += "with both stages" if both_stages else "without the second stage"
    values = {
        model: found.values[FULL][:, found.metrics.index(METRIC)]
        for model, found in {**baselines, name: served}.items()
        if FULL in found.values and METRIC in found.metrics
    }
    if name not in values or len(values) == 1:
        reporter.note(what)
        return
    means = {model: float(ndcg.mean()) for model, ndcg in values.items()}
    best = max(values.keys() - {name}, key=lambda baseline: means[baseline])
    what += f": test {METRIC} {means[name]:.4f}, the best baseline's ({best}) {means[best]:.4f}"
    if _chance(values[name], values[best]) >= LEVEL:
        users = len(values[name])
        reporter.note(f"{what}; {users:,} users are too few to tell them apart")
        if not _above_popularity(values):
            listed = ", ".join(f"{product_name(model)} {mean:.4f}" for model, mean in means.items())
            reporter.failure(
                f"no model is better than popularity beyond chance: test {METRIC} of {users:,} "
                f"users {listed}; serve popular items, give more interactions, or look whether "
                "the columns of users, items and times are the right ones ('twotower inspect')"
            )
    elif means[name] > means[best]:
        reporter.note(what)
    else:
        reporter.failure(
            f"{what}, which is better beyond chance; search better settings with 'twotower tune', "
            f"or serve {best}"
        )


def _chance(ours: DoubleArray, theirs: DoubleArray) -> float:
    """p-value of the paired difference over queries."""
    return float(sign_flip_test((ours - theirs)[:, None])[0])


def _above_popularity(values: Mapping[str, DoubleArray]) -> bool:
    """Whether any model is significantly better than popularity; true if it was not measured.

    With Bonferroni correction: of many models, one seems better by chance.
    """
    others = {model: ndcg for model, ndcg in values.items() if model != "popularity"}
    if len(others) == len(values):
        return True
    popular = values["popularity"]
    return any(
        ndcg.mean() > popular.mean() and _chance(ndcg, popular) < LEVEL / len(others)
        for ndcg in others.values()
    )


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
