"""CLIP image encoder (ViT-B/32, through transformers)."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from twotower.data.digest import file_sha256
from twotower.errors import InputError
from twotower.features.pretrained import quiet_loading, require, unit_rows
from twotower.types import FloatArray

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER_VARIABLE: Final = "TWOTOWER_CLIP"
"""Environment variable with the folder of a CLIP ViT-B/32 in transformers' format."""
HUB_NAME: Final = "openai/clip-vit-base-patch32"
"""Where CLIP's weights come from when no folder is given."""


class CLIP:
    """The image side of CLIP ViT-B/32, through transformers and its Pillow image processor.

    Parameters
    ----------
    path
        A folder with ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``;
        None for the one that `FOLDER_VARIABLE` names, and where that is not set, for the hub's
        `HUB_NAME`, which is fetched at the first call of `encode`.

    Raises
    ------
    InputError
        Where the packages are not installed or the folder lacks a file; in `encode`, where
        the weights cannot be loaded.

    References
    ----------
    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
    ICML 2021.
    """

    dim: Final = 512

    def __init__(self, path: Path | None = None, batch_size: int = 32, device: str = "cpu") -> None:
        require(
            "the clip image encoder",
            ("PIL", "transformers"),
            "run pip install 'twotower[image,text]', or choose 'efficientnet-lite0'",
        )
        given = path or os.environ.get(FOLDER_VARIABLE)
        self.path = Path(given) if given else None
        self.batch_size = batch_size
        self.device = device
        for file in ("config.json", "model.safetensors", "preprocessor_config.json"):
            if self.path is not None and not (self.path / file).is_file():
                raise InputError(
                    f"{self.path} is not the folder of a CLIP model: it has no {file}",
                    "give a folder that transformers' save_pretrained wrote",
                )

    @cached_property
    def name(self) -> str:
        """The hub's name, or that of the weights file's checksum."""
        if self.path is None:
            return HUB_NAME
        return f"clip-{file_sha256(self.path / 'model.safetensors')[:16]}"

    def encode(self, images: Sequence["Image"]) -> FloatArray:
        """``(images, 512)`` float32 of RGB images of any size, L2-normalised."""
        import torch

        processor, model = self._loaded
        vectors = np.zeros((len(images), self.dim), dtype=np.float32)
        for start in range(0, len(images), self.batch_size):
            chosen = list(images[start : start + self.batch_size])
            inputs = processor(images=chosen, return_tensors="pt").to(self.device)
            with torch.inference_mode():
                projected = model.get_image_features(**inputs).pooler_output  # (B, 512)
            vectors[start : start + len(chosen)] = projected.cpu().numpy()
        return unit_rows(vectors)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import CLIPImageProcessorPil, CLIPModel

        source, local = str(self.path or HUB_NAME), self.path is not None
        try:
            with quiet_loading():
                processor = CLIPImageProcessorPil.from_pretrained(source, local_files_only=local)
                model: Any = CLIPModel.from_pretrained(
                    source, local_files_only=local, use_safetensors=True
                )
        except (OSError, ValueError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"the weights of CLIP cannot be loaded from {source}: {first}",
                f"set {FOLDER_VARIABLE} to a folder with them, or choose 'efficientnet-lite0'",
            ) from error
        if model.config.projection_dim != self.dim:
            raise InputError(
                f"{source} gives vectors of length {model.config.projection_dim}, "
                f"CLIP ViT-B/32 of {self.dim}",
                "give a ViT-B/32",
            )
        return processor, model.to(self.device).eval()
