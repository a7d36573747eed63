"""Item table: the bundle's items, plus those added, changed or removed since."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Any, Self

import numpy as np

from twotower.bundle.append_only import GrowingRows
from twotower.bundle.contents import BundleContents
from twotower.data import columns
from twotower.data.schema import Schema
from twotower.errors import InputError
from twotower.inference.eligibility import EligibilityMask
from twotower.inference.filters import Filters, FranchiseCodes, ItemConditions, passing
from twotower.inference.item_columns import Described, ItemColumns
from twotower.inference.item_encoder import EncodedItems
from twotower.types import Array, BoolArray, FloatArray, IndexArray, OffsetArray


@dataclass(frozen=True)
class Descriptions:
    """Display and filter fields of items, one entry per item."""

    ids: Sequence[str]
    titles: Sequence[str | None]
    categories: Sequence[str | None]
    """Text, or None where unknown."""
    prices: Sequence[float]
    """NaN where unknown."""
    columns: Sequence[Described] = ()
    """Declared columns of each item; empty if there are none."""


@dataclass(frozen=True)
class ItemTable:
    """Items by row. The bundle's come first, in its order; a row always keeps the same item id.

    Immutable: each change returns a new table, and a request in progress keeps the table that it
    started with. Any table may be changed again; one that is not the newest is copied first (see
    `GrowingRows`). An added item that is replaced alternates between two rows: the new version is
    written to a row that neither this table nor the previous one lists.

    Attributes
    ----------
    contents
        The bundle's contents, whose items are the first rows.
    ids, titles, prices
        By row; titles may be None, prices NaN.
    categories
        Position in ``names`` by row, -1 for none.
    names
        Category names.
    vectors, user_features, text
        As in `EncodedItems`; ``text`` is None if the bundle holds none.
    scales
        `part_scales` of the vectors.
    history
        Like the bundle's ``history_table``: one row more than items, row 0 is padding.
    listed
        ``(rows,)`` False for deleted or replaced items.
    free
        ``(rows,)`` False for items that are currently unavailable.
    unavailable
        Ids marked unavailable whose items have not been added yet.
    late
        Rows of ids that are not in the bundle.
    spare
        For those of them that were replaced, the other row.
    stamps
        ``(rows after the bundle's,)`` int64 number of the change that last wrote each row.
    changes
        How many times items were added or replaced.
    series
        Assigns franchise numbers to titles.
    columns
        Declared columns, for filters.
    """

    contents: BundleContents
    ids: GrowingRows
    titles: GrowingRows
    prices: GrowingRows
    categories: GrowingRows
    names: tuple[str, ...]
    vectors: GrowingRows
    scales: GrowingRows
    user_features: GrowingRows
    history: GrowingRows | None
    text: GrowingRows | None
    listed: BoolArray
    free: BoolArray
    unavailable: frozenset[str]
    late: Mapping[str, int]
    spare: Mapping[str, int]
    stamps: OffsetArray
    changes: int
    series: FranchiseCodes
    columns: ItemColumns

    @classmethod
    def of(cls, contents: BundleContents, room: bool = False) -> Self:
        """The bundle's items.

        With ``room``, spare capacity is reserved, so the first added item need not wait for all
        tables to be copied. The table then has its own ``contents``, which share its memory.
        """
        catalogue = contents.catalogue
        categories: list[str | None] = [None] * catalogue.height
        if columns.CATEGORY in catalogue.columns:
            categories = catalogue[columns.CATEGORY].cast(str).to_list()
        prices: list[float | None] = [None] * catalogue.height
        if columns.PRICE in catalogue.columns:
            prices = catalogue[columns.PRICE].cast(float).to_list()
        names, codes = _coded(categories, ())
        vectors = GrowingRows.of(contents.item_vectors, room)
        user_features = GrowingRows.of(contents.user_features.item_table, room)
        history, new = _growing(contents.history_table, room), contents.new_items
        text = None if new is None else _growing(new.text, room)
        if room:
            contents = replace(
                contents,
                item_vectors=vectors.rows,
                user_features=replace(contents.user_features, item_table=user_features.rows),
                history_table=None if history is None else history.rows,
                new_items=new and replace(new, text=None if text is None else text.rows),
            )
        declared, free = contents.declared, np.ones(catalogue.height, dtype=np.bool_)
        item_columns = ItemColumns(Schema(), {})
        if declared is not None:
            item_columns = ItemColumns.of(declared.schema, declared.items)
            in_stock = item_columns.in_stock()
            free = free if in_stock is None else in_stock
        return cls(
            contents,
            GrowingRows.of(_objects(contents.items.ids)),
            GrowingRows.of(_objects(catalogue[columns.TITLE].to_list())),
            GrowingRows.of(np.asarray(prices, dtype=np.float64)),
            GrowingRows.of(codes),
            names,
            vectors,
            GrowingRows.of(part_scales(contents.item_vectors, contents.tower_dim)),
            user_features,
            history,
            text,
            np.ones(catalogue.height, dtype=np.bool_),
            free,
            frozenset(),
            {},
            {},
            np.zeros(0, dtype=np.int64),
            0,
            FranchiseCodes(),
            item_columns,
        )

    def __len__(self) -> int:
        return self.ids.used

    def __contains__(self, item_id: object) -> bool:
        return isinstance(item_id, str) and self.find(item_id) is not None

    @property
    def bundled(self) -> int:
        """Number of rows from the bundle."""
        return len(self.contents.items)

    @cached_property
    def eligible(self) -> BoolArray:
        """``(rows,)`` eligible rows: listed and available."""
        return self.listed & self.free

    @cached_property
    def eligibility(self) -> EligibilityMask:
        """`eligible` as an eligibility mask."""
        return EligibilityMask.of(self.eligible)

    @cached_property
    def franchises(self) -> IndexArray:
        """``(rows,)`` the franchise number of each item, -1 for none."""
        return self.series.codes(self.titles.rows)

    def find(self, item_id: str) -> int | None:
        """The row of an id, even if no longer listed; None if the id is unknown."""
        row = self.contents.items.find(item_id)
        return self.late.get(item_id) if row is None else row

    def row(self, item_id: str) -> int:
        """The row of a listed item; `InputError` if there is none."""
        row = self.find(item_id)
        if row is None or not self.listed[row]:
            raise _unknown(item_id, self)
        return row

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """The unknown ids, each once."""
        return [item for item in self.contents.items.unknown(item_ids) if item not in self.late]

    def indices(self, item_ids: Collection[str]) -> IndexArray:
        """Rows of many ids, including delisted ones: items of a history stay known."""
        if self.late.keys().isdisjoint(item_ids):
            return self.contents.items.indices(item_ids)
        rows = []
        for item_id in item_ids:
            row = self.find(item_id)
            if row is None:
                raise _unknown(item_id, self)
            rows.append(row)
        return np.asarray(rows, dtype=np.int32)

    def passing(self, filters: Filters) -> BoolArray:
        """``(rows,)`` the eligible items that pass the filters; a new mask, owned by the caller."""
        mask = self.eligible.copy()
        if filters.narrows:
            mask &= self.meeting(filters)
        blocked = [row for item_id in filters.block if (row := self.find(item_id)) is not None]
        mask[blocked] = False
        return mask

    def meeting(self, conditions: ItemConditions) -> BoolArray:
        """``(rows,)`` which items meet the conditions, eligible or not; a new mask."""
        mask = passing(conditions, self.categories.rows, self.names, self.prices.rows)
        by_columns = self.columns.passing(conditions)
        return mask if by_columns is None else mask & by_columns

    def eligible_for(self, filters: Filters) -> EligibilityMask:
        """As `passing`, but shares the table's mask if the filters pass everything."""
        if filters.narrows or filters.block:
            return EligibilityMask.of(self.passing(filters))
        return self.eligibility

    def changed_since(self, changes: int) -> OffsetArray:
        """Added rows that were written since the table had this number of `changes`."""
        rows: OffsetArray = np.flatnonzero(self.stamps > changes) + self.bundled
        return rows

    def describe(self, row: int) -> Descriptions:
        """The description of one row's item."""
        code = self.categories.rows[row]
        return Descriptions(
            [self.ids.rows[row]],
            [self.titles.rows[row]],
            [self.names[code] if code >= 0 else None],
            [float(self.prices.rows[row])],
            [self.columns.describe(row)] if self.columns.columns else (),
        )

    def with_items(self, described: Descriptions, encoded: EncodedItems) -> Self:
        """The table with items added; the previous row of an id that is replaced is delisted."""
        spare = self.spare
        behind = count(len(self))
        at = [spare[item_id] if item_id in spare else next(behind) for item_id in described.ids]
        rows = np.asarray(at, dtype=np.int64)
        size = max(len(self), int(rows.max(initial=-1)) + 1)
        names, codes = _coded(described.categories, self.names)
        listed, free = _lengthened(self.listed, size), _lengthened(self.free, size)
        late, other = dict(self.late), dict(spare)
        for item_id, row in zip(described.ids, at, strict=True):
            old = self.find(item_id)
            free[row] = item_id not in self.unavailable if old is None else self.free[old]
            if old is not None:
                listed[old] = False
                if old >= self.bundled:
                    other[item_id] = old
            late[item_id] = row
        listed[rows] = True
        stated = described.columns or [{}] * len(at)
        _state_stock(free, rows, stated, self.columns.schema)
        stamps = np.zeros(size - self.bundled, dtype=np.int64)
        stamps[: len(self.stamps)] = self.stamps
        stamps[rows - self.bundled] = self.changes + 1
        vectors = encoded.vectors
        return replace(
            self,
            ids=self.ids.with_rows(_objects(described.ids), rows),
            titles=self.titles.with_rows(_objects(described.titles), rows),
            prices=self.prices.with_rows(np.asarray(described.prices, dtype=np.float64), rows),
            categories=self.categories.with_rows(codes, rows),
            names=names,
            vectors=self.vectors.with_rows(vectors, rows),
            scales=self.scales.with_rows(part_scales(vectors, self.contents.tower_dim), rows),
            user_features=self.user_features.with_rows(encoded.user_features, rows),
            history=_grown(self.history, encoded.history, rows + 1),  # row 0 is padding
            text=_grown(self.text, encoded.text, rows),
            listed=listed,
            free=free,
            unavailable=self.unavailable.difference(described.ids),
            late=late,
            spare=other,
            stamps=stamps,
            changes=self.changes + 1,
            columns=self.columns.with_rows(stated, rows),
        )

    def redescribed(self, described: Descriptions) -> Self:
        """The table with new titles, categories, prices and columns of known items, not vectors."""
        rows = self.indices(described.ids)
        names, codes = _coded(described.categories, self.names)
        titles, categories, prices = (
            table.rows.copy() for table in (self.titles, self.categories, self.prices)
        )
        listed = self.listed.copy()
        titles[rows], categories[rows] = _objects(described.titles), codes
        prices[rows], listed[rows] = described.prices, True
        stated, free = described.columns or [{}] * len(rows), self.free.copy()
        _state_stock(free, rows, stated, self.columns.schema)
        return replace(
            self,
            titles=GrowingRows.of(titles),
            categories=GrowingRows.of(categories),
            prices=GrowingRows.of(prices),
            names=names,
            listed=listed,
            free=free,
            columns=self.columns.rewritten(stated, rows),
        )

    def without(self, item_ids: Iterable[str]) -> Self:
        """The table with items delisted; unknown ids are ignored."""
        listed = self.listed.copy()
        listed[[row for item_id in item_ids if (row := self.find(item_id)) is not None]] = False
        return self._with_masks(listed=listed)

    def with_availability(self, available: Mapping[str, bool]) -> Self:
        """The table with items set available or not; ids may be of items not added yet."""
        free = self.free.copy()
        to_come = {}
        for item_id, is_available in available.items():
            row = self.find(item_id)
            if row is None:
                to_come[item_id] = is_available
            else:
                free[row] = is_available
        gone = {item_id for item_id, is_available in to_come.items() if not is_available}
        return self._with_masks(free=free, unavailable=self.unavailable.difference(to_come) | gone)

    def _with_masks(self, **masks: Any) -> Self:
        """The table with other masks; titles stay, so the cached franchises are kept."""
        other = replace(self, **masks)
        if "franchises" in self.__dict__:
            other.__dict__["franchises"] = self.franchises
        return other


def _state_stock(
    free: BoolArray, rows: Array, described: Sequence[Described], schema: Schema
) -> None:
    """Set rows available or not by their stock flags, where described."""
    for name in schema.stock:
        for row, values in zip(rows.tolist(), described, strict=True):
            if values.get(name) is not None:
                free[row] = values[name]


def _unknown(item_id: str, table: ItemTable) -> InputError:
    known = table.contents.items.ids[:3]
    return InputError(
        f"unknown item {item_id!r}",
        f"pass one of the {int(table.listed.sum()):,} known, for example {known}",
    )


def _coded(
    values: Sequence[str | None], names: Sequence[str]
) -> tuple[tuple[str, ...], IndexArray]:
    """The names with new ones appended, and each value's position among them, -1 for None."""
    codes = {name: code for code, name in enumerate(names)}
    rows = [-1 if name is None else codes.setdefault(name, len(codes)) for name in values]
    return tuple(codes), np.asarray(rows, dtype=np.int32)


def _objects(values: Sequence[str | None]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _growing(rows: FloatArray | None, room: bool) -> GrowingRows | None:
    return None if rows is None else GrowingRows.of(rows, room)


def _grown(table: GrowingRows | None, more: FloatArray | None, rows: Array) -> GrowingRows | None:
    if table is None:
        return None
    if more is None:
        raise InputError("an item's encoding lacks what the bundle's items have")
    return table.with_rows(more, rows)


def _lengthened(mask: BoolArray, size: int) -> BoolArray:
    """A copy padded with True."""
    longer = np.ones(size, dtype=np.bool_)
    longer[: len(mask)] = mask
    return longer


def part_scales(vectors: FloatArray, tower_dim: int) -> FloatArray:
    """``(items, parts)`` scales of the towers' part of ``(items, d)`` vectors, and of the factors.

    Dot products of vectors with scaled parts are mean cosines over the parts: the towers' part and
    the least-squares factors count equally, while vector length, and with it popularity, does not
    count. A model without factors has one part. A part of zeros stays zero.
    """
    parts = _parts(vectors, tower_dim)
    squares = np.stack([np.einsum("id,id->i", part, part) for part in parts], axis=1)
    lengths = np.sqrt(squares * np.float32(len(parts)))
    scales: FloatArray = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return scales


def scale_parts(vectors: FloatArray, scales: FloatArray, tower_dim: int) -> None:
    """Scale ``(n, d)`` vectors in place by `part_scales`: their products become mean cosines."""
    for place, part in enumerate(_parts(vectors, tower_dim)):
        part *= scales[:, place : place + 1]


def mean_cosines(vectors: FloatArray, scales: FloatArray, row: int, tower_dim: int) -> FloatArray:
    """``(items,)`` mean cosine of each of ``(items, d)`` vectors with the vector of ``row``.

    ``scales`` are their `part_scales`, precomputed: for a whole catalogue they take longer than
    everything else here.
    """
    query = vectors[row : row + 1].copy()
    scale_parts(query, scales[row : row + 1], tower_dim)
    total = np.zeros(len(vectors), dtype=np.float32)
    parts = zip(_parts(vectors, tower_dim), _parts(query, tower_dim), strict=True)
    for place, (part, query_part) in enumerate(parts):
        total += (part @ query_part[0]) * scales[:, place]
    return total


def _parts(vectors: FloatArray, tower_dim: int) -> list[FloatArray]:
    if vectors.shape[1] == tower_dim:
        return [vectors]
    return [vectors[:, :tower_dim], vectors[:, tower_dim:]]
