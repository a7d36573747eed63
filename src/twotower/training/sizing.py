"""Sizes of a sequence model that follow from statistics of the log."""

from typing import Final, NamedTuple, Self

import numpy as np

from twotower.data import Histories
from twotower.models.history import TransformerConfig
from twotower.models.sequence_towers import SequenceConfig
from twotower.training.variant import Variant

_LENGTHS: Final = (50, 100, 200)
"""Numbers of newest items that the user tower may read."""
_LONG_HISTORY: Final = 20
"""Mean length from which there is more in the order of a history than one layer finds."""
_SMALL_LOG: Final = 50_000
"""Predictions in an epoch below which the towers are narrow."""
_MANY_EVENTS: Final = 100
"""Events of an item from which its vector can be trusted as it is."""
_THIN_DROPOUT: Final = 0.2
"""Share of the entries of an item's vector that are hidden below that."""
_DEFAULT: Final = SequenceConfig()
_BIG_LOG: Final = 500_000
"""Predictions in an epoch from which a step takes more of them."""


class LogFacts(NamedTuple):
    """What the sizes of a model follow from."""

    predictions: int
    """Items that come after another one in a training history: the examples of an epoch."""
    mean_length: float
    """Mean length of the training histories with a prediction."""
    events_per_item: float
    """Mean number of training events of the items that have one."""

    @classmethod
    def of(cls, train: Histories) -> Self:
        """Count the training part."""
        lengths = train.lengths[train.lengths >= 2]
        return cls(
            int((lengths - 1).sum()),
            float(np.mean(lengths)) if len(lengths) else 0.0,
            len(train.items) / max(len(np.unique(train.items)), 1),
        )


def sized(variant: Variant, train: Histories) -> Variant:
    """The variant with its sizes fixed, where they are to follow from the log.

    A pure function of the variant and the training part. Sizes that are not the defaults of
    `SequenceConfig` and `TrainingConfig` are a choice of the caller and stay; a variant whose sizes
    are fixed comes back as it is.
    """
    if variant.sizing == "fixed" or not isinstance(variant.model, SequenceConfig):
        return variant
    model, training = variant.model, variant.training
    facts = LogFacts.of(train)
    width = 64 if facts.predictions < _SMALL_LOG else 128
    history = TransformerConfig(
        length=next((length for length in _LENGTHS if length >= facts.mean_length), _LENGTHS[-1]),
        hidden_dim=width,
        layers=2 if facts.mean_length >= _LONG_HISTORY else 1,
    )
    if (model.embedding_dim, model.history) == (_DEFAULT.embedding_dim, _DEFAULT.history):
        model = model.vary(embedding_dim=width, history=history)
    if facts.events_per_item >= _MANY_EVENTS:
        # Most of the epochs are saved. On a thin log towers that start at random find more of what
        # the factors beside them do not know.
        model = model.vary(start_from_factors=True)
    elif model.item_dropout == _DEFAULT.item_dropout:
        model = model.vary(item_dropout=_THIN_DROPOUT)
    if training.batch_positions is None:
        positions = 2048 if facts.predictions >= _BIG_LOG else 1024
        training = training.vary(batch_positions=positions)
    return variant.vary(sizing="fixed", model=model, training=training)
