"""History encoders (GRU, Transformer): a padded sequence of item vectors to one vector."""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from twotower.config import Config


class GRUConfig(Config):
    """A gated recurrent unit over the newest items (Hidasi et al., *GRU4Rec*, ICLR 2016)."""

    kind: Literal["gru"] = "gru"
    length: int = Field(20, ge=1)
    """Newest items that are read."""
    hidden_dim: int = Field(64, ge=1)
    """Width of the state, and of the item vectors that it reads."""

    def build(self) -> "HistoryModule":
        """Make the encoder."""
        return GRUEncoder(self)


class TransformerConfig(Config):
    """Causal self-attention over the newest items (Kang and McAuley, *SASRec*, ICDM 2018)."""

    kind: Literal["transformer"] = "transformer"
    length: int = Field(50, ge=1)
    """Newest items that are read."""
    hidden_dim: int = Field(64, ge=2)
    """Width of the state, and of the item vectors that it reads."""
    layers: int = Field(1, ge=1)
    """Blocks of attention and feed-forward layers."""
    heads: int = Field(2, ge=1)
    """Attention heads."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Share of inputs and activations dropped in training."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "TransformerConfig":
        if self.hidden_dim % self.heads:
            raise ValueError(
                f"hidden_dim must be a multiple of heads, got {self.hidden_dim} and {self.heads}"
            )
        return self

    def build(self) -> "HistoryModule":
        """Make the encoder."""
        return TransformerEncoder(self)


HistoryEncoder = Annotated[GRUConfig | TransformerConfig, Field(discriminator="kind")]
"""All history encoders; to add one, write two classes in this file and name its config here."""


class Dropout(nn.Module):
    """``nn.Dropout`` that decides eight entries per random number on a CPU.

    PyTorch draws one number per entry there, which takes a tenth of a training step. The share is
    rounded to a multiple of 1/256.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """In training, zero a share of the entries and scale up the others."""
        hidden = round(self.share * 256)
        if not self.training or hidden == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.share)
        drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = drawn.view(torch.uint8)[: x.numel()] >= hidden
        return x * (kept.view(x.shape) * (256 / (256 - hidden)))


class HistoryModule(nn.Module):
    """Causal encoder: each state depends only on its own and earlier items."""

    def states(self, history: Tensor) -> Tensor:
        """``(B, L, h)`` vectors, oldest first, to ``(B, L, h)``: the state after each item."""
        raise NotImplementedError

    def forward(self, history: Tensor, lengths: Tensor) -> Tensor:
        """``(B, L, h)`` vectors, L at least 1, oldest first, and ``(B,)`` lengths to ``(B, h)``.

        Positions beyond ``lengths`` are never read: padding needs no packing, and the same graph
        exports to ONNX. The result is zero for an empty history.
        """
        return self.newest(history, lengths) * (lengths > 0)[:, None]

    def newest(self, history: Tensor, lengths: Tensor) -> Tensor:
        """``(B, h)`` of `states` at the newest item; undefined for an empty history."""
        return _newest(self.states(history), lengths)


class GRUEncoder(HistoryModule):
    """The states of a GRU."""

    def __init__(self, config: GRUConfig) -> None:
        super().__init__()
        self.gru = nn.GRU(config.hidden_dim, config.hidden_dim, batch_first=True)

    def states(self, history: Tensor) -> Tensor:
        """``(B, L, h)`` to ``(B, L, h)``."""
        states: Tensor = self.gru(history)[0]
        return states


class TransformerEncoder(HistoryModule):
    """Position embeddings, causal attention blocks, and a final normalisation."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.positions = nn.Parameter(0.05 * torch.randn(config.length, config.hidden_dim))
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.Sequential(*(_Block(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.hidden_dim)

    def states(self, history: Tensor) -> Tensor:
        """``(B, L, h)`` to ``(B, L, h)``."""
        states: Tensor = self.norm(self.blocks(self._placed(history)))
        return states

    def newest(self, history: Tensor, lengths: Tensor) -> Tensor:
        """As the base class; the last block computes the newest state only."""
        states = self._placed(history)
        *before, last = self.blocks
        for block in before:
            states = block(states)
        newest: Tensor = self.norm(last.newest(states, lengths))  # type: ignore[operator]
        return newest

    def _placed(self, history: Tensor) -> Tensor:
        placed: Tensor = self.dropout(history + self.positions[: history.shape[1]])
        return placed


class _Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each pre-normalised."""

    parts: Tensor
    """``(heads, h)`` 1 where a dimension belongs to a head, else 0."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.hidden_dim
        self.width, self.heads = width, config.heads
        self.scale: float = (width // config.heads) ** -0.5
        parts = torch.eye(config.heads).repeat_interleave(width // config.heads, dim=1)
        self.register_buffer("parts", parts, persistent=False)
        self.attention_norm = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(2 * width, width),
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, L, h)`` to ``(B, L, h)``."""
        normed = self.attention_norm(x)
        query, key, value = self._heads(self.attention_in(normed))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = mixed.transpose(1, 2).flatten(2)
        return self._fed(x + self.dropout(self.attention_out(mixed)))

    def newest(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``(B, L, h)`` and ``(B,)`` lengths to ``(B, h)``: `forward` at the newest item alone.

        One attention query instead of L, and one row for the feed-forward layer, which cuts
        serving latency. Heads are separated by zeroing each query outside its head's dimensions:
        reshaping would export many extra steps that compute shapes.
        """
        own, width = _newest(x, lengths), self.width
        weight, bias = self.attention_in.weight, self.attention_in.bias
        asked = F.linear(self.attention_norm(own), weight[:width], bias[:width])
        offered = F.linear(self.attention_norm(x), weight[width:], bias[width:])
        key, value = torch.split(offered, width, dim=-1)
        query = asked[:, None] * self.parts  # (B, heads, h)
        behind = torch.arange(x.shape[1], device=x.device) >= lengths.clamp(min=1)[:, None]
        mixed = _attended(query, key, value, behind[:, None], self.scale)  # (B, heads, h)
        mixed = (mixed * self.parts).sum(dim=1)
        return self._fed(own + self.dropout(self.attention_out(mixed)))

    def _fed(self, x: Tensor) -> Tensor:
        states: Tensor = x + self.dropout(self.feed_forward(x))
        return states

    def _heads(self, x: Tensor) -> Tensor:
        """``(B, L, 3 h)`` to ``(3, B, heads, L, h / heads)``: queries, keys and values."""
        rows, length, _ = x.shape
        return x.reshape(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)


def _attended(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, scale: float) -> Tensor:
    """Attention of queries ``(…, Q, w)`` over ``(…, L, w)``; ``hidden`` positions are masked."""
    scores = query @ key.transpose(-2, -1) * scale
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ value


def _newest(states: Tensor, lengths: Tensor) -> Tensor:
    """The last of ``(B,)`` lengths in ``(B, L, h)``, as ``(B, h)``; the first for length 0.

    A product with a one-hot vector, which is exact and exports as fewer steps than indexing.
    """
    last = (lengths - 1).clamp(min=0)[:, None]
    is_last = torch.arange(states.shape[1], device=states.device) == last
    return (is_last.to(states.dtype)[:, None] @ states)[:, 0]
