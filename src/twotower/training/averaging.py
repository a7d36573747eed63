"""Exponential moving average of a module's parameters."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_FIRST_STEPS = 10
"""Until the decay takes over, the average covers about a tenth of the steps so far, which soon
forgets the random initial weights."""


class WeightAverage(nn.Module):
    r"""Exponential moving average of the weights over past steps (Polyak averaging).

    After step ``t`` each parameter's average moves to its value by the share
    :math:`1 - \min(\beta, (1 + t) / (10 + t))`. The average is validated and kept; training
    continues with the parameters themselves. Averaging cancels the noise of single steps, as
    decaying the step size to 0 does, but the number of steps need not be planned.

    Its buffers are part of a checkpoint.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self._names = {name: name.replace(".", "|") for name, _ in module.named_parameters()}
        for name, parameter in module.named_parameters():
            self.register_buffer(self._names[name], parameter.detach().clone())

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Include the weights after ``step`` steps, counted from 1."""
        share = 1 - min(self._decay, (1 + step) / (_FIRST_STEPS + step))
        parameters = dict(module.named_parameters())
        averages = [self._average(name) for name in parameters]
        torch._foreach_lerp_(averages, [value.detach() for value in parameters.values()], share)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Context in which the module has the averaged weights."""
        parameters = dict(module.named_parameters())
        kept = {name: value.detach().clone() for name, value in parameters.items()}
        self._set(module, {name: self._average(name) for name in parameters})
        try:
            yield
        finally:
            self._set(module, kept)

    @torch.no_grad()
    def _set(self, module: nn.Module, values: dict[str, Tensor]) -> None:
        for name, parameter in module.named_parameters():
            parameter.copy_(values[name])

    def _average(self, name: str) -> Tensor:
        average: Tensor = getattr(self, self._names[name])
        return average
