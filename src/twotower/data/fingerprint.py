"""Fingerprints of data sets: sha256 over values, whatever library or layout holds them."""

import hashlib
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from twotower.errors import InputError
from twotower.types import Array

if TYPE_CHECKING:
    from twotower.data.dataset import Dataset

_ROWS: Final = 1 << 16


def value_fingerprint(dataset: "Dataset") -> str:
    """sha256 over the values of a data set: equal values, equal fingerprint.

    Whole numbers are hashed as little-endian int64, others as float64, text as UTF-8 behind its
    lengths in bytes, each part behind its name. The width of a number, row groups, chunks and the
    versions of the libraries make no difference, nor does the type of a column without any value.

    Raises
    ------
    InputError
        Where a column is neither text, number, boolean, time, nor a list of those.
    """
    digest = hashlib.sha256(b"twotower data set 2\n")
    interactions, returned = dataset.interactions, dataset.returned
    names = (field.name for field in fields(interactions) if field.name != "rules")
    arrays: dict[str, Array | None] = {name: getattr(interactions, name) for name in names}
    if returned is not None:
        arrays |= {"returned indptr": returned.indptr, "returned items": returned.items}
    arrays["split"] = dataset.split
    parts: dict[str, Iterator[bytes]] = {
        "user ids": _values(pl.Series("user id", dataset.users.ids, dtype=pl.String)),
        "item ids": _values(pl.Series("item id", dataset.items.ids, dtype=pl.String)),
        **{name: _numbers(array) for name, array in arrays.items() if array is not None},
        **_columns("catalogue", dataset.catalogue),
    }
    if interactions.rules is not None:
        rules = interactions.rules.model_dump_json()
        parts["event rules"] = _values(pl.Series("rules", [rules]))
    parts |= _columns("user", dataset.user_table) | _columns("item", dataset.item_table)
    parts |= _columns("context", dataset.context_table)
    if dataset.schema:
        parts["schema"] = iter([dataset.schema.to_json().encode()])
    for name, blocks in parts.items():
        digest.update(f"{len(name.encode())} {name}\n".encode())
        for block in blocks:
            digest.update(block)
    return digest.hexdigest()


def _columns(side: str, table: pl.DataFrame | None) -> dict[str, Iterator[bytes]]:
    return {} if table is None else {f"{side} {column.name}": _values(column) for column in table}


def _values(column: pl.Series) -> Iterator[bytes]:
    """Length and kind of a column, then by blocks which rows have a value, and the values."""
    yield b"%d " % len(column)
    if column.null_count() == len(column):
        yield b"nothing\n"
        return
    kind, column = _canonical(column)
    yield f"{kind}\n".encode()
    for start in range(0, len(column), _ROWS):
        block = column.slice(start, _ROWS)
        yield block.is_not_null().to_numpy().astype(np.uint8).tobytes()
        present = block.drop_nulls()
        if kind == "text":
            yield from _numbers(present.str.len_bytes().to_numpy())
            yield "".join(present.to_list()).encode()
        elif kind == "list":
            lengths = present.list.len()
            yield from _numbers(lengths.to_numpy())
            yield from _values(present.filter(lengths > 0).explode())
        else:
            yield from _numbers(present.to_numpy())


def _canonical(column: pl.Series) -> tuple[str, pl.Series]:
    """Kind of a column, and the column in the canonical type of that kind."""
    kind = column.dtype
    if kind in (pl.String, pl.Categorical, pl.Enum):
        return "text", column.cast(pl.String)
    if kind.is_float():
        return "number", column
    if kind.is_integer():
        return "whole number", column
    if kind == pl.Boolean:
        return "boolean", column.cast(pl.UInt8)
    if kind in (pl.Date, pl.Datetime):
        return "time", column.cast(pl.Datetime("us")).to_physical()
    if kind == pl.List:
        return "list", column
    raise InputError(
        f"catalogue column {column.name!r} has the type {kind}, which a data set cannot hold",
        "make it text, numbers, booleans, times, or lists of those",
    )


def _numbers(values: Array) -> Iterator[bytes]:
    """Canonical bytes of numbers of any width: all NaN are equal, and so are 0.0 and -0.0."""
    for start in range(0, len(values), _ROWS):
        block = values[start : start + _ROWS]
        if block.dtype.kind == "f":
            block = block.astype("<f8") + 0.0  # -0.0 + 0.0 is 0.0
            block[np.isnan(block)] = np.nan
        yield np.ascontiguousarray(
            block, dtype="<f8" if block.dtype.kind == "f" else "<i8"
        ).tobytes()
