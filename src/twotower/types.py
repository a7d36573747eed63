"""Array aliases, and the type of `map`. Nothing here imports torch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
FloatArray: TypeAlias = NDArray[np.float32]
DoubleArray: TypeAlias = NDArray[np.float64]
IndexArray: TypeAlias = NDArray[np.int32]
OffsetArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

_T = TypeVar("_T")
_R = TypeVar("_R")


class Mapper(Protocol):
    """What the built-in `map` is: results in the order of the work, each when it is asked for."""

    def __call__(self, function: Callable[[_T], _R], work: Sequence[_T], /) -> Iterator[_R]:
        """Apply ``function`` to every element of ``work``."""
        ...
