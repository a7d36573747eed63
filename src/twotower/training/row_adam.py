"""Sparse Adam: a step costs the rows of a table that it read, not the whole table."""

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_WINDOW: Final = 256
"""Steps after which what is left of a momentum moves nothing: 0.9 to this power is 2e-12."""


class RowAdam(torch.optim.Adam):
    r"""Adam (Kingma and Ba, ICLR 2015) with deferred updates of embedding table rows.

    A step of Adam moves every row of a table by its remaining momentum, even without a gradient.
    With 100,000 users and 256 of them in a batch that is most of the cost of a step. But until its
    next gradient a row moves along a geometric series: with
    :math:`\beta_1^i m` and :math:`\beta_2^i v` after :math:`i` steps, it has moved by

    .. math:: \frac{m}{\sqrt v + \epsilon'} \sum_i c_{s + i}
              \Big(\frac{\beta_1}{\sqrt{\beta_2}}\Big)^i, \qquad
              c_t = \alpha_t \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}

    since its last step :math:`s`. So a row is moved when it is next read, by a hook on the table,
    and all rows by `settle`. The result is Adam's but for rounding and for :math:`\epsilon`, whose
    bias correction is that of step :math:`s`. (This is not the 'lazy' or 'sparse' Adam of other
    libraries, which forgets those moves.)

    Parameters
    ----------
    module
        All its parameters are trained. A table is an ``nn.Embedding`` with ``sparse=True``, read
        by calling it; before its ``weight`` is read in another way, `settle` is due.
    lr
        Step size; may be changed per parameter group between steps, as in PyTorch.
    """

    def __init__(self, module: nn.Module, lr: float) -> None:
        # The fused step walks each parameter once; the default takes about four times as long.
        super().__init__(module.parameters(), lr=lr, fused=True)
        self._tables = [
            table for table in module.modules() if isinstance(table, nn.Embedding) and table.sparse
        ]
        self._hooks: list[RemovableHandle] = [
            table.register_forward_pre_hook(self._before_reading) for table in self._tables
        ]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; the loss of ``closure``, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for table in self._tables:
            gradient, table.weight.grad = table.weight.grad, None
            if gradient is not None:
                gradient = gradient.coalesce()
                self._catch_up(table.weight, gradient.indices()[0])  # of rows that others read
                self._step_rows(table.weight, gradient)
        super().step()
        return loss

    @torch.no_grad()
    def settle(self) -> None:
        """Bring all rows of all tables up to date."""
        for table in self._tables:
            self._catch_up(table.weight, None)

    def release(self) -> None:
        """Settle and remove the hooks, after training."""
        self.settle()
        for hook in self._hooks:
            hook.remove()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in PyTorch, which makes floats of all numbers that belong to a parameter."""
        super().load_state_dict(state_dict)
        for table in self._tables:
            state = self.state.get(table.weight)
            if state:
                state["last"] = state["last"].long()

    @torch.no_grad()
    def _before_reading(self, table: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        weight = table.weight
        assert isinstance(weight, Tensor)
        self._catch_up(weight, torch.unique(inputs[0]))

    def _catch_up(self, weight: Tensor, rows: Tensor | None) -> None:
        """Apply to rows the momentum updates deferred since their last gradient."""
        state = self.state.get(weight)
        if not state:
            return
        now, last = int(state["step"]), state["last"]
        behind = last < now if rows is None else last[rows] < now
        rows = behind.nonzero()[:, 0] if rows is None else rows[behind]
        if not len(rows):
            return
        group = self.param_groups[0]
        (beta1, beta2), since = group["betas"], last[rows]
        first, second = state["exp_avg"][rows], state["exp_avg_sq"][rows]
        epsilon = group["eps"] * (1 - beta2 ** since.clamp(min=1).float()).sqrt()
        moved = first / (second.sqrt() + epsilon[:, None]) * state["tail"][since][:, None]
        weight[rows] -= moved
        passed = (now - since).float()[:, None]
        state["exp_avg"][rows] = first * beta1**passed
        state["exp_avg_sq"][rows] = second * beta2**passed
        last[rows] = now

    def _step_rows(self, weight: Tensor, gradient: Tensor) -> None:
        """Adam's step for the rows of a coalesced sparse gradient, which are up to date."""
        state = self._state_of(weight)
        group = self.param_groups[0]
        beta1, beta2 = group["betas"]
        state["step"] += 1
        now = int(state["step"])
        size = group["lr"] * (1 - beta2**now) ** 0.5 / (1 - beta1**now)
        rows, values = gradient.indices()[0], gradient.values()
        first = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        second = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        epsilon = group["eps"] * (1 - beta2**now) ** 0.5
        weight[rows] -= size * first / (second.sqrt() + epsilon)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = first, second
        state["last"][rows] = now
        # Contribution of this step to a row whose last gradient came k steps ago.
        begin = max(0, now - _WINDOW)
        if now >= len(state["tail"]):
            state["tail"] = torch.cat([state["tail"], torch.zeros_like(state["tail"])])
        ago = torch.arange(now - begin, 0, -1, device=weight.device)
        state["tail"][begin:now] += size * (beta1 / beta2**0.5) ** ago

    def _state_of(self, weight: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
            # The step of a row's last gradient, or up to which it has caught up.
            state["last"] = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)
            # ``tail[s]``: the sum of the series, so far, for a row whose last step is s.
            state["tail"] = torch.zeros(_WINDOW, device=weight.device)
        return state
