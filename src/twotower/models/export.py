"""Export of the towers to ONNX, so that serving needs no torch."""

import io
import warnings

import torch
from torch import Tensor, nn

from twotower.features import ITEM_FEATURES, RELEASE_WAVES, USER_FEATURES
from twotower.models.base import evaluating
from twotower.models.sequence import SequenceTower
from twotower.models.two_tower import TwoTower

OPSET = 17


def export_user_tower(module: TwoTower) -> bytes:
    """The user tower as an ONNX model.

    Inputs ``user (B, id_dim)``, ``history (B, L, h)``, ``lengths (B,)`` int64 and
    ``features (B, F)``, as `UserTower.forward` takes them; output ``vector (B, d)``. An input
    that the tower does not read is not declared. ``B`` and ``L`` are free.
    """
    config = module.config.user_tower
    width = 0 if config.history is None else config.history.hidden_dim
    # One row: the exporter ties a GRU's initial state to the batch size that it traces.
    example = (
        torch.zeros(1, config.id_dim),
        torch.zeros(1, 2, width),
        torch.ones(1, dtype=torch.int64),
        torch.zeros(1, len(USER_FEATURES)),
    )
    names = ("user", "history", "lengths", "features")
    axes: dict[str, dict[int, str]] = {name: {0: "batch"} for name in (*names, "vector")}
    axes["history"][1] = "positions"
    return _exported(module.user_tower, example, names, axes)


def export_item_tower(module: TwoTower) -> bytes:
    """The item tower as an ONNX model, for items that come after training.

    Inputs ``item (B, id_dim)``, ``text (B, t)``, ``image (B, m)`` and ``features (B, F)``, as
    `ItemTower.forward` takes them; output ``vector (B, d)``. An input that the tower does not
    read is not declared.
    """
    example = (
        torch.zeros(1, module.config.item_tower.id_dim),
        torch.zeros(1, module.item_text.shape[1]),
        torch.zeros(1, module.item_image.shape[1]),
        torch.zeros(1, len(ITEM_FEATURES)),
    )
    names = ("item", "text", "image", "features")
    axes = {name: {0: "batch"} for name in (*names, "vector")}
    return _exported(module.item_tower, example, names, axes)


def export_sequence_user_tower(module: SequenceTower) -> bytes:
    """The user tower of a sequence model: inputs ``history (B, L, d)`` and ``lengths (B,)``.

    Where the model has a projection or a weight of the towers' part, it is the last step.
    """
    example = (torch.zeros(1, 2, module.config.embedding_dim), torch.ones(1, dtype=torch.int64))
    axes: dict[str, dict[int, str]] = {name: {0: "batch"} for name in ("lengths", "vector")}
    axes["history"] = {0: "batch", 1: "positions"}
    tower: nn.Module = module.user_tower
    weight = float(module.tower_weight)
    if module.projected:
        tower = _Mapped(tower, weight * module.user_map)
    elif weight != 1:
        tower = _Mapped(tower, weight * torch.eye(module.config.embedding_dim))
    return _exported(tower, example, ("history", "lengths"), axes)


def export_sequence_item_tower(module: SequenceTower) -> bytes:
    """The item tower of a sequence model: inputs ``item``, ``text``, ``features``, ``release``.

    Its vectors are what the user tower reads; a projection comes after it.
    """
    example = (
        torch.zeros(1, module.config.embedding_dim),
        torch.zeros(1, module.item_tower.text.input_dim),
        torch.zeros(1, len(ITEM_FEATURES)),
        torch.zeros(1, RELEASE_WAVES),
    )
    names = ("item", "text", "features", "release")
    axes = {name: {0: "batch"} for name in (*names, "vector")}
    return _exported(module.item_tower, example, names, axes)


class _Mapped(nn.Module):
    projection: Tensor

    def __init__(self, tower: nn.Module, projection: Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("projection", projection)

    def forward(self, *inputs: Tensor) -> Tensor:
        vectors: Tensor = self.tower(*inputs)
        return vectors @ self.projection


def _exported(
    tower: nn.Module,
    example: tuple[Tensor, ...],
    names: tuple[str, ...],
    axes: dict[str, dict[int, str]],
) -> bytes:
    buffer = io.BytesIO()
    with evaluating(tower), warnings.catch_warnings():
        # The tracing exporter is deprecated but needs no further package; the new one does.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            tower,
            example,
            buffer,  # type: ignore[arg-type]
            input_names=list(names),
            output_names=["vector"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()
