"""Models beside the one that is served: vectors to compare with, which serving never reads."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

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
        ``(items, d)``.
    user_vectors
        ``(users, d)``, made of each user's whole history.
    earlier_vectors
        ``(users, d)``, made of each user's history without its newest event: what the model says
        when that is hidden from it.
    """

    item_vectors: Array
    user_vectors: Array
    earlier_vectors: Array

    def scores(self, user: int, *, earlier: bool) -> FloatArray:
        """``(items,)`` for a user index, with or without what the newest event told."""
        users = self.earlier_vectors if earlier else self.user_vectors
        scores: FloatArray = self.item_vectors @ users[user].astype(np.float32)
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
    """Peers by name as float16 arrays by ``name/field``, for a safetensors file.

    ``earlier_vectors`` are left out where the newest event makes no difference, as in MF, whose
    users have a vector of their own.
    """
    arrays: dict[str, Array] = {}
    for name, peer in peers.items():
        fields = dict(vars(peer))
        if np.array_equal(peer.earlier_vectors, peer.user_vectors):
            del fields["earlier_vectors"]
        arrays |= {f"{name}/{field}": array.astype(np.float16) for field, array in fields.items()}
    return arrays


def from_arrays(arrays: Mapping[str, Array]) -> dict[str, Peer]:
    """The inverse of `to_arrays`, but for the digits; names come in alphabetical order.

    Raises
    ------
    KeyError, TypeError
        Where a peer lacks a field, or has another one.
    """
    fields: dict[str, dict[str, Array]] = {}
    for key in sorted(arrays):
        name, _, field = key.rpartition("/")
        fields.setdefault(name, {})[field] = arrays[key]
    peers = {}
    for name, of in fields.items():
        items = of.pop("item_vectors").astype(np.float32)
        users = of.pop("user_vectors")
        peers[name] = Peer(items, users, **{"earlier_vectors": users, **of})
    return peers
