"""User tower and item tower: parts in, one unit vector out.

Towers read vectors, not tables: the caller looks up the ids. The same module can therefore train,
export to ONNX, and embed an item that arrives after training.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from twotower.config import Config
from twotower.features.declared import ITEM_FEATURES, USER_FEATURES
from twotower.models.fusion import ConcatMLPConfig, Fusion
from twotower.models.history import HistoryEncoder


class UserTowerConfig(Config):
    """What the user tower reads."""

    id_dim: int = Field(64, ge=1)
    """Width of the id embedding."""
    id_dropout: float = Field(0.5, ge=0, lt=1)
    """Share of examples whose id is hidden in training, so that the unknown id is learned."""
    features: bool = True
    """Whether the 8 user features are read."""
    history: HistoryEncoder | None = None
    """Encoder of the most recent items, or None."""
    fusion: Fusion = ConcatMLPConfig()
    """How the parts become one vector."""


class ItemTowerConfig(Config):
    """What the item tower reads."""

    id_dim: int = Field(64, ge=1)
    """Width of the id embedding."""
    id_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of examples whose id is hidden in training, so that the unknown id is learned."""
    features: bool = True
    """Whether the 15 item features are read."""
    text_dim: int | None = Field(None, ge=1)
    """Width that text embeddings are projected to, or None for a tower without text."""
    image_dim: int | None = Field(None, ge=1)
    """Width that image embeddings are projected to, or None for a tower without images."""
    fusion: Fusion = ConcatMLPConfig()
    """How the parts become one vector."""


class UserTower(nn.Module):
    """Id, history and features to a unit vector."""

    def __init__(self, config: UserTowerConfig, out_dim: int) -> None:
        super().__init__()
        self.config = config
        parts = {"id": config.id_dim}
        if config.history is not None:
            self.history = config.history.build()
            parts["history"] = config.history.hidden_dim
        if config.features:
            parts["features"] = len(USER_FEATURES)
        self.parts = tuple(parts)
        self.fusion = config.fusion.build(list(parts.values()), out_dim)

    def forward(self, user: Tensor, history: Tensor, lengths: Tensor, features: Tensor) -> Tensor:
        """Unit vectors ``(B, d)``.

        Parameters
        ----------
        user
            ``(B, id_dim)`` id embeddings; the unknown user's where there is no id.
        history
            ``(B, L, h)`` history vectors of items, oldest first; ignored beyond ``lengths``.
        lengths
            ``(B,)`` int64.
        features
            ``(B, 8)`` standardised user features.
        """
        parts = [user]
        if self.config.history is not None:
            parts.append(self.history(history, lengths))
        if self.config.features:
            parts.append(features)
        return F.normalize(self.fusion(parts), dim=-1)


class ItemTower(nn.Module):
    """Id, text, image and features to a unit vector.

    An item without an image gets a learned vector instead: its zeros would otherwise look like an
    image of their own.
    """

    def __init__(
        self, config: ItemTowerConfig, text_input_dim: int, image_input_dim: int, out_dim: int
    ) -> None:
        super().__init__()
        self.config = config
        parts = {"id": config.id_dim}
        if config.text_dim is not None:
            self.text = nn.Linear(text_input_dim, config.text_dim)
            parts["text"] = config.text_dim
        if config.image_dim is not None:
            self.image = nn.Linear(image_input_dim, config.image_dim)
            self.missing_image = nn.Parameter(torch.zeros(config.image_dim))
            parts["image"] = config.image_dim
        if config.features:
            parts["features"] = len(ITEM_FEATURES)
        self.parts = tuple(parts)
        self.fusion = config.fusion.build(list(parts.values()), out_dim)

    def forward(self, item: Tensor, text: Tensor, image: Tensor, features: Tensor) -> Tensor:
        """Unit vectors ``(B, d)``.

        Parameters
        ----------
        item
            ``(B, id_dim)`` id embeddings; the unknown item's where there is no id.
        text
            ``(B, t)`` unit text embeddings, zero where there is no text.
        image
            ``(B, m)`` unit image embeddings, zero where there is no image.
        features
            ``(B, 15)`` standardised item features.
        """
        parts = [item]
        if self.config.text_dim is not None:
            parts.append(self.text(text))
        if self.config.image_dim is not None:
            pictured = image.any(-1, keepdim=True)  # (B, 1)
            parts.append(torch.where(pictured, self.image(image), self.missing_image))
        if self.config.features:
            parts.append(features)
        return F.normalize(self.fusion(parts), dim=-1)


def hide_ids(ids: Tensor, share: float, training: bool) -> Tensor:
    """Replace a random share of 1-based ids with 0, the unknown id, in training."""
    if not training or share == 0:
        return ids
    return ids * (torch.rand(len(ids), device=ids.device) >= share)
