"""From a model's config and a data set to an untrained module."""

from typing import Annotated

from pydantic import Field

from twotower.data import Dataset
from twotower.errors import InputError
from twotower.factors.scorer import trained_items
from twotower.features import ItemFeatures, ReleaseOrder, UserFeatures, releases
from twotower.models.base import RetrievalModule
from twotower.models.lightgcn import LightGCN, LightGCNConfig
from twotower.models.mf import MatrixFactorisation, MFConfig
from twotower.models.sequence import SequenceTower
from twotower.models.sequence_towers import SequenceConfig
from twotower.models.two_tower import ItemData, TwoTower, TwoTowerConfig
from twotower.types import FloatArray

ModelConfig = Annotated[
    MFConfig | LightGCNConfig | TwoTowerConfig | SequenceConfig, Field(discriminator="kind")
]
"""Every model family; a new one is a module in this folder, a name here and a case below."""


def needs_text(config: ModelConfig) -> bool:
    """Whether `build_model` wants text embeddings of the items."""
    return isinstance(config, SequenceConfig) or (
        isinstance(config, TwoTowerConfig) and config.needs_text
    )


def needs_image(config: ModelConfig) -> bool:
    """Whether `build_model` wants image embeddings of the items."""
    return isinstance(config, TwoTowerConfig) and config.needs_image


def build_model(
    config: ModelConfig,
    dataset: Dataset,
    text: FloatArray | None = None,
    image: FloatArray | None = None,
) -> RetrievalModule:
    """Make the module; whatever it is fitted on is the training part alone.

    Parameters
    ----------
    text
        ``(num_items, t)`` text embeddings, where `needs_text` says so.
    image
        ``(num_items, m)`` image embeddings, zero where there is none, where `needs_image` says so.
    """
    train, num_items = dataset.train, len(dataset.items)
    match config:
        case MFConfig():
            return MatrixFactorisation(config, train, num_items)
        case LightGCNConfig():
            return LightGCN(config, train, num_items)
        case SequenceConfig():
            features = ItemFeatures.fit(train, dataset.catalogue)
            trained = trained_items(train, num_items)
            released = releases(dataset.catalogue)
            waves = ReleaseOrder.fit(released, trained).waves(released)
            return SequenceTower(config, _given(text), features, waves, trained)
        case TwoTowerConfig():
            if config.needs_text:
                text = _given(text)
            if config.needs_image and image is None:
                raise InputError("this model reads item images, got none", "pass image=...")
            return TwoTower(
                config,
                train.lengths > 0,
                ItemData(
                    ItemFeatures.fit(train, dataset.catalogue).values,
                    text,
                    trained_items(train, num_items),
                    image,
                ),
                UserFeatures.fit(train, dataset.catalogue),
            )


def _given(text: FloatArray | None) -> FloatArray:
    if text is None:
        raise InputError("this model reads item text, got none", "pass text=...")
    return text
