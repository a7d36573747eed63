"""Reading (block by block) and writing a bundle's arrays as safetensors files."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import DTypeLike
from safetensors import safe_open
from safetensors.numpy import save

from twotower.bundle.append_only import roomy
from twotower.bundle.throttle import Pause, no_pause
from twotower.errors import InputError
from twotower.types import Array

_BLOCK_BYTES: Final = 1 << 19


def read_arrays(
    path: Path,
    dtype: DTypeLike | None = None,
    *,
    finite: bool = False,
    with_nan: Collection[str] = (),
    pause: Pause = no_pause,
) -> dict[str, Array]:
    """The arrays of a safetensors file by name, `roomy`, converted to ``dtype`` if given.

    With ``finite``, NaN or infinity raises `InputError`, except NaN in the arrays ``with_nan``,
    where it stands for a missing value.

    Like `safetensors.numpy.load_file`, but block by block with a ``pause`` after each:
    `load_file` holds the GIL until the whole file is read, which would block every request
    during a reload.
    """
    arrays = {}
    with safe_open(path, "numpy") as file:
        for name in file.keys():  # noqa: SIM118 - a file is no mapping
            part = file.get_slice(name)
            rows, *shape = part.get_shape() or [0]
            if rows * math.prod(shape) == 0:
                arrays[name] = np.asarray(file.get_tensor(name), dtype)
                continue
            first = part[:1]
            step = max(1, _BLOCK_BYTES // first.nbytes)
            array = arrays[name] = roomy((rows, *shape), dtype or first.dtype)
            for start in range(0, rows, step):
                block = array[start : start + step]
                block[:] = part[start : min(start + step, rows)]
                if finite and block.dtype.kind == "f":
                    bad = np.isinf(block) if name in with_nan else ~np.isfinite(block)
                    if bad.any():
                        raise InputError(f"{name} holds NaN or infinity")
                pause()
    return arrays


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name to a safetensors file."""
    # Not `save_file`: its files are readable by their owner only.
    path.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
