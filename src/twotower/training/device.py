"""Device and precision of training."""

from typing import Final, Literal, get_args

import torch

from twotower.errors import InputError
from twotower.training.variant import Variant

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["32", "bf16"]

_FABRIC_NAMES: Final = {"32": "32-true", "bf16": "bf16-mixed"}


def on_device(variant: Variant, device: str | None, precision: str | None = None) -> Variant:
    """The variant trained on a device and in a precision; None leaves what it has.

    ``auto`` takes CUDA or MPS where there is one. ``bf16`` multiplies matrices in bfloat16 and
    keeps weights and the optimiser in float32. Least squares stays in NumPy on the CPU.

    Raises
    ------
    InputError
        Where there is no such device or precision.
    """
    training = variant.training
    if device is not None:
        training = training.vary(accelerator=_available(device))
    if precision is not None:
        if precision not in get_args(Precision):
            raise InputError(
                f"unknown precision {precision!r}", f"pass one of {', '.join(get_args(Precision))}"
            )
        training = training.vary(precision=_FABRIC_NAMES[precision])
    return variant.vary(training=training)


def _available(device: str) -> str:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if device not in there:
        raise InputError(f"unknown device {device!r}", f"pass one of {', '.join(get_args(Device))}")
    if not there[device]:
        found = ", ".join(name for name, has in there.items() if has)
        raise InputError(
            f"device {device!r} is not there: PyTorch {torch.__version__} finds {found}",
            "pass --device auto, or install a build of PyTorch for that device",
        )
    return device


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
