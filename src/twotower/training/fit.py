"""From a variant and a data set to a trained model."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch

from twotower.data import Dataset, Histories
from twotower.errors import InputError
from twotower.models.base import RetrievalModule, Scorer
from twotower.models.build import build_model
from twotower.models.sequence import SequenceTower
from twotower.models.two_tower import TwoTower
from twotower.training.distillation import Distilled, Teacher
from twotower.training.examples import (
    ContextBuilder,
    Examples,
    ExampleSource,
    HistoryContext,
    no_context,
)
from twotower.training.sequences import SequenceExamples
from twotower.training.trainer import Progress, TrainingState, train
from twotower.training.variant import Variant
from twotower.types import FloatArray

FACTOR_WEIGHTS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Weights of the least-squares part that are tried first."""
MOST_FACTOR_WEIGHT: Final = 64.0
"""Largest weight that is tried, and one over the smallest."""


@dataclass(frozen=True)
class Trained:
    """A model with the weights of its best validation, and how it got there."""

    variant: Variant
    seed: int
    module: RetrievalModule
    state: TrainingState


def fit(
    variant: Variant,
    dataset: Dataset,
    *,
    validate: Callable[[RetrievalModule], float],
    text: FloatArray | None = None,
    image: FloatArray | None = None,
    teachers: Mapping[str, Scorer] | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a variant on the training part of a data set.

    Parameters
    ----------
    validate
        Metric of a module on the validation part, higher is better.
    text
        ``(num_items, t)`` text embeddings of the items, for models that read text.
    image
        ``(num_items, m)`` image embeddings of the items, for models that read images.
    teachers
        Trained models by name, for a variant that names `Variant.teachers`.
    seed
        Decides initial weights, batches, negatives and dropout.
    checkpoint
        Folder of checkpoints; a run that was killed goes on from there.

    Raises
    ------
    InputError
        Where a teacher is missing, or is of another kind or width than the variant needs.
    """
    found = _teachers(variant, teachers or {}, dataset.train)
    torch.manual_seed(seed)
    module = build_model(variant.model, dataset, text, image)
    interactions = dataset.train
    if isinstance(module, TwoTower) and module.config.init_from is not None:
        module.start_from(*found[module.config.init_from].own_vectors)
    loss = Distilled(variant.loss, [(term, found[term.teacher]) for term in variant.distillation])
    if isinstance(module, SequenceTower):
        module.fit_factors(interactions, seed)
    examples = _examples(variant, module, interactions, len(dataset.items), seed)
    state = train(
        module,
        examples,
        loss,
        variant.training,
        validate=partial(_validated_alone, validate) if variant.training.towers_alone else validate,
        negatives=variant.negatives.live(
            interactions, len(dataset.items), variant.model.embedding_dim, seed
        ),
        seed=seed,
        fingerprint=run_fingerprint(variant, dataset, seed),
        checkpoint=checkpoint,
        progress=progress,
    )
    if isinstance(module, SequenceTower):
        module.fit_projection(interactions)
        state.chosen = weigh_factors(module, validate)
    return Trained(variant, seed, module, state)


def weigh_factors(
    module: SequenceTower, validate: Callable[[RetrievalModule], float]
) -> dict[str, float]:
    """Set the weight of the least-squares part to the one that validates best.

    A coarse grid, which is extended where its best is at an end, and the two weights beside the
    best. Items without events are left as they are: a weight that keeps them out of the lists
    would seem the better one, and how often they are shown is for their own scales to say.

    Returns
    -------
    ``metric`` of the finished model, and for a model with a least-squares part ``towers_alone``
    and ``factor_weight``.
    """
    if module.config.factors is None:
        return {"metric": validate(module)}
    found: dict[float, float] = {}

    def best() -> float:
        return max(found, key=lambda weight: found[weight])

    def attempt(weight: float) -> None:
        module.factor_weight.fill_(weight)
        found[weight] = validate(module)

    with module.without_cold_items():
        for weight in FACTOR_WEIGHTS:
            attempt(weight)
        while best() == min(found) and best() > 1 / MOST_FACTOR_WEIGHT:
            attempt(best() / 2)
        while best() == max(found) and best() < MOST_FACTOR_WEIGHT:
            attempt(best() * 2)
        coarse = best()
        for weight in (coarse / 2**0.5, coarse * 2**0.5):
            attempt(weight)
        module.factor_weight.fill_(best())
        alone = _validated_alone(validate, module)
    return {"metric": found[best()], "towers_alone": alone, "factor_weight": best()}


def _validated_alone(
    validate: Callable[[RetrievalModule], float], module: RetrievalModule
) -> float:
    """The metric of the towers without the least-squares part."""
    if not isinstance(module, SequenceTower):
        return validate(module)
    with module.towers_alone():
        return validate(module)


def _examples(
    variant: Variant, module: RetrievalModule, train: Histories, num_items: int, seed: int
) -> ExampleSource:
    negatives, batch_size = variant.negatives.fit(train, num_items), variant.training.batch_size
    if isinstance(module, SequenceTower):
        return SequenceExamples(
            train,
            negatives,
            batch_size,
            seed,
            length=module.config.history_length,
            batch_positions=variant.training.batch_positions,
        )
    context: ContextBuilder = no_context
    if isinstance(module, TwoTower):
        features = module.user_features
        context = HistoryContext(
            train, module.config.history_length, features.running(train), features.empty
        )
    return Examples(
        train, negatives, batch_size, seed, context=context, sampling=variant.training.sampling
    )


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
