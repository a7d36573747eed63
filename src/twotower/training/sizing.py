"""Training settings derived from statistics of the log."""

from typing import Final

from twotower.data import Histories
from twotower.data.histories import LogFacts
from twotower.training.trainer import TrainingConfig
from twotower.training.variant import Variant

_BIG_LOG: Final = 500_000
"""Predictions per epoch from which batches are larger."""
_POSITIONS: Final = (1024, 2048)
"""Predictions per batch, for a small and for a big log."""
_EPOCHS_BETWEEN: Final = 2
"""Epochs between validations, if that is fewer steps than `TrainingConfig.validate_steps`: on a
small log that many steps are most of the training."""
_SMALL_LOG: Final = 50_000
"""Predictions per epoch below which validation has too few users to detect small gains."""
_SMALL_GAIN: Final = 0.02
"""Minimum `TrainingConfig.least_gain` below that."""
_FEW_USERS: Final = 10_000
"""Users below which validation noise exceeds the gain of an epoch, on a log that is not small."""
_LONG_PATIENCE: Final = 4
"""Minimum `TrainingConfig.patience` below that."""
_LEAST_STEPS: Final = 50
"""Fewest steps between validations."""


def sized(variant: Variant, train: Histories, *, in_order: bool) -> Variant:
    """The variant with sizes derived from the log, if its ``sizing`` is ``by-log``.

    A pure function of the variant, the training part and whether that is in order, see
    `Dataset.in_order`. Sizes other than the defaults were set by the caller and stay; a variant
    with fixed sizes is returned unchanged.
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
