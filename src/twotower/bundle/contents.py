"""Bundle contents in memory, checked for consistency."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twotower.bundle.blend import Blend
from twotower.bundle.checked import check_places
from twotower.bundle.manifest import ModelInfo
from twotower.bundle.new_items import NewItems
from twotower.bundle.reranker import RerankVectors
from twotower.data import Histories, IdMap, columns
from twotower.errors import InputError
from twotower.features import UserFeatures
from twotower.index import IndexChoice, ItemIndex
from twotower.types import FloatArray, OffsetArray

if TYPE_CHECKING:
    from twotower.bundle.declared import DeclaredColumns


@dataclass(frozen=True)
class BundleContents:
    """Everything that serving reads. Row ``i`` is user or item index ``i`` unless noted."""

    info: ModelInfo
    """Description of the model."""
    user_tower: bytes
    """ONNX model, see `twotower.inference.user_tower.UserTower`."""
    user_table: FloatArray
    """``(users + 1, id_dim)`` float32; row 0 is the learned unknown user, row ``i + 1`` user index
    ``i``."""
    history_table: FloatArray | None
    """``(items + 1, h)`` float32, the user tower's input for an item in a history; row 0 is
    padding. None if the user tower reads no history."""
    user_features: UserFeatures
    """Fitted user features."""
    item_vectors: FloatArray
    """``(items, embedding_dim)`` float32: outputs of the item tower, followed by the factors if
    the model has a least-squares part."""
    users: IdMap
    """External user ids."""
    catalogue: pl.DataFrame
    """One row per item: item id, title and any columns to show."""
    histories: Histories
    """One row per user: all of their known events, oldest first."""
    index: ItemIndex
    """Index of ``item_vectors``."""
    factors: FloatArray | None = None
    """``(items, f)`` float32, the factors used to fold in a history; None if the vectors have no
    least-squares part."""
    reranker: RerankVectors | Blend | None = None
    """The second stage, or None."""
    new_items: NewItems | None = None
    """Item tower and text encoder for cold-start items and unseen texts, or None."""
    index_choice: IndexChoice | None = None
    """Measurements behind the choice of the index; None if the index was given."""
    declared: "DeclaredColumns | None" = None
    """Declared columns of items, users and events, or None."""
    returned: Histories | None = None
    """One row per user: items not to recommend to them again, such as returned ones; None if the
    log has no such events."""

    @property
    def reranks(self) -> bool:
        """Whether requests are re-ranked by default: only if re-ranking improved validation."""
        return isinstance(self.reranker, Blend) and self.reranker.helps

    def __post_init__(self) -> None:
        missing = {columns.ITEM_ID, columns.TITLE} - set(self.catalogue.columns)
        if missing:
            raise InputError(f"catalogue must have the columns {sorted(missing)}")
        users, items = len(self.users), self.catalogue.height
        rows = {
            "user_table": (len(self.user_table), users + 1),
            "histories": (len(self.histories), users),
            "item_vectors": (len(self.item_vectors), items),
            "user_features": (len(self.user_features.item_table), items),
            "index": (self.index.size, items),
        }
        if self.returned is not None:
            rows["returned"] = (len(self.returned), users)
        if self.history_table is not None:
            rows["history_table"] = (len(self.history_table), items + 1)
        if self.factors is not None:
            rows["factors"] = (len(self.factors), items)
        if isinstance(self.reranker, Blend):
            rows["blend"] = (self.reranker.num_items, items)
        if isinstance(self.reranker, RerankVectors):
            rows["reranker user_vectors"] = (len(self.reranker.user_vectors), users)
            rows["reranker item_vectors"] = (len(self.reranker.item_vectors), items)
        if self.new_items is not None and self.new_items.text is not None:
            rows["item text"] = (len(self.new_items.text), items)
        for name, (got, expected) in rows.items():
            if got != expected:
                raise InputError(
                    f"{name} must have {expected} rows for {users} users and {items} items, "
                    f"got {got}"
                )
        if self.declared is not None:
            self.declared.check(users, items, self.histories.contexts)
        dim = self.item_vectors.shape[1]
        if self.index.dim != dim:
            raise InputError(f"index must have the item vectors' dim {dim}, got {self.index.dim}")
        given = 0 if self.factors is None else self.factors.shape[1]
        if given != (0 if self.info.fold_in is None else self.info.fold_in.dim):
            raise InputError(f"factors must have the columns of info.fold_in, got {given}")
        if (self.history_table is None) != (self.info.history_length == 0):
            raise InputError(
                f"history_length is {self.info.history_length}, but history_table is "
                f"{'absent' if self.history_table is None else 'present'}; "
                "a tower without history has neither"
            )
        if self.new_items is not None:
            new = self.new_items
            reads = new.history_projection is not None or new.history_is_vector
            if reads != (self.history_table is not None):
                raise InputError(
                    "new items need a history_projection, or history_is_vector, exactly where "
                    "there is a history_table"
                )
        check_places(self.histories.items, items, "items of the histories")
        kinds, rules = self.histories.kinds, self.info.events
        declared = 0 if rules is None else len(rules.kinds)
        if (kinds is None) != (rules is None) or (
            kinds is not None and len(kinds) and kinds.max() >= declared
        ):
            raise InputError(f"the kinds of the histories must be those of info.events, {declared}")
        if self.tower_dim < 1:
            raise InputError(
                f"item_vectors must have more columns than info.fold_in.dim, got {dim} and {given}"
            )

    @property
    def tower_dim(self) -> int:
        """Number of leading vector columns from the towers; least-squares factors follow them."""
        fold_in = self.info.fold_in
        return int(self.item_vectors.shape[1]) - (0 if fold_in is None else fold_in.dim)

    @cached_property
    def event_counts(self) -> OffsetArray:
        """``(items,)`` int64 number of events of each item in the histories."""
        counts: OffsetArray = np.bincount(self.histories.items, minlength=self.catalogue.height)
        return counts

    @cached_property
    def items(self) -> IdMap:
        """External item ids, from the catalogue."""
        return IdMap(self.catalogue[columns.ITEM_ID].to_list(), "item")
