"""Item tower and text encoder of a bundle, for items and texts that training never saw."""

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
    """Names the encoder and its weights: equal names give equal vectors."""
    onnx: bytes = field(hash=False)  # of 23 MB a hash takes longer than to compare them
    """Inputs ``ids`` and ``mask`` (B, L) int64; output ``vector`` (B, t), unit vectors."""
    tokenizer: bytes
    """A ``tokenizer.json`` of the tokenizers library."""


@dataclass(frozen=True)
class NewItems:
    """The item tower and what it reads."""

    tower: bytes
    """ONNX model; inputs ``item`` (B, id_dim), ``text`` (B, t), ``image`` (B, m), ``features``
    (B, 15) and ``release`` (B, RELEASE_WAVES), those that it reads; output ``vector`` (B, d). A new
    item has no image vector: its image is zeros, which the tower has learned to read as none."""
    unknown_id: FloatArray
    """``(id_dim,)`` the learned row of the unknown id."""
    features: ItemFeatures
    """The fitted statistics; its ``values`` are empty."""
    releases: ReleaseOrder = field(default_factory=lambda: ReleaseOrder(np.zeros(0)))
    """When the items came out that training knows."""
    text_fields: TextFields = "title"
    """What an item's text is."""
    history_projection: FloatArray | None = None
    """``(t, h)`` from an item's text to what the user tower reads of it, or None."""
    history_is_vector: bool = False
    """Whether what the user tower reads of an item is the item tower's vector of it."""
    vector_projection: FloatArray | None = None
    """``(d, k)`` from the item tower's vector to what stands in the index, or None where it is that
    itself."""
    text: FloatArray | None = None
    """``(items, t)`` text vectors of the bundle's items, for search, or None."""
    text_model: TextModel | None = None
    """The encoder where it is one that needs weights, or None."""
    vector_scale: float = 1.0
    """What the vector of a new item is multiplied by where the model has no factors; see
    `twotower.bundle.manifest.FoldInInfo` where it has."""
    bars: ListBars | None = None
    """What bounds how often a new item is recommended, or None."""

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
