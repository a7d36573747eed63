"""Bundle file checks: readable, of the right type and shape, consistent."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import DTypeLike

from twotower.bundle.arrays import read_arrays
from twotower.bundle.throttle import Pause, no_pause
from twotower.data import columns
from twotower.errors import ArtefactError, InputError
from twotower.types import Array

Layout: TypeAlias = tuple[str, tuple[int | None, ...]]
"""NumPy types, such as ``int32 or int64``, and axis lengths; None accepts any length."""
WHOLE: Final = "int32 or int64"
FRACTIONS: Final = "float32 or float64"
TABLE: Final[Layout] = ("float32", (None, None))
"""Layout of most tables."""
_PANIC: Final = "PanicException"
"""How a Rust library's panic appears in Python; it is not an `Exception`."""
_LONGEST: Final = 300


@contextmanager
def reading(path: Path | str, failure: str = "cannot be read") -> Iterator[None]:
    """Turn any error while reading a bundle file into a one-line `ArtefactError` naming the file.

    The libraries' errors share no narrower class: broken JSON, too deep nesting, a shape too large
    for memory, a panic.
    """
    try:
        yield
    except ArtefactError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        what = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
        raise ArtefactError(f"{path} {failure} ({what}); save the bundle again") from error


def checked_arrays(
    path: Path,
    required: Mapping[str, Layout],
    dtype: DTypeLike | None = None,
    *,
    with_nan: Collection[str] = (),
    pause: Pause = no_pause,
    **optional: Layout,
) -> dict[str, Array]:
    """The arrays of a bundle file, checked to be finite and of these layouts: see `read_arrays`."""
    arrays = read_arrays(path, dtype, finite=True, with_nan=with_nan, pause=pause)
    check_layout(arrays, required, **optional)
    return arrays


def check_layout(
    arrays: Mapping[str, Array], required: Mapping[str, Layout], **optional: Layout
) -> None:
    """`InputError` at the first array that is missing or has the wrong type or shape."""
    for name, (kind, shape) in {**required, **optional}.items():
        if name not in arrays:
            if name in required:
                raise InputError(f"{name} is missing")
            continue
        array = arrays[name]
        fits = array.ndim == len(shape) and all(
            length in (None, got) for length, got in zip(shape, array.shape, strict=True)
        )
        if array.dtype.name not in kind.split(" or ") or not fits:
            wanted = ", ".join("any" if length is None else str(length) for length in shape)
            raise InputError(
                f"{name} must be {kind} of the shape ({wanted}), got {array.dtype} of {array.shape}"
            )


def check_rows(indptr: Array, entries: int) -> None:
    """`InputError` unless ``indptr`` bounds contiguous rows that cover all entries."""
    if not len(indptr) or indptr[0] != 0 or indptr[-1] != entries or (np.diff(indptr) < 0).any():
        raise InputError(
            f"indptr must rise from 0 to the number of entries {entries}, got "
            f"{indptr[:1].tolist()} to {indptr[-1:].tolist()}"
            + (", falling in between" if (np.diff(indptr) < 0).any() else "")
        )


def check_places(places: Array, size: int, name: str) -> None:
    """`InputError` unless all ``places`` (positions) are from 0 to ``size - 1``."""
    if len(places) and not 0 <= places.min() <= places.max() < size:
        raise InputError(
            f"{name} must be from 0 to {size - 1}, got {places.min()} to {places.max()}"
        )


def check_ids(ids: pl.Series) -> None:
    """`InputError` unless the ids are text, unique and never null."""
    if len(ids) and (ids.dtype != pl.String or ids.null_count() or ids.n_unique() != len(ids)):
        raise InputError(f"{ids.name} must be text, unique and never null")


def check_catalogue(catalogue: pl.DataFrame) -> None:
    """`InputError` if ids, titles, prices or categories have a type that serving cannot read."""
    check_ids(catalogue[columns.ITEM_ID])
    for name, kind in catalogue.schema.items():
        unknown = kind == pl.Null
        fits = {
            columns.TITLE: kind == pl.String,
            columns.PRICE: kind.is_numeric(),
            columns.CATEGORY: not kind.is_nested(),
        }
        if not unknown and not fits.get(name, True):
            raise InputError(f"{name} must not be {kind}")
