"""Training settings that follow from statistics of the log."""

from typing import Final

from twotower.data import Histories
from twotower.data.histories import LogFacts
from twotower.training.trainer import TrainingConfig
from twotower.training.variant import Variant

_BIG_LOG: Final = 500_000
"""Predictions in an epoch from which a step takes more of them."""
_POSITIONS: Final = (1024, 2048)
"""Predictions in a step, of a small and of a big log."""
_EPOCHS_BETWEEN: Final = 2
"""Epochs between validations, where that is fewer steps than `TrainingConfig.validate_steps`: on
a small log so many steps are most of what it takes to learn it."""
_SMALL_LOG: Final = 50_000
"""Predictions in an epoch below which a validation of few users says little of small gains."""
_SMALL_GAIN: Final = 0.02
"""`TrainingConfig.least_gain` there."""
_FEW_USERS: Final = 10_000
"""Users below which a validation swings by more than an epoch of a log that is not small brings."""
_LONG_PATIENCE: Final = 4
"""`TrainingConfig.patience` there, at least."""
_LEAST_STEPS: Final = 50
"""Steps that are worth a validation."""


def sized(variant: Variant, train: Histories, *, in_order: bool) -> Variant:
    """The variant with its sizes fixed, where they are to follow from the log.

    A pure function of the variant, the training part and whether that is in order, see
    `Dataset.in_order`. Sizes that are not the defaults are a choice of the caller and stay; a
    variant whose sizes are fixed comes back as it is.
    """
    if variant.sizing == "fixed":
        return variant
    facts = LogFacts.of(train, in_order=in_order)
    return variant.vary(
        sizing="fixed",
        model=variant.model.sized(facts),
        training=_sized_training(variant.training, facts),
    )


def _sized_training(training: TrainingConfig, facts: LogFacts) -> TrainingConfig:
    positions = training.batch_positions
    if positions is None:
        positions = _POSITIONS[facts.predictions >= _BIG_LOG]
    between = max(_LEAST_STEPS, _EPOCHS_BETWEEN * (facts.predictions // positions))
    least_gain, patience = training.least_gain, training.patience
    if facts.predictions < _SMALL_LOG:
        least_gain = max(least_gain, _SMALL_GAIN)
    elif patience is not None and facts.users < _FEW_USERS:
        patience = max(patience, _LONG_PATIENCE)
    return training.vary(
        batch_positions=positions,
        validate_steps=min(training.validate_steps, between),
        least_gain=least_gain,
        patience=patience,
    )
