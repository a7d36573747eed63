"""`Variant`: model, loss, negatives and training settings as data, checked together."""

import math
from numbers import Integral, Real
from typing import Literal

from twotower.config import Config
from twotower.errors import InputError
from twotower.features import TextFields
from twotower.models.build import ModelConfig
from twotower.training.distillation import Distillation
from twotower.training.losses import Loss
from twotower.training.negatives import Negatives
from twotower.training.trainer import TrainingConfig


class Variant(Config):
    """All settings of what is trained, and how. No code branches on a variant's name."""

    model: ModelConfig
    """The model family and its sizes."""
    loss: Loss
    """The training loss."""
    negatives: Negatives
    """Source of negatives."""
    distillation: tuple[Distillation, ...] = ()
    """Distillation terms added to the loss."""
    training: TrainingConfig = TrainingConfig()
    """Epochs, batches, step size, stopping."""
    sizing: Literal["fixed", "by-log"] = "fixed"
    """``by-log``: width, depth, history length and batches of a sequence model, if left at their
    defaults, are derived from the training part, see `twotower.training.sizing`. ``fixed``: all
    settings are used as given."""
    text_encoder: str = "minilm"
    """Encoder of item texts, for models that read text: see `twotower.features.text`."""
    text_fields: TextFields = "title"
    """Text fields encoded, the title or all fields: see `twotower.features.item_text`."""
    image_encoder: str = "efficientnet-lite0"
    """Encoder of item images, for models that read them: see `twotower.features.image`."""

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the models that must be trained before this one."""
        learned_from = (term.teacher for term in self.distillation)
        return tuple(dict.fromkeys((*learned_from, *self.model.teachers)))

    def with_epochs(self, epochs: int | None) -> "Variant":
        """A copy with at most this many epochs and no ``least_steps``; None changes nothing.

        Raises
        ------
        InputError
            Unless it is a whole number from 1 on.
        """
        if epochs is None:
            return self
        if not isinstance(epochs, Integral) or isinstance(epochs, bool) or epochs < 1:
            raise InputError(
                f"epochs must be a whole number from 1 on, got {epochs!r}", "pass epochs=5"
            )
        return self.vary(training=self.training.vary(epochs=epochs, least_steps=0))

    def within(self, minutes: float | None) -> "Variant":
        """A copy with a training time limit in minutes; None changes nothing.

        Raises
        ------
        InputError
            Unless it is a number above 0.
        """
        if minutes is None:
            return self
        if not isinstance(minutes, Real) or not 0 < minutes < math.inf:
            raise InputError(f"minutes must be a number above 0, got {minutes!r}", "pass minutes=5")
        return self.vary(training=self.training.vary(minutes=minutes))
