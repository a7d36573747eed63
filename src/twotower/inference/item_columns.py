"""Declared columns of the served items, for filters, caps and stock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
import polars as pl

from twotower.bundle.append_only import GrowingRows
from twotower.data.schema import Column, Schema, value_of_request
from twotower.errors import InputError
from twotower.inference.filters import Condition, ItemConditions
from twotower.types import Array, BoolArray

_NUMBERS: Final = ("number", "date", "flag")
_SETS: Final = ("category", "list")

Described = Mapping[str, Any]
"""Declared values of one item by column name; absent names are missing values."""


@dataclass(frozen=True)
class ColumnValues:
    """One column's values by row of the item table."""

    column: Column
    """Its declaration."""
    values: GrowingRows
    """Float64 for a number, date or flag, NaN if missing; otherwise the position in ``sets``, 0 if
    missing."""
    sets: tuple[tuple[str, ...], ...] = ()
    """Distinct values, each as a tuple of categories; the first is empty."""

    @classmethod
    def of(cls, column: Column, values: Sequence[Any]) -> Self:
        """A column of these values."""
        if column.kind in _NUMBERS:
            return cls(column, GrowingRows.of(_as_numbers(values)))
        return cls(column, *_coded(values, ((),)))

    def with_rows(self, values: Sequence[Any], rows: Array) -> Self:
        """The column with values written at appended rows: see `GrowingRows.with_rows`."""
        if self.column.kind in _NUMBERS:
            return replace(self, values=self.values.with_rows(_as_numbers(values), rows))
        coded, sets = _coded(values, self.sets)
        return replace(self, values=self.values.with_rows(coded.rows, rows), sets=sets)

    def rewritten(self, values: Sequence[Any], rows: Array) -> Self:
        """A copy with new values in existing rows."""
        other = replace(self, values=GrowingRows.of(self.values.rows.copy()))
        if self.column.kind in _NUMBERS:
            other.values.rows[rows] = _as_numbers(values)
            return other
        coded, sets = _coded(values, self.sets)
        other.values.rows[rows] = coded.rows
        return replace(other, sets=sets)

    def value(self, row: int) -> Any:
        """One value, in the form that a request would send; None if missing."""
        found = self.values.rows[row]
        if self.column.kind in _NUMBERS:
            if np.isnan(found):
                return None
            return bool(found) if self.column.kind == "flag" else float(found)
        names = self.sets[found]
        if self.column.kind == "list":
            return list(names) if found else None
        return names[0] if names else None

    def passing(self, name: str, condition: Condition) -> BoolArray:
        """``(rows,)`` which values meet a condition; a missing one can only meet ``not``."""
        if self.column.kind in _NUMBERS:
            return self._numbers_passing(name, condition)
        if condition.min is not None or condition.max is not None:
            raise InputError(
                f"{name} is a {self.column.kind}, which has no min and max", 'send {"is": […]}'
            )
        wanted, refused = _texts(name, condition.is_), _texts(name, condition.not_)
        passes = [
            (not wanted or not wanted.isdisjoint(names)) and refused.isdisjoint(names)
            for names in self.sets
        ]
        found: BoolArray = np.asarray(passes, dtype=np.bool_)[self.values.rows]
        return found

    def _numbers_passing(self, name: str, condition: Condition) -> BoolArray:
        def number(value: Any) -> float:
            return float(value_of_request(name, value, self.column))

        values = self.values.rows
        passes = np.ones(len(values), dtype=np.bool_)
        if condition.is_:
            passes &= np.isin(values, [number(value) for value in condition.is_])
        if condition.not_:
            passes &= ~np.isin(values, [number(value) for value in condition.not_])
        if condition.min is not None:
            passes &= values >= number(condition.min)  # NaN compares false
        if condition.max is not None:
            passes &= values <= number(condition.max)
        return passes

    def groups(self, name: str, rows: Array) -> list[tuple[int, ...]]:
        """The groups that each row's value counts for under a cap; none if it is missing."""
        if self.column.kind not in _SETS:
            raise InputError(f"{name} is a {self.column.kind}, a cap is for a category or a list")
        groups = self._numbered
        return [groups[code] for code in self.values.rows[rows].tolist()]

    @cached_property
    def _numbered(self) -> list[tuple[int, ...]]:
        numbers: dict[str, int] = {}
        return [
            tuple(numbers.setdefault(name, len(numbers)) for name in names) for names in self.sets
        ]


@dataclass(frozen=True)
class ItemColumns:
    """The declared columns that can be filtered on, by name."""

    schema: Schema
    columns: Mapping[str, ColumnValues]

    @classmethod
    def of(cls, schema: Schema, items: pl.DataFrame) -> Self:
        """The columns of a bundle's items."""
        return cls(
            schema,
            {
                name: ColumnValues.of(column, items[name].to_list())
                for name, column in schema.items.items()
                if column.kind in (*_NUMBERS, *_SETS)
            },
        )

    def with_rows(self, described: Sequence[Described], rows: Array) -> Self:
        """The columns with items appended."""
        return self._changed(ColumnValues.with_rows, described, rows)

    def rewritten(self, described: Sequence[Described], rows: Array) -> Self:
        """The columns with new values for existing items."""
        return self._changed(ColumnValues.rewritten, described, rows)

    def _changed(self, change: Any, described: Sequence[Described], rows: Array) -> Self:
        return replace(
            self,
            columns={
                name: change(values, [item.get(name) for item in described], rows)
                for name, values in self.columns.items()
            },
        )

    def describe(self, row: int) -> dict[str, Any]:
        """The values of one row."""
        return {name: values.value(row) for name, values in self.columns.items()}

    def find(self, name: str) -> ColumnValues:
        """A column by name; `InputError` if no such column can be filtered on."""
        if name not in self.columns:
            known = ", ".join(map(repr, self.columns)) or "none"
            raise InputError(f"unknown column {name!r} in filters", f"the bundle has: {known}")
        return self.columns[name]

    def passing(self, filters: ItemConditions) -> BoolArray | None:
        """``(rows,)`` which items meet all ``where`` conditions; None if there are none."""
        passes: BoolArray | None = None
        for name, condition in filters.where.items():
            found = self.find(name).passing(name, condition)
            passes = found if passes is None else passes & found
        return passes

    def in_stock(self) -> BoolArray | None:
        """``(rows,)`` False for items that a stock flag marks as unavailable; None without one."""
        flags = [self.columns[name].values.rows != 0 for name in self.schema.stock]
        return np.logical_and.reduce(flags) if flags else None


def _as_numbers(values: Sequence[Any]) -> Array:
    return np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)


def _coded(
    values: Sequence[Any], sets: tuple[tuple[str, ...], ...]
) -> tuple[GrowingRows, tuple[tuple[str, ...], ...]]:
    codes = {names: code for code, names in enumerate(sets)}
    rows = [codes.setdefault(_names(value), len(codes)) for value in values]
    return GrowingRows.of(np.asarray(rows, dtype=np.int32)), tuple(codes)


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(dict.fromkeys(value))


def _texts(name: str, values: Sequence[Any]) -> frozenset[str]:
    for value in values:
        if not isinstance(value, str):
            raise InputError(f"{name} is text, got {value!r} in filters")
    return frozenset(values)
