"""Export of the user tower to ONNX, so that serving needs no torch."""

import io
import warnings

import torch

from twotower.features import USER_FEATURES
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
    buffer = io.BytesIO()
    was_training = module.training
    module.eval()
    with warnings.catch_warnings():
        # The tracing exporter is deprecated but needs no further package; the new one does.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.user_tower,
            example,
            buffer,  # type: ignore[arg-type]
            input_names=list(names),
            output_names=["vector"],
            dynamic_axes={
                **{name: {0: "batch"} for name in (*names, "vector")},
                "history": {0: "batch", 1: "positions"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
    module.train(was_training)
    return buffer.getvalue()
