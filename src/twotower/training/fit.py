"""From a variant and a data set to a trained model."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from twotower.data import Dataset, Histories
from twotower.errors import InputError
from twotower.models.base import RetrievalModule, Scorer
from twotower.models.build import build_model
from twotower.models.sequence import SequenceTower
from twotower.models.sequence_towers import SequenceConfig
from twotower.models.two_tower import TwoTower
from twotower.training.cold_start import fit_cold_start
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

logger = logging.getLogger(__name__)

FACTOR_WEIGHTS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Weights of the least-squares part that are tried first."""
MOST_FACTOR_WEIGHT: Final = 64.0
"""Largest weight that is tried, and one over the smallest."""
_REFINED: Final = 3
"""How often weights are tried on both sides of the best one."""


@dataclass(frozen=True)
class Trained:
    """A model with the weights of its best validation, and how it got there."""

    variant: Variant
    seed: int
    module: RetrievalModule
    state: TrainingState
    metric: float | None = None
    """Validation metric of the model as it is, items without events included; None where it was
    not measured."""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen on validation after training, by name."""


def fit(
    variant: Variant,
    dataset: Dataset,
    *,
    validate: Callable[[RetrievalModule], float],
    text: FloatArray | None = None,
    image: FloatArray | None = None,
    teachers: Mapping[str, Scorer] | None = None,
    least_squares: Mapping[str, Any] | None = None,
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
    least_squares
        Record of what was chosen for the least-squares part, see `SequenceConfig.with_chosen`;
        None for the settings that the variant has.
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
    model = variant.model
    chosen: dict[str, Any] = {}
    if isinstance(model, SequenceConfig) and least_squares is not None:
        chosen["least_squares"] = dict(least_squares)
        model = model.with_chosen(least_squares)
    torch.manual_seed(seed)
    module = build_model(model, dataset, text, image)
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
        validate=partial(_validated, validate, variant.training.towers_alone),
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
        if not examples.size:
            _leave_out_towers(module)
        elif module.config.factors is not None:
            chosen["factor_weights"] = weigh_factors(module, validate)
            chosen["towers_alone"] = _validated(validate, True, module)
    if isinstance(module, SequenceTower | TwoTower):
        cold_start = fit_cold_start(module, dataset)
        if cold_start is not None:
            chosen["cold_start"] = asdict(cold_start)
    metric = validate(module) if isinstance(module, SequenceTower) else state.best_metric
    return Trained(variant, seed, module, state, metric, chosen)


def weigh_factors(
    module: SequenceTower, validate: Callable[[RetrievalModule], float]
) -> dict[str, float]:
    """Set the weight of the least-squares part to the one that validates best.

    A coarse grid, whose ends leave the score to one part nearly alone, so that the model is no
    worse than either, then weights between the best one and its neighbours. Items without events
    are left out meanwhile: a weight that keeps them out of the lists would seem the better one,
    and how often they are shown is bounded afterwards.

    Returns
    -------
    Weight, as text, and the metric that it had.
    """
    found: dict[float, float] = {}

    def best() -> float:
        return max(found, key=lambda weight: found[weight])

    def attempt(weight: float) -> None:
        module.factor_weight.fill_(weight)
        found[weight] = validate(module)

    with module.without_cold_items():
        for weight in (1 / MOST_FACTOR_WEIGHT, *FACTOR_WEIGHTS, MOST_FACTOR_WEIGHT):
            attempt(weight)
        for _ in range(_REFINED):
            weights, center = sorted(found), best()
            place = weights.index(center)
            for beside in weights[max(place - 1, 0) : place] + weights[place + 1 : place + 2]:
                if not 2 / 3 < center / beside < 3 / 2:
                    attempt((center * beside) ** 0.5)
        module.factor_weight.fill_(best())
    return {f"{weight:.4g}": metric for weight, metric in sorted(found.items())}


def _leave_out_towers(module: SequenceTower) -> None:
    """Leave the score to the least-squares part, where no step could train the towers."""
    if module.config.factors is None:
        raise InputError(
            "no user has two training interactions, which a sequence model without a "
            "least-squares part learns from",
            "train mf or lightgcn, or prepare the data with a smaller k-core",
        )
    logger.warning(
        "no user has two training interactions, so that there is no sequence to learn from: "
        "the model scores by its least-squares part alone"
    )
    module.tower_weight.fill_(0.0)


def _validated(
    validate: Callable[[RetrievalModule], float], towers_alone: bool, module: RetrievalModule
) -> float:
    """The metric of a module in training; of items without events nothing is fitted yet."""
    if not isinstance(module, SequenceTower):
        return validate(module)
    with module.without_cold_items(), module.towers_alone() if towers_alone else nullcontext():
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
