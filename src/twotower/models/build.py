"""Registry of model families, and construction of an untrained module from its settings."""

from typing import Annotated, Final

from pydantic import BeforeValidator, SerializeAsAny

from twotower.data import Dataset
from twotower.errors import InputError
from twotower.models.base import ModelFamily, ModelInputs, RetrievalModule
from twotower.registry import ConfigRegistry
from twotower.types import FloatArray

MODELS: Final = ConfigRegistry(
    "twotower.models",
    "model family",
    ModelFamily,
    {
        "mf": "twotower.models.mf:MFConfig",
        "lightgcn": "twotower.models.lightgcn:LightGCNConfig",
        "two_tower": "twotower.models.two_tower:TwoTowerConfig",
        "sequence": "twotower.models.sequence_towers:SequenceConfig",
    },
)
"""All model families; other packages add theirs through entry points."""

_PLURAL: Final = {"text": "text", "image": "images"}

ModelConfig = Annotated[ModelFamily, BeforeValidator(MODELS.parse), SerializeAsAny()]
"""Settings of any family, discriminated by ``kind``."""


def build_model(
    config: ModelFamily,
    dataset: Dataset,
    text: FloatArray | None = None,
    image: FloatArray | None = None,
) -> RetrievalModule:
    """Make the untrained module; anything fitted is fitted on the training part alone.

    Parameters
    ----------
    text
        ``(num_items, t)`` text embeddings, if `ModelFamily.inputs_needed` has ``text``.
    image
        ``(num_items, m)`` image embeddings, if it has ``image``; zero for items without one.

    Raises
    ------
    InputError
        Where an input that the family needs is missing.
    """
    inputs = ModelInputs(dataset, text, image)
    for name in sorted(config.inputs_needed):
        if getattr(inputs, name) is None:
            raise InputError(f"this model reads item {_PLURAL[name]}, got none", f"pass {name}=...")
    return config.build(inputs)
