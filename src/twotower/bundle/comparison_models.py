"""Comparison models of a bundle: vectors of baseline models that the demo shows beside it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from twotower.errors import InputError
from twotower.types import Array, FloatArray


@dataclass(frozen=True)
class ComparisonModel:
    """Another model trained on the same data, as vectors of users and items.

    Any model whose score is an inner product can be one, such as matrix factorisation or
    LightGCN.
    """

    item_vectors: Array
    """``(items, d)``."""
    user_vectors: Array
    """``(users, d)``, from each user's whole history."""
    earlier_vectors: Array
    """``(users, d)``, from each user's history without its newest event, to show what the model
    recommends when that event is held out."""

    def scores(self, user: int, *, earlier: bool) -> FloatArray:
        """``(items,)`` for a user index, with or without the newest event."""
        users = self.earlier_vectors if earlier else self.user_vectors
        scores: FloatArray = self.item_vectors @ users[user].astype(np.float32)
        return scores

    def check(self, name: str, users: int, items: int) -> None:
        """`InputError` unless the vectors have one dimension and these numbers of rows."""
        dim = self.item_vectors.shape[1]
        wanted = {"item_vectors": items, "user_vectors": users, "earlier_vectors": users}
        for field, rows in wanted.items():
            shape = getattr(self, field).shape
            if shape != (rows, dim):
                raise InputError(
                    f"{field} of comparison model {name!r} must be ({rows}, {dim}), got {shape}"
                )


def to_arrays(models: Mapping[str, ComparisonModel]) -> dict[str, Array]:
    """Models by name as float16 arrays keyed ``name/field``, for a safetensors file.

    ``earlier_vectors`` are left out if they equal ``user_vectors``, as in MF, which learns one
    vector per user.
    """
    arrays: dict[str, Array] = {}
    for name, model in models.items():
        fields = dict(vars(model))
        if np.array_equal(model.earlier_vectors, model.user_vectors):
            del fields["earlier_vectors"]
        arrays |= {f"{name}/{field}": array.astype(np.float16) for field, array in fields.items()}
    return arrays


def from_arrays(arrays: Mapping[str, Array]) -> dict[str, ComparisonModel]:
    """The inverse of `to_arrays`, up to float16 rounding; models in alphabetical order.

    `KeyError` or `TypeError` if a model lacks a field or has an unknown one.
    """
    fields: dict[str, dict[str, Array]] = {}
    for key in sorted(arrays):
        name, _, field = key.rpartition("/")
        fields.setdefault(name, {})[field] = arrays[key]
    models = {}
    for name, of in fields.items():
        items = of.pop("item_vectors").astype(np.float32)
        users = of.pop("user_vectors")
        models[name] = ComparisonModel(items, users, **{"earlier_vectors": users, **of})
    return models
