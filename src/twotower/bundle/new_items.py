"""Item tower and text encoder of a bundle, for cold-start items and unseen texts."""

from dataclasses import dataclass, field, replace

import numpy as np

from twotower.errors import InputError
from twotower.factors.exposure import ListBars
from twotower.features import ItemFeatures, ReleaseOrder, TextFields
from twotower.types import FloatArray


@dataclass(frozen=True)
class TextModel:
    """A sentence encoder for onnxruntime."""

    name: str
    """Identifies the encoder and its weights: equal names give equal vectors."""
    onnx: bytes = field(hash=False)  # hashing 23 MB takes longer than comparing them
    """Inputs ``ids`` and ``mask`` (B, L) int64; output ``vector`` (B, t), unit vectors."""
    tokenizer: bytes
    """A ``tokenizer.json`` of the tokenizers library."""


@dataclass(frozen=True)
class NewItems:
    """The item tower and its inputs."""

    tower: bytes
    """ONNX model; reads some or all of the inputs ``item`` (B, id_dim), ``text`` (B, t), ``image``
    (B, m), ``features`` (B, 15) and ``release`` (B, RELEASE_WAVES); output ``vector`` (B, d). A new
    item's image vector is zeros, which the tower has learned to read as no image."""
    unknown_id: FloatArray
    """``(id_dim,)`` the learned embedding of the unknown id."""
    features: ItemFeatures
    """The fitted statistics; its ``values`` are empty."""
    releases: ReleaseOrder = field(default_factory=lambda: ReleaseOrder(np.zeros(0)))
    """Release times of the training items."""
    text_fields: TextFields = "title"
    """Fields that an item's text is made from."""
    history_projection: FloatArray | None = None
    """``(t, h)`` from an item's text vector to its row in the history table, or None."""
    history_is_vector: bool = False
    """Whether an item's row in the history table is its vector from the item tower."""
    vector_projection: FloatArray | None = None
    """``(d, k)`` from the item tower's vector to the vector in the index; None if they are the
    same."""
    text: FloatArray | None = None
    """``(items, t)`` text vectors of the bundle's items, for search, or None."""
    text_model: TextModel | None = None
    """The text encoder if it needs weights, or None."""
    vector_scale: float = 1.0
    """Factor on a new item's vector if the model has no factors; if it has, see
    `twotower.bundle.manifest.FoldInInfo`."""
    bars: ListBars | None = None
    """Bounds on how often a new item is recommended, or None."""

    def __post_init__(self) -> None:
        if len(self.features.values):
            empty = np.zeros((0, self.features.values.shape[1]), dtype=np.float32)
            object.__setattr__(self, "features", replace(self.features, values=empty))
        projection, text = self.history_projection, self.text
        if projection is not None and self.history_is_vector:
            raise InputError("history_projection must be None where history_is_vector")
        if projection is not None and text is not None and len(projection) != text.shape[1]:
            raise InputError(
                f"history_projection must have as many rows as a text vector has dimensions, "
                f"{text.shape[1]}, got {len(projection)}"
            )
