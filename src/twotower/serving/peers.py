"""Models beside the one that is served: vectors to compare with, which serving never reads."""

from collections.abc import Mapping
from dataclasses import dataclass

from twotower.errors import InputError
from twotower.types import Array, FloatArray


@dataclass(frozen=True)
class Peer:
    """What another model trained on the same data would say to a known user.

    Any model whose score is an inner product can be one, such as matrix factorisation or
    LightGCN.

    Attributes
    ----------
    item_vectors
        ``(items, d)`` float32.
    user_vectors
        ``(users, d)`` float32, made of each user's whole history.
    earlier_vectors
        ``(users, d)`` float32, made of each user's history without its newest event: what the
        model says when that is hidden from it.
    """

    item_vectors: FloatArray
    user_vectors: FloatArray
    earlier_vectors: FloatArray

    def scores(self, user: int, *, earlier: bool) -> FloatArray:
        """``(items,)`` for a user index, with or without what the newest event told."""
        users = self.earlier_vectors if earlier else self.user_vectors
        scores: FloatArray = self.item_vectors @ users[user]
        return scores

    def check(self, name: str, users: int, items: int) -> None:
        """`InputError` where the vectors are not those of so many users and items."""
        dim = self.item_vectors.shape[1]
        wanted = {"item_vectors": items, "user_vectors": users, "earlier_vectors": users}
        for field, rows in wanted.items():
            shape = getattr(self, field).shape
            if shape != (rows, dim):
                raise InputError(f"{field} of peer {name!r} must be ({rows}, {dim}), got {shape}")


def to_arrays(peers: Mapping[str, Peer]) -> dict[str, Array]:
    """Peers by name as arrays by ``name/field``, for a safetensors file."""
    return {
        f"{name}/{field}": array
        for name, peer in peers.items()
        for field, array in vars(peer).items()
    }


def from_arrays(arrays: Mapping[str, Array]) -> dict[str, Peer]:
    """The inverse of `to_arrays`; names come in alphabetical order.

    Raises
    ------
    TypeError
        Where a peer lacks a field, or has another one.
    """
    fields: dict[str, dict[str, Array]] = {}
    for key in sorted(arrays):
        name, _, field = key.rpartition("/")
        fields.setdefault(name, {})[field] = arrays[key]
    return {name: Peer(**of) for name, of in fields.items()}
