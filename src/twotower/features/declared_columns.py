"""Encoders of declared columns as tower inputs: one per kind, fitted on training rows."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Literal, NamedTuple, Protocol, Self

import numpy as np
import polars as pl
from pydantic import Field, TypeAdapter

from twotower.config import Config
from twotower.data.schema import Column
from twotower.data.time_zones import TIME_KINDS
from twotower.errors import InputError
from twotower.features.pretrained import unit_rows
from twotower.types import Array, BoolArray, FloatArray, OffsetArray

TextVectors = Callable[[str, Sequence[str]], FloatArray]
"""From the name of a text encoder and texts to their unit vectors ``(n, t)``."""

MOST_VALUES: Final = 2000
"""Values of a column that have rows of their own: the most frequent ones."""
BUCKETS: Final = 512
"""Rows that all other values share, by a hash of the value, where there are more."""
LEAST_COUNT: Final = 2
"""Fewest training rows of a value; rarer values count as unknown, which trains that row too."""
MOST_PARTS: Final = 16
"""Parts of a list that are read."""
TEXT_COMPONENTS: Final = 32
"""Principal components of a text that are read."""
_BOUND: Final = 5.0
"""Standard deviations from the mean to which numbers are cut."""
_DAY: Final = 86_400_000.0


class Encoded(NamedTuple):
    """Columns as a tower reads them; ``S`` rows of its table, and ``D`` numbers."""

    codes: OffsetArray
    """``(n, S)`` int64 rows of the table; 0 is none."""
    weights: FloatArray
    """``(n, S)`` float32."""
    dense: FloatArray
    """``(n, D)`` float32."""

    def take(self, rows: Array) -> "Encoded":
        """These rows."""
        return Encoded(self.codes[rows], self.weights[rows], self.dense[rows])


class Slots(NamedTuple):
    """Index of the column that each part of `Encoded` belongs to."""

    codes: OffsetArray
    """``(S,)`` int64."""
    dense: OffsetArray
    """``(D,)`` int64."""


class FitContext(NamedTuple):
    """Inputs for fitting encoders, in addition to the values of training rows."""

    moment: float | None
    """Time of the newest training event in milliseconds, or None where the log has no times."""
    vectors: TextVectors
    """Encodes texts."""


class Part(NamedTuple):
    """What one column adds to `Encoded`; its codes count from 0, -1 is none."""

    codes: OffsetArray
    weights: FloatArray
    dense: FloatArray


class Encoder(Protocol):
    """One column's encoder."""

    @property
    def rows(self) -> int:
        """Rows of the table that are its own."""

    def encode(self, values: pl.Series, vectors: TextVectors) -> Part:
        """``n`` values, null where missing."""


class _Dense(Config):
    """An encoder without rows in the table."""

    @property
    def rows(self) -> int:
        """None."""
        return 0


class Numbers(_Dense):
    """A number, flag or date: standardised, and whether it is missing."""

    kind: Literal["numbers"] = "numbers"
    mean: float
    weight: float
    """1 / standard deviation; 0 for a constant."""
    logarithm: bool = False
    """Whether it is of ``log(1 + value)``: of positive values with a long tail."""
    moment: float | None = None
    """Of a date: milliseconds since 1970 until which its age is counted, the newest event of
    training. The age is ``log(1 + days)``, and 0 for a later date. In a log without times a date
    is read as a number."""

    @classmethod
    def fit(cls, values: pl.Series, column: Column, context: FitContext) -> Self:
        """Fit on the values of known rows."""
        moment = context.moment if column.kind == "date" else None
        found = cls(mean=0.0, weight=1.0, moment=moment)
        raw = found.raw(values)
        known = raw[np.isfinite(raw)]
        if not len(known):
            return found.vary(weight=0.0)
        if found.moment is None and known.min() >= 0 and known.std() > known.mean():
            found = found.vary(logarithm=True)
            known = np.log1p(known)
        spread = float(known.std())
        weight = 1 / spread if spread > 1e-6 else 0.0
        return found.vary(mean=float(known.mean()), weight=weight)

    def raw(self, values: pl.Series) -> Array:
        """float64, before it is standardised; NaN where missing."""
        raw = values.cast(pl.Float64).to_numpy().astype(np.float64)
        if self.moment is not None:
            return np.log1p(np.maximum(self.moment - raw, 0) / _DAY)
        return np.log1p(np.maximum(raw, 0)) if self.logarithm else raw

    def encode(self, values: pl.Series, vectors: TextVectors) -> Part:
        """``D`` is 2."""
        del vectors
        raw = self.raw(values)
        missing = ~np.isfinite(raw)
        scaled = np.clip((raw - self.mean) * self.weight, -_BOUND, _BOUND)
        dense = np.column_stack([np.where(missing, 0, scaled), missing]).astype(np.float32)
        return _dense(dense)


