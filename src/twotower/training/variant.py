"""A variant as data: model, loss, negatives and training settings, checked together."""

from pydantic import model_validator

from twotower.config import Config
from twotower.features import TextFields
from twotower.models.build import ModelConfig
from twotower.training.losses import BPR, InfoNCE, Loss
from twotower.training.negatives import InBatch, Negatives
from twotower.training.trainer import TrainingConfig


class Variant(Config):
    """Everything that decides what is trained, and how. No code asks for a variant's name."""

    model: ModelConfig
    """The model family and its sizes."""
    loss: Loss
    """What is minimised."""
    negatives: Negatives
    """Where negatives come from."""
    training: TrainingConfig = TrainingConfig()
    """Epochs, batches, step size, stopping."""
    text_encoder: str = "minilm"
    """Encoder of item texts, for models that read text: see `twotower.features.text`."""
    text_fields: TextFields = "title"
    """What that text is, the title or all fields in words: see `twotower.features.item_text`."""
    image_encoder: str = "efficientnet-lite0"
    """Encoder of item images, for models that read them: see `twotower.features.image`."""

    @model_validator(mode="after")
    def _loss_fits_negatives(self) -> "Variant":
        in_batch = isinstance(self.negatives, InBatch)
        if isinstance(self.loss, BPR) and in_batch:
            raise ValueError(
                "loss 'bpr' needs sampled negatives, got negatives 'in_batch'; "
                "use negatives 'uniform' or 'popularity'"
            )
        if isinstance(self.loss, InfoNCE) and not in_batch:
            raise ValueError(
                f"loss 'info_nce' takes the batch as negatives, got {self.negatives.kind!r}; "
                "use negatives 'in_batch'"
            )
        return self
