"""Re-ranking network: a small MLP over the second stage's signals (NumPy)."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from twotower.errors import InputError
from twotower.types import Array, FloatArray


@dataclass(frozen=True)
class Network:
    r"""Scores a candidate by its signals and the length of the history.

    A weighted sum cannot express that title similarity matters less where there are strong links,
    or for a long history. Let ``x`` be the ``k`` signals and the log of 1 + the number of items in
    the history, each clipped to its range at fitting time and standardised. The score is
    :math:`w^\top x + v^\top \rho(B \rho(A x + a) + b)`, where :math:`\rho` is the positive part
    (ReLU). It is fitted by `twotower.workflow.reranking_network`.
    """

    low: FloatArray
    high: FloatArray
    """``(k + 1,)`` float32, the ranges. Where they are equal, the input is constant and unused."""
    center: FloatArray
    spread: FloatArray
    """``(k + 1,)`` float32 means and standard deviations."""
    direct: FloatArray
    """``(k + 1,)`` float32, ``w``."""
    first: FloatArray
    first_bias: FloatArray
    """``(k + 1, h)`` and ``(h,)`` float32, ``A`` and ``a``."""
    second: FloatArray
    second_bias: FloatArray
    """``(h, h)`` and ``(h,)`` float32, ``B`` and ``b``."""
    last: FloatArray
    """``(h,)`` float32, ``v``."""

    def __post_init__(self) -> None:
        inputs, hidden = self.first.shape
        expected = {
            **dict.fromkeys(("low", "high", "center", "spread", "direct"), (inputs,)),
            **dict.fromkeys(("first_bias", "second_bias", "last"), (hidden,)),
            "second": (hidden, hidden),
        }
        for name, shape in expected.items():
            got = getattr(self, name).shape
            if got != shape:
                raise InputError(f"{name} of a network must have shape {shape}, got {got}")
        if not (self.spread > 0).all():
            raise InputError("spread of a network must be above 0")

    @property
    def reads(self) -> Array:
        """``(k + 1,)`` whether each input is used."""
        return self.low < self.high

    def standardised(self, signals: FloatArray, length: int) -> FloatArray:
        """``(candidates, k + 1)`` standardised inputs from ``(candidates, k)`` signals."""
        inputs = np.empty((len(signals), len(self.low)), dtype=np.float32)
        inputs[:, :-1] = signals
        inputs[:, -1] = np.log1p(length)
        np.clip(inputs, self.low, self.high, out=inputs)
        inputs -= self.center
        inputs /= self.spread
        return inputs

    def scores(self, signals: FloatArray, length: int) -> FloatArray:
        """``(candidates,)`` float32 from ``(candidates, k)`` signals and the history's length."""
        inputs = self.standardised(signals, length)
        hidden: FloatArray = inputs @ self.first
        hidden += self.first_bias
        np.maximum(hidden, 0, out=hidden)
        hidden = np.matmul(hidden, self.second)
        hidden += self.second_bias
        np.maximum(hidden, 0, out=hidden)
        scores: FloatArray = inputs @ self.direct + hidden @ self.last
        return scores

    def to_arrays(self) -> dict[str, Array]:
        """Everything as NumPy arrays, under ``network_<name>``."""
        return {f"network_{each.name}": getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Self | None:
        """The inverse of `to_arrays`; None where the arrays have no network."""
        if "network_first" not in arrays:
            return None
        return cls(**{each.name: arrays[f"network_{each.name}"] for each in fields(cls)})
