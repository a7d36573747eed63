"""Export of a tower to ONNX, so that serving needs no torch."""

import io
import warnings
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from twotower.models.base import evaluating

OPSET: Final = 17
FREE: Final[Mapping[str, str]] = {
    "history": "positions", "gaps": "positions", "ids": "pieces", "mask": "pieces",
}  # fmt: skip
"""Inputs whose second dimension is dynamic too → name of that dimension."""


def exported(tower: nn.Module, example: Mapping[str, Tensor]) -> bytes:
    """A tower as an ONNX model with the output ``vector (B, d)``.

    Parameters
    ----------
    example
        Inputs by name, in the order of the tower's `forward`, with one row each. The exported
        model has a dynamic number of rows, and a dynamic second dimension for inputs in `FREE`.
    """
    axes: dict[str, dict[int, str]] = {name: {0: "batch"} for name in (*example, "vector")}
    for name in axes.keys() & FREE.keys():
        axes[name][1] = FREE[name]
    buffer = io.BytesIO()
    with evaluating(tower), warnings.catch_warnings():
        # The tracing exporter is deprecated but needs no further package; the new one does.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            tower,
            tuple(example.values()),
            buffer,  # type: ignore[arg-type]
            input_names=list(example),
            output_names=["vector"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()
