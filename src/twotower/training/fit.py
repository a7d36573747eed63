"""Fitting of a variant to a data set: build, train, and choose settings on validation."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import torch

from twotower.data import Dataset, Histories
from twotower.errors import InputError
from twotower.models.base import RetrievalModule, Scorer
from twotower.models.build import build_model
from twotower.training.cold_start import ColdItemModel, fit_cold_start
from twotower.training.collectives import ranks
from twotower.training.distillation import Distilled, Teacher
from twotower.training.examples import EXAMPLE_SOURCES
from twotower.training.progress import Progress, TrainingState
from twotower.training.trainer import TrainingConfig, train
from twotower.training.variant import Variant
from twotower.types import FloatArray

UNVALIDATED_EPOCHS: Final = 20
"""Most epochs without a validation part for early stopping."""


@dataclass(frozen=True)
class Trained:
    """A model with the weights of its best validation, and its training record."""

    variant: Variant
    seed: int
    module: RetrievalModule
    state: TrainingState
    metric: float | None = None
    """Validation metric of the final model, with cold-start items included; None if it was not
    measured."""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen on validation after training, by name."""


def fit(
    variant: Variant,
    dataset: Dataset,
    *,
    validate: Callable[[RetrievalModule], float] | None,
    popularity: float | None = None,
    evaluated: "Trained | None" = None,
    text: FloatArray | None = None,
    image: FloatArray | None = None,
    teachers: Mapping[str, Scorer] | None = None,
    least_squares: Mapping[str, Any] | None = None,
    columns: Mapping[str, Any] | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a variant on the training part of a data set.

    Parameters
    ----------
    validate
        Metric of a module on the validation part, higher is better; None for a refit and without a
        validation part. Then nothing is chosen and, unless it is a refit, training lasts
        `UNVALIDATED_EPOCHS`.
    popularity
        The same metric of the popularity baseline, see `TrainingConfig.patience_at_first`.
    evaluated
        For a refit on all interactions: the validated model of the same variant. The refit trains
        for that model's best number of epochs, and keeps the settings chosen for it.
    text
        ``(num_items, t)`` text embeddings of the items, for models that read text.
    image
        ``(num_items, m)`` image embeddings of the items, for models that read images.
    teachers
        Trained models by name, for a variant that names `Variant.teachers`.
    least_squares
        Record of the settings chosen for the least-squares part, see `SequenceConfig.with_chosen`;
        None for the variant's own settings.
    columns
        For a refit: record of whose declared columns are read, see `SequenceConfig.columns`.
    seed
        Seed of initial weights, batches, negatives and dropout.
    checkpoint
        Folder of checkpoints; a killed run resumes from there.

    Raises
    ------
    InputError
        Where a teacher is missing, or is of another kind or width than the variant needs.
    """
    found = _teachers(variant, teachers or {}, dataset.train)
    before: dict[str, Any] = {}
    if least_squares is not None:
        before["least_squares"] = dict(least_squares)
    if columns is not None:
        before["columns"] = dict(columns)
    torch.manual_seed(seed)
    module = build_model(variant.model.with_chosen(before), dataset, text, image)
    train_part, num_items = dataset.train, len(dataset.items)
    processes = ranks()
    if processes.first:  # the others get the result when training starts
        module.before_fit(train_part, seed, found)
    processes.wait()
    settings, alone = variant.training, variant.training.towers_alone
    state = train(
        module,
        EXAMPLE_SOURCES.find(module.example_source)(
            module,
            train_part,
            variant.negatives.fit(train_part, num_items),
            settings,
            seed,
        ),
        Distilled(variant.loss, [(term, found[term.teacher]) for term in variant.distillation]),
        settings,
        validate=None if validate is None else partial(_during_training, validate, alone),
        popularity=popularity,
        stop_after=_epochs(evaluated, validate),
        most_seconds=_most_seconds(settings, evaluated, before),
        negatives=variant.negatives.live(train_part, num_items, variant.model.embedding_dim, seed),
        seed=seed,
        fingerprint=run_fingerprint(variant, dataset, seed),
        checkpoint=checkpoint,
        progress=progress,
    )
    chosen = before
    if not processes.first:  # only the first does what follows training
        return Trained(variant, seed, module, state, state.best_metric, chosen)
    if validate is None:
        module.after_refit(train_part, None if evaluated is None else evaluated.module)
        if evaluated is not None:
            return Trained(variant, seed, module, state, chosen=chosen)
    else:
        chosen = chosen | module.after_fit(train_part, validate)
    if module.bounds_cold_items:
        cold_start = fit_cold_start(cast(ColdItemModel, module), dataset)
        if cold_start is not None:
            chosen["cold_start"] = asdict(cold_start)
    metric = state.best_metric if validate is None or not chosen else validate(module)
    return Trained(variant, seed, module, state, metric, chosen)


def _epochs(evaluated: Trained | None, validate: object) -> int | None:
    """Epochs after which training ends; None where validation ends it."""
    if evaluated is not None:
        return (evaluated.state.best_epoch or 0) + 1
    return UNVALIDATED_EPOCHS if validate is None else None


def _most_seconds(
    settings: TrainingConfig, evaluated: Trained | None, chosen: Mapping[str, Any]
) -> float | None:
    """Limit on seconds of steps: what the settings search left, or, for a refit, what the
    evaluated model took to reach its best.
    """
    if settings.minutes is None:
        return None
    if evaluated is not None:
        best = evaluated.state.best_epoch or 0
        return sum(epoch.seconds for epoch in evaluated.state.epochs[: best + 1])
    searched = float(chosen.get("least_squares", {}).get("seconds", 0.0))
    return max(60 * settings.minutes - searched, 30 * settings.minutes)


def _during_training(
    validate: Callable[[RetrievalModule], float], alone: bool, module: RetrievalModule
) -> float:
    """The validation metric during training, without cold-start items: not yet calibrated."""
    with module.without_cold_items(), module.towers_alone() if alone else nullcontext():
        return validate(module)


def _teachers(
    variant: Variant, given: Mapping[str, Scorer], train: Histories
) -> dict[str, Teacher]:
    for name in variant.teachers:
        if name not in given:
            raise InputError(
                f"this variant learns from {name!r}, which was not given",
                f"pass teachers={{{name!r}: …}}, or train it with train_variant, which does",
            )
    return {name: Teacher(given[name], train, name) for name in variant.teachers}


def run_fingerprint(variant: Variant, dataset: Dataset, seed: int) -> str:
    """sha256 of what a run depends on: data, variant and seed."""
    parts = (dataset.fingerprint, variant.model_dump_json(), str(seed))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
