"""History encoders: a padded sequence of item vectors becomes one vector."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from twotower.config import Config


class GRUConfig(Config):
    """A gated recurrent unit over the newest items (Hidasi et al., *GRU4Rec*, ICLR 2016)."""

    kind: Literal["gru"] = "gru"
    length: int = Field(20, ge=1)
    """Newest items that are read."""
    hidden_dim: int = Field(64, ge=1)
    """Width of the state, and of the item vectors that it reads."""

    def build(self) -> nn.Module:
        """Make the encoder."""
        return GRUEncoder(self)


class GRUEncoder(nn.Module):
    """The state after the last item; zero for an empty history."""

    def __init__(self, config: GRUConfig) -> None:
        super().__init__()
        self.gru = nn.GRU(config.hidden_dim, config.hidden_dim, batch_first=True)

    def forward(self, history: Tensor, lengths: Tensor) -> Tensor:
        """``(B, L, h)`` vectors, L at least 1, oldest first, and ``(B,)`` lengths to ``(B, h)``.

        What stands behind ``lengths`` is never read: the state is taken at the last item, so
        padding needs no mask and no packing, and the same graph exports to ONNX.
        """
        states, _ = self.gru(history)  # (B, L, h)
        last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[-1])
        state: Tensor = states.gather(1, last).squeeze(1)  # (B, h)
        return state * (lengths > 0)[:, None]


HistoryEncoder = GRUConfig
"""Every history encoder there is; a new one is a class in this file and a name here."""