class Values(Config):
    """A category, or a list of them: a row for each frequent value, and the mean of a list's.

    Row 0 is for an unknown value, row 1 for a missing one, and the last ones, where there are more
    than `MOST_VALUES`, for all others by a hash.
    """

    kind: Literal["values"] = "values"
    vocabulary: tuple[str, ...]
    buckets: int = Field(ge=0)
    parts: int = Field(ge=1)
    """Parts of a list that are read."""

    @classmethod
    def fit(cls, values: pl.Series, column: Column, context: FitContext) -> Self:
        """Fit on the values of known rows."""
        del context
        is_list = values.dtype == pl.List
        single = (values.explode() if is_list else values).cast(pl.String).alias("value")
        counts = single.drop_nulls().value_counts(name="count")
        common = counts.filter(pl.col("count") >= LEAST_COUNT)
        # Ties in the order of the text, so that the same data give the same rows.
        listed = common.sort(["count", "value"], descending=[True, False])["value"].to_list()
        longest = values.list.len().max() if is_list else 1
        length = longest if column.kind == "list" and isinstance(longest, int) else 1
        return cls(
            vocabulary=tuple(listed[:MOST_VALUES]),
            buckets=BUCKETS if len(listed) > MOST_VALUES else 0,
            parts=max(1, min(length, MOST_PARTS)),
        )

    @property
    def rows(self) -> int:
        """Unknown, missing, the vocabulary, and the buckets."""
        return 2 + len(self.vocabulary) + self.buckets

    def encode(self, values: pl.Series, vectors: TextVectors) -> Part:
        """``S`` is `parts`."""
        del vectors
        known = {value: row for row, value in enumerate(self.vocabulary, 2)}
        codes = np.full((len(values), self.parts), -1, dtype=np.int64)
        weights = np.zeros((len(values), self.parts), dtype=np.float32)
        if values.dtype == pl.List:
            for row, parts in enumerate(values.cast(pl.List(pl.String)).to_list()):
                found = [self._code(part, known) for part in (parts or ())[: self.parts]] or [1]
                codes[row, : len(found)], weights[row, : len(found)] = found, 1 / len(found)
        else:  # each distinct value is looked up once
            texts = values.cast(pl.String).to_list()
            code = {value: 1 if value is None else self._code(value, known) for value in {*texts}}
            codes[:, 0], weights[:, 0] = [code[value] for value in texts], 1
        return Part(codes, weights, np.zeros((len(values), 0), dtype=np.float32))

    def _code(self, value: str, known: Mapping[str, int]) -> int:
        code = known.get(value)
        if code is None and self.buckets:
            return 2 + len(self.vocabulary) + zlib.crc32(value.encode()) % self.buckets
        return 0 if code is None else code


class Vectors(_Dense):
    """An embedding of your own: as a unit vector, zeros and a mark where it is missing."""

    kind: Literal["vectors"] = "vectors"
    dim: int = Field(ge=0)

    @classmethod
    def fit(cls, values: pl.Series, column: Column, context: FitContext) -> Self:
        """Fit on the values of known rows."""
        del column, context
        lengths = values.drop_nulls().list.len()
        return cls(dim=int(lengths[0]) if len(lengths) else 0)

    def encode(self, values: pl.Series, vectors: TextVectors) -> Part:
        """``D`` is ``dim + 1``."""
        del vectors
        dense = np.zeros((len(values), self.dim + 1), dtype=np.float32)
        for row, vector in enumerate(values.to_list()):
            if vector is None or len(vector) != self.dim:
                dense[row, -1] = 1
            else:
                dense[row, :-1] = vector
        dense[:, :-1] = unit_rows(dense[:, :-1])
        return _dense(dense)


class Texts(_Dense):
    """A text: principal components of its encoder's vectors, and whether it is missing."""

    kind: Literal["texts"] = "texts"
    encoder: str
    mean: tuple[float, ...]
    basis: tuple[tuple[float, ...], ...]
    """``(components, t)``, scaled so that each component varies by about 1."""

    @classmethod
    def fit(cls, values: pl.Series, column: Column, context: FitContext) -> Self:
        """Fit on the texts of known rows."""
        texts = values.drop_nulls().to_list()
        found = context.vectors(column.encoder, texts or [""]).astype(np.float64)
        mean = found.mean(axis=0)
        centred = found - mean
        values_, basis = np.linalg.eigh(centred.T @ centred / len(found))
        scale = 1 / np.sqrt(max(float(values_[-1]), 1e-6))
        kept = (basis[:, ::-1][:, :TEXT_COMPONENTS] * scale).T
        return cls(
            encoder=column.encoder,
            mean=tuple(mean.tolist()),
            basis=tuple(tuple(row) for row in kept.tolist()),
        )

    def encode(self, values: pl.Series, vectors: TextVectors) -> Part:
        """``D`` is the number of components, and 1."""
        missing = values.is_null().to_numpy()
        found = vectors(self.encoder, values.fill_null("").to_list())
        read = (found - np.asarray(self.mean)) @ np.asarray(self.basis).T
        dense = np.column_stack([np.where(missing[:, None], 0, read), missing])
        return _dense(dense.astype(np.float32))


