"""What serving needs of a trained module, whatever its family."""

from typing import NamedTuple

import numpy as np

from twotower.bundle.manifest import FoldInInfo
from twotower.errors import InputError
from twotower.models.base import RetrievalModule
from twotower.models.export import (
    export_item_tower,
    export_sequence_item_tower,
    export_sequence_user_tower,
    export_user_tower,
)
from twotower.models.sequence import SequenceTower
from twotower.models.two_tower import TwoTower
from twotower.types import FloatArray


class ServedTowers(NamedTuple):
    """Towers as ONNX models, and the tables that they read; see `BundleContents`."""

    user_tower: bytes
    item_tower: bytes
    user_table: FloatArray
    history_table: FloatArray | None
    history_length: int
    unknown_id: FloatArray
    history_projection: FloatArray | None
    history_is_vector: bool
    vector_projection: FloatArray | None
    factors: FloatArray | None
    fold_in: FoldInInfo | None
    cold_scale: float = 1.0


def has_towers(module: RetrievalModule) -> bool:
    """Whether a module can be served: see `served_towers`."""
    return isinstance(module, TwoTower | SequenceTower)


def served_towers(module: RetrievalModule, num_users: int, name: str) -> ServedTowers:
    """Export a module's towers.

    Raises
    ------
    InputError
        Where the model has no towers.
    """
    if isinstance(module, SequenceTower):
        return _of_sequence(module, num_users)
    if isinstance(module, TwoTower):
        return _of_two_tower(module)
    raise InputError(
        f"model {name!r} has no towers to serve", "bundle a two-tower, for example v10"
    )


def _of_two_tower(module: TwoTower) -> ServedTowers:
    weights = {key: value.cpu().numpy() for key, value in module.state_dict().items()}
    has_history = module.config.user_tower.history is not None
    return ServedTowers(
        user_tower=export_user_tower(module),
        item_tower=export_item_tower(module),
        user_table=weights["user_embedding.weight"][module.user_ids.cpu().numpy()],
        history_table=module.history_table().detach().cpu().numpy() if has_history else None,
        history_length=module.config.history_length,
        unknown_id=weights["item_embedding.weight"][0],
        history_projection=weights["history_text.weight"].T if has_history else None,
        history_is_vector=False,
        vector_projection=None,
        factors=None,
        fold_in=None,
        cold_scale=float(module.cold_scale),
    )


def _of_sequence(module: SequenceTower, num_users: int) -> ServedTowers:
    factors = module.config.factors
    table = module.history_table().cpu().numpy()
    table[0] = 0
    return ServedTowers(
        user_tower=export_sequence_user_tower(module),
        item_tower=export_sequence_item_tower(module),
        user_table=np.zeros((num_users + 1, 0), dtype=np.float32),  # a user is the history
        history_table=table,
        history_length=module.config.history_length,
        unknown_id=module.item_embedding.weight[0].detach().cpu().numpy(),
        history_projection=None,
        history_is_vector=True,
        vector_projection=module.item_map.cpu().numpy() if module.projected else None,
        factors=None if factors is None else module.factors.cpu().numpy(),
        fold_in=None
        if factors is None
        else FoldInInfo(
            dim=factors.embedding_dim,
            weight=float(module.factor_weight),
            confidence=factors.fold_in_confidence,
            recency=factors.recency,
            regularisation=factors.history_penalty,
            cold_items=module.cold_items,
        ),
        cold_scale=1.0 if factors is not None else float(module.cold_scale),
    )
