"""Brute force on whatever device there is: a matrix product and the best of it, in PyTorch."""

import torch

from twotower.types import FloatArray, OffsetArray


class BruteForce:
    """Searches item vectors that lie on the GPU where there is one, else in memory.

    Parameters
    ----------
    vectors
        ``(items, dim)`` float32.
    """

    def __init__(self, vectors: FloatArray) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._vectors = torch.from_numpy(vectors).to(self._device)

    @property
    def device(self) -> str:
        """What it runs on, in words."""
        if self._device.type == "cuda":
            return str(torch.cuda.get_device_name(self._device))
        return "the CPU"

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return self._vectors.nbytes

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, OffsetArray]:
        """As `twotower.index.ItemIndex.search`, from and to NumPy; at most all items."""
        with torch.inference_mode():
            asked = torch.from_numpy(queries).to(self._device)
            best = torch.topk(asked @ self._vectors.T, min(k, len(self._vectors)), dim=1)
            return best.values.cpu().numpy(), best.indices.cpu().numpy()
