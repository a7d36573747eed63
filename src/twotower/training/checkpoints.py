"""Checkpoints without pickle: tensors in safetensors, the rest in JSON, all or nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from twotower.data.atomic import atomic_folder
from twotower.errors import ArtefactError


def save_checkpoint(
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    state: Mapping[str, Any],
) -> None:
    """Write modules, each to a file of its name, optimiser and a JSON-able ``state``."""
    slots = optimiser.state_dict()["state"]
    moments = {
        f"{parameter}.{name}": value
        for parameter, values in slots.items()
        for name, value in values.items()
    }
    with atomic_folder(folder) as temporary:
        for name, module in modules.items():
            save_file(_contiguous(module.state_dict()), temporary / f"{name}.safetensors")
        save_file(_contiguous(moments), temporary / "optimiser.safetensors")
        (temporary / "state.json").write_text(json.dumps(dict(state)))


def read_state(folder: Path) -> dict[str, Any]:
    """The state alone; `ArtefactError` where it is missing or broken."""
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error) from error
    return state


def load_tensors(
    folder: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer
) -> None:
    """Restore modules and optimiser in place.

    Raises
    ------
    ArtefactError
        Where a file is missing, broken, or of another model.
    """
    try:
        for name, module in modules.items():
            module.load_state_dict(load_file(folder / f"{name}.safetensors"))
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in load_file(folder / "optimiser.safetensors").items():
            parameter, name = key.split(".", 1)
            slots.setdefault(int(parameter), {})[name] = value
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise _unreadable(folder, error) from error
    optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})


def _unreadable(folder: Path, error: Exception) -> ArtefactError:
    return ArtefactError(f"checkpoint {folder} cannot be read ({error}); delete it to train afresh")


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
