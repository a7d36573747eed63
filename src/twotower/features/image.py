"""Image encoders: their protocol, the thumbnail encoder, and lookup by name."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from twotower.features.pretrained import require, unit_rows
from twotower.registry import Registry
from twotower.types import FloatArray

if TYPE_CHECKING:
    from PIL.Image import Image


class ImageEncoder(Protocol):
    """Turns pictures into unit vectors."""

    @property
    def name(self) -> str:
        """Names the encoder and its weights: equal names give equal vectors."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    def encode(self, images: Sequence["Image"]) -> FloatArray:
        """``(images, dim)`` float32 of RGB images of any size, L2-normalised."""


class Thumbnail:
    """Image encoder of 8 x 8 pixels: the colours and their places, not what they show.

    Serves tests and small installations: it needs Pillow alone and costs next to nothing.
    """

    name: Final = "thumbnail-1"
    dim: Final = 192

    def __init__(self) -> None:
        require("the thumbnail image encoder", ("PIL",), "run pip install 'twotower[image]'")

    def encode(self, images: Sequence["Image"]) -> FloatArray:
        """``(images, 192)`` float32 of RGB images of any size, L2-normalised."""
        from PIL import Image

        vectors = np.zeros((len(images), self.dim), dtype=np.float32)
        for row, image in enumerate(images):
            pixels = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=np.float32)
            # From mid-grey, which no eight-bit pixel is: so no picture is the zero vector.
            vectors[row] = pixels.ravel() - 127.5
        return unit_rows(vectors)


IMAGE_ENCODERS: Final[Registry[Callable[[], ImageEncoder]]] = Registry(
    "twotower.image_encoders",
    "image encoder",
    {
        "efficientnet-lite0": "twotower.features.efficientnet:EfficientNetLite0",
        "clip": "twotower.features.clip:CLIP",
        "thumbnail": "twotower.features.image:Thumbnail",
    },
)
"""Image encoders by name; other packages add theirs by entry points."""


def image_encoder(name: str) -> ImageEncoder:
    """The encoder of that name; `InputError` where there is none."""
    return IMAGE_ENCODERS.find(name)()
