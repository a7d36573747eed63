"""Fitting of the second-stage network to validation candidates."""

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twotower.bundle.network import Network
from twotower.types import Array, FloatArray

HIDDEN: Final = 32
DROPOUT: Final = 0.2
BATCH: Final = 128
EPOCHS: Final = 50
MOST_STEPS: Final = 1500
"""Steps, or `EPOCHS` where those are fewer."""
LEARNING_RATE: Final = 3e-3
DECAY: Final = 1e-3


class _Layers(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.direct = nn.Linear(inputs, 1, bias=False)
        self.first = nn.Linear(inputs, HIDDEN)
        self.second = nn.Linear(HIDDEN, HIDDEN)
        self.last = nn.Linear(HIDDEN, 1, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(self.first(inputs)) * self._kept(len(inputs))
        hidden = F.relu(self.second(hidden)) * self._kept(len(inputs))
        scores: Tensor = (self.direct(inputs) + self.last(hidden))[..., 0]
        return scores

    def _kept(self, queries: int) -> Tensor:
        """``(queries, 1, HIDDEN)`` dropout mask, the same for all candidates of a query.

        A mask per candidate would take as long as the layers.
        """
        return F.dropout(torch.ones(queries, 1, HIDDEN), DROPOUT, self.training)


def fitted_network(
    signals: FloatArray, lengths: Array, positives: Array, weights: FloatArray
) -> Network:
    """A network fitted by softmax cross-entropy of each query's held-out item among candidates.

    It is initialised to the weighted sum. Trained by AdamW (Loshchilov & Hutter, ICLR 2019), with
    dropout and cosine decay of the step size to 0.

    Parameters
    ----------
    signals
        ``(queries, candidates, k)`` float32.
    lengths
        ``(queries,)`` items in the history.
    positives
        ``(queries,)`` place of the item among the candidates.
    weights
        Initial weights of the first signals; those of the others start at 0.
    """
    context = np.log1p(lengths, dtype=np.float32)
    low = np.append(signals.min(axis=(0, 1)), context.min()).astype(np.float32)
    high = np.append(signals.max(axis=(0, 1)), context.max()).astype(np.float32)
    center = np.append(signals.mean(axis=(0, 1)), context.mean()).astype(np.float32)
    spread = np.append(signals.std(axis=(0, 1)), context.std()).astype(np.float32)
    spread = np.where(low < high, np.maximum(spread, 1e-6), 1).astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = _Layers(len(low))
        with torch.no_grad():
            layers.last.weight.zero_()
            layers.direct.weight.zero_()
            layers.direct.weight[0, : len(weights)] = torch.from_numpy(
                weights * spread[: len(weights)]
            )
        inputs = np.empty((*signals.shape[:2], len(low)), dtype=np.float32)
        inputs[..., :-1] = signals
        inputs[..., -1] = context[:, None]
        _train(layers, torch.from_numpy((inputs - center) / spread), torch.from_numpy(positives))
    values = {name: value.detach().numpy() for name, value in layers.named_parameters()}
    return Network(
        low=low,
        high=high,
        center=center,
        spread=spread,
        direct=values["direct.weight"][0].copy(),
        first=values["first.weight"].T.copy(),
        first_bias=values["first.bias"],
        second=values["second.weight"].T.copy(),
        second_bias=values["second.bias"],
        last=values["last.weight"][0].copy(),
    )


def _train(layers: _Layers, inputs: Tensor, positives: Tensor) -> None:
    steps = min(MOST_STEPS, EPOCHS * -(-len(inputs) // BATCH))
    optimiser = torch.optim.AdamW(layers.parameters(), lr=LEARNING_RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(inputs))])
        batch, order = order[:BATCH], order[BATCH:]
        optimiser.zero_grad()
        F.cross_entropy(layers(inputs[batch]), positives[batch]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