AnyEncoder = Annotated[Numbers | Values | Vectors | Texts, Field(discriminator="kind")]
_ENCODERS: Final[TypeAdapter[dict[str, AnyEncoder]]] = TypeAdapter(dict[str, AnyEncoder])
ENCODERS: Final[Mapping[str, type[Numbers | Values | Vectors | Texts]]] = {
    "number": Numbers,
    "flag": Numbers,
    "date": Numbers,
    "category": Values,
    "list": Values,
    "embedding": Vectors,
    "text": Texts,
    **dict.fromkeys(TIME_KINDS, Values),
}
"""Kind of a column → its encoder."""


class ColumnEncoders:
    """The fitted encoders of one side's columns, by name in their order."""

    def __init__(self, encoders: Mapping[str, Encoder]) -> None:
        self.encoders = dict(encoders)

    @classmethod
    def fit(
        cls,
        table: pl.DataFrame,
        columns: Mapping[str, Column],
        known: BoolArray,
        context: FitContext,
    ) -> Self:
        """Fit on the rows of training alone.

        Parameters
        ----------
        table
            All rows, in the types of the kinds.
        columns
            Those that are read.
        known
            ``(rows,)`` which rows training has an event of: all is fitted on these.
        context
            What else the encoders are fitted with.
        """
        seen = table.filter(pl.Series(known))
        return cls(
            {
                name: ENCODERS[column.kind].fit(seen[name], column, context)
                for name, column in columns.items()
            }
        )

    def __bool__(self) -> bool:
        return bool(self.encoders)

    def encode(self, table: pl.DataFrame, vectors: TextVectors) -> Encoded:
        """A table's rows; it has each of the columns."""
        count = table.height
        codes, weights, dense = [], [], []
        first = 1
        for name, encoder in self.encoders.items():
            part = encoder.encode(table[name], vectors)
            codes.append(np.where(part.codes >= 0, part.codes + first, 0))
            weights.append(part.weights)
            dense.append(part.dense)
            first += encoder.rows
        nothing = np.zeros((count, 1), dtype=np.float32)  # a graph without a width is no graph
        return Encoded(
            np.concatenate(codes, axis=1) if first > 1 else nothing.astype(np.int64),
            np.concatenate(weights, axis=1) if first > 1 else nothing,
            np.concatenate([nothing, *dense], axis=1),
        )

    def slots(self, table: pl.DataFrame, vectors: TextVectors) -> Slots:
        """Which column each part of the encoded rows is of; ``table`` has each of the columns."""
        parts = [
            encoder.encode(table[name].clear(), vectors) for name, encoder in self.encoders.items()
        ]
        places = np.arange(len(parts))
        codes = np.repeat(places, [part.codes.shape[1] for part in parts])
        dense = np.repeat(places, [part.dense.shape[1] for part in parts])
        # As in `encode`: a constant before the numbers, and one in place of codes.
        return Slots(codes if len(codes) else np.zeros(1, np.int64), np.append(0, dense))

    @property
    def rows(self) -> int:
        """Rows of the table, row 0 included."""
        return 1 + sum(encoder.rows for encoder in self.encoders.values())

    def to_json(self) -> str:
        """As JSON; the inverse of `from_json`."""
        return _ENCODERS.dump_json(self.encoders).decode()  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote; `ValueError` where it is not that."""
        return cls(_ENCODERS.validate_json(text))


def cached_texts(name: str, texts: Sequence[str]) -> FloatArray:
    """Text vectors as training takes them: from the cache where it has them."""
    from twotower.features.cache import cached_embeddings
    from twotower.features.text import text_encoder

    return cached_embeddings(text_encoder(name), texts)


def no_texts(name: str, texts: Sequence[str]) -> FloatArray:
    """For columns of which none is a text."""
    raise InputError(f"a declared text needs the text encoder {name!r}, got none for {texts[:1]}")


def _dense(values: FloatArray) -> Part:
    nothing = np.zeros((len(values), 0))
    return Part(nothing.astype(np.int64), nothing.astype(np.float32), values)
