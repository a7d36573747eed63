"""Bundling: from a trained two-tower to the bundle that serving reads."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import polars as pl

from twotower.bundle.blend import Blend
from twotower.bundle.comparison_models import ComparisonModel
from twotower.bundle.contents import BundleContents
from twotower.bundle.declared import DeclaredColumns
from twotower.bundle.manifest import EpochInfo, Manifest, ModelInfo, TrainingInfo
from twotower.bundle.new_items import NewItems
from twotower.bundle.reranker import RerankVectors
from twotower.bundle.storage import save_bundle
from twotower.data import Dataset, Histories, Queries
from twotower.errors import InputError
from twotower.factors.exposure import LIST_LENGTH, ListBars
from twotower.factors.scorer import trained_items, unseen_scores
from twotower.features import ItemFeatures, ReleaseOrder, UserFeatures, releases
from twotower.index import (
    AutoConfig,
    IndexChoice,
    IndexConfig,
    ItemIndex,
    build_index,
    top_scores,
)
from twotower.models.base import ServedEncoders, ServedTowers, VectorScorer
from twotower.training.fit import Trained
from twotower.training.progress import TrainingState
from twotower.training.storage import read_description
from twotower.training.variant import Variant
from twotower.types import FloatArray
from twotower.workflow.models import item_text, saved_model
from twotower.workflow.progress import Reporter, Silent
from twotower.workflow.refit import refit as refit_model
from twotower.workflow.refit import refit_blend, refit_folder
from twotower.workflow.reranking import fitted_blend
from twotower.workflow.text_export import text_model

USUAL_KS: Final = (10, 1000)
"""Usual numbers of items per index search: recommendations, and candidates for re-ranking."""
BAR_USERS: Final = 1000
"""Users whose lists are used to estimate how often an added item would be recommended."""


def bundle_contents(
    name: str,
    trained: Trained,
    dataset: Dataset,
    *,
    index: IndexConfig | AutoConfig | None = None,
    metrics: Mapping[str, float] | None = None,
    reranker: Trained | Blend | None = None,
    new_items: bool = True,
    refitted: bool = False,
    evaluated: Trained | None = None,
) -> BundleContents:
    """Everything that serving reads.

    Known users get their whole history, held-out interactions included: serving comes later.

    Parameters
    ----------
    index
        Settings of the item index; by default `AutoConfig` chooses them by measuring.
    metrics
        Evaluation metrics, for the manifest.
    reranker
        Re-ranks candidates: a fitted blend, or a trained model whose vectors are used, for example
        LightGCN.
    refitted
        Whether ``trained`` is a `twotower.workflow.refit.refit`; features are then fitted on all
        interactions too.
    evaluated
        For a refit, the evaluated model: the manifest describes its training and the settings that
        validation chose for it.
    new_items
        Whether new items and texts can be encoded: adds the item tower, the
        items' text vectors and, where a model reads text with MiniLM, a text encoder of 23 MB.

    Raises
    ------
    InputError
        Where the model is not a two-tower: it has no towers to serve.
    """
    check_servable(name, trained.variant)
    evaluated = evaluated or trained
    fitted = dataset.with_all_in_train() if refitted else dataset
    towers = trained.module.export(len(dataset.users))
    text = item_text(trained.variant, dataset, Silent())
    scorer = trained.module.scorer()
    item_vectors = scorer.item_vectors()
    second = _served(reranker, dataset.interactions)
    ks = USUAL_KS[:1] if second is None else (USUAL_KS[0], second.candidates)
    built, choice = chosen_index(scorer, dataset.interactions, index or AutoConfig(), ks)
    return BundleContents(
        info=ModelInfo(
            model=name,
            config={
                **trained.variant.model_dump(mode="json"),
                **({"chosen": dict(evaluated.chosen)} if evaluated.chosen else {}),
            },
            dataset=dataset.name,
            dataset_fingerprint=dataset.fingerprint,
            fitted_on="all" if refitted else "train",
            events=dataset.interactions.rules,
            rating_scale=dataset.summary.get("options", {}).get("rating_scale"),
            metrics=dict(metrics or {}),
            training=_training(evaluated.state),
            text_encoder=None if text is None else trained.variant.text_encoder,
            repeats=dataset.has_repeats,
            history_length=towers.history_length,
            fold_in=towers.fold_in,
        ),
        user_tower=towers.user_tower,
        user_table=towers.user_table,
        history_table=towers.history_table,
        factors=towers.factors,
        user_features=UserFeatures.fit(fitted.train, dataset.catalogue),
        item_vectors=item_vectors,
        users=dataset.users,
        catalogue=dataset.catalogue,
        histories=dataset.interactions,
        index=built,
        index_choice=choice,
        reranker=second,
        new_items=_new_items(trained, towers, fitted, text, scorer) if new_items else None,
        declared=_declared(dataset, towers.columns),
        returned=dataset.returned,
    )


def shipped_contents(
    name: str,
    evaluated: Trained,
    dataset: Dataset,
    *,
    refit: bool = True,
    folder: Path | None = None,
    models: Path | None = None,
    index: IndexConfig | AutoConfig | None = None,
    metrics: Mapping[str, float] | None = None,
    reranker: Trained | Blend | None = None,
    new_items: bool = True,
    reporter: Reporter | None = None,
) -> tuple[BundleContents, Trained]:
    """Everything that serving reads of an evaluated model, and the model that is served.

    The served model is its refit on all interactions, unless ``refit`` is False; a blend is refit
    too. ``folder`` and ``models`` are as in `twotower.workflow.refit.refit`, the other parameters
    as in `bundle_contents`.
    """
    reporter = reporter or Silent()
    shipped = evaluated
    if refit:
        shipped = refit_model(name, evaluated, dataset, folder, models=models, reporter=reporter)
        if isinstance(reranker, Blend):
            reranker = refit_blend(reranker, shipped, dataset)
    contents = bundle_contents(
        name,
        shipped,
        dataset,
        index=index,
        metrics=metrics,
        reranker=reranker,
        new_items=new_items,
        refitted=refit,
        evaluated=evaluated,
    )
    if contents.index_choice is not None:
        reporter.note(f"index: {contents.index_choice.reason}")
    return contents, shipped


def _training(state: TrainingState) -> TrainingInfo:
    ended: Literal["validation", "time", "epochs"] = "validation"
    if state.epoch >= state.most_epochs:
        ended = "epochs"
    elif state.out_of_time:
        ended = "time"
    epochs = tuple(
        EpochInfo(loss=epoch.loss, seconds=epoch.seconds, validation=epoch.metric)
        for epoch in state.epochs
    )
    return TrainingInfo(epochs=epochs, best=state.best_epoch, ended=ended)


def _declared(dataset: Dataset, encoders: ServedEncoders | None) -> DeclaredColumns | None:
    """The declared columns, with their encoders if the towers read them."""
    if not dataset.schema:
        return None
    items = pl.DataFrame() if dataset.item_table is None else dataset.item_table
    users = pl.DataFrame() if dataset.user_table is None else dataset.user_table
    contexts = pl.DataFrame() if dataset.context_table is None else dataset.context_table
    declared = DeclaredColumns(
        dataset.schema, items, user_values=users.select(*dataset.schema.users), contexts=contexts
    )
    if encoders is None:
        return declared
    return replace(
        declared,
        item_encoders=encoders.items,
        user_encoders=encoders.users,
        users=encoders.user_rows if encoders.users else None,
        regression=encoders.regression,
        context_encoders=encoders.context,
    )


def check_servable(name: str, variant: Variant) -> None:
    """`InputError` for a model without towers."""
    if not variant.model.has_towers:
        raise InputError(
            f"model {name!r} has no towers to serve", "take one that has, such as two-tower"
        )


def chosen_index(
    scorer: VectorScorer,
    histories: Histories,
    index: IndexConfig | AutoConfig,
    ks: Sequence[int] = USUAL_KS,
) -> tuple[ItemIndex, IndexChoice | None]:
    """The index of a model's items and, for `AutoConfig`, the measurements behind the choice.

    Measured with vectors of random users with a history, for ``ks`` items per search.
    """
    vectors = scorer.item_vectors()
    if not isinstance(index, AutoConfig):
        return build_index(vectors, index), None
    known = np.flatnonzero(histories.lengths).astype(np.int32)
    draw = np.random.default_rng(0)
    users = np.sort(draw.choice(known, min(index.queries, len(known)), replace=False))
    queries = scorer.user_vectors(Queries(users, histories.select(users)))
    choice = index.choose(vectors, queries, [min(k, len(vectors)) for k in ks])
    return build_index(vectors, choice.config), choice


def write_bundle(
    folder: Path,
    contents: BundleContents,
    trained: Trained,
    comparisons: Mapping[str, VectorScorer] | None = None,
) -> Manifest:
    """Write a bundle, all or nothing.

    ``comparisons`` are other models by name, whose recommendations the demo also shows.
    """
    weights = {name: value.cpu().numpy() for name, value in trained.module.state_dict().items()}
    histories = contents.histories
    others = {
        name: comparison_model(scorer, histories) for name, scorer in (comparisons or {}).items()
    }
    return save_bundle(folder, contents, weights, others)


def comparison_model(scorer: VectorScorer, histories: Histories) -> ComparisonModel:
    """Vectors of a model for each user, now and before their newest event."""
    newest = np.zeros(len(histories.items), dtype=np.bool_)
    newest[histories.indptr[1:][histories.lengths > 0] - 1] = True
    users = np.arange(len(histories), dtype=np.int32)
    return ComparisonModel(
        scorer.item_vectors(),
        scorer.user_vectors(Queries(users, histories)),
        scorer.user_vectors(Queries(users, histories.keep(~newest))),
    )


def bundle_model(
    model: Path,
    dataset: Dataset,
    out: Path,
    *,
    index: IndexConfig | AutoConfig | None = None,
    reranker: Path | None = None,
    blend: bool = True,
    refit: bool = True,
    comparisons: Sequence[Path] = (),
    new_items: bool = True,
    reporter: Reporter | None = None,
) -> Manifest:
    """Bundle a saved model, with a saved re-ranker if one is given, else a fitted blend.

    Without a re-ranker there is no second stage if ``blend`` is False or there is no validation
    part. With ``refit`` the bundle holds the model refit on all interactions, which is saved beside
    the model's folder, as ``<folder>-refit``. ``comparisons`` are folders of other saved models
    for the demo.
    """
    reporter = reporter or Silent()
    trained, name = saved_model(model, dataset, reporter), read_description(model)["name"]
    check_servable(name, trained.variant)  # before it is trained again
    second: Trained | Blend | None = None
    if reranker is not None:
        second = saved_model(reranker, dataset, reporter)
    elif blend:
        second = fitted_blend(trained, dataset, reporter)
    contents, shipped = shipped_contents(
        name,
        trained,
        dataset,
        refit=refit,
        folder=refit_folder(model),
        index=index,
        reranker=second,
        new_items=new_items,
        reporter=reporter,
    )
    others = {
        read_description(other)["name"]: saved_model(other, dataset, reporter).module.scorer()
        for other in comparisons
    }
    return write_bundle(out, contents, shipped, others)


def list_bars(scorer: VectorScorer, dataset: Dataset, share: float) -> ListBars | None:
    """Scores that a new item has to beat in the lists of random users with a history."""
    known = np.flatnonzero(dataset.interactions.lengths).astype(np.int32)
    if not len(known):
        return None
    trained = trained_items(dataset.train, len(dataset.items))
    draw = np.random.default_rng(0)
    users = np.sort(draw.choice(known, min(BAR_USERS, len(known)), replace=False))
    queries = Queries(users, dataset.interactions.select(users))
    vectors, bars = [], []
    for _, own, scores in unseen_scores(scorer, queries):
        vectors.append(own)
        bars.append(top_scores(scores[:, trained], LIST_LENGTH)[:, -1])
    lists = np.concatenate(bars)
    full = np.isfinite(lists)  # a user who had nearly all items has no full list
    return ListBars(np.concatenate(vectors)[full], lists[full], int(trained.sum()), share)


def _new_items(
    trained: Trained,
    towers: ServedTowers,
    dataset: Dataset,
    text: FloatArray | None,
    scorer: VectorScorer,
) -> NewItems:
    variant, exposure = trained.variant, towers.exposure
    return NewItems(
        tower=towers.item_tower,
        unknown_id=towers.unknown_id,
        features=ItemFeatures.fit(dataset.train, dataset.catalogue),
        releases=ReleaseOrder.fit(
            releases(dataset.catalogue), trained_items(dataset.train, len(dataset.items))
        ),
        text_fields=variant.text_fields,
        history_projection=towers.history_projection,
        history_is_vector=towers.history_is_vector,
        vector_projection=towers.vector_projection,
        text=text,
        text_model=None if text is None else text_model(variant.text_encoder),
        vector_scale=towers.cold_scale,
        bars=None if exposure is None else list_bars(scorer, dataset, exposure),
    )


def _served(reranker: Trained | Blend | None, histories: Histories) -> RerankVectors | Blend | None:
    if reranker is None:
        return None
    if isinstance(reranker, Blend):
        return reranker.at_end_of_log()
    scorer = reranker.module.scorer()
    users = Queries(np.arange(len(histories), dtype=np.int32), histories)
    return RerankVectors(scorer.user_vectors(users), scorer.item_vectors())
