"""Item encoder: vectors of cold-start items, by the item tower in onnxruntime."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Final, Self

import numpy as np
import polars as pl

from twotower.bundle.checked import reading
from twotower.bundle.contents import BundleContents
from twotower.bundle.new_items import NewItems
from twotower.data import columns
from twotower.data.schema import rows_of_requests
from twotower.errors import InputError
from twotower.factors.text_smoothing import Nearness
from twotower.features import HashingText, TextEncoder, item_texts, releases
from twotower.features.release import NEWEST
from twotower.inference.user_tower import open_session
from twotower.types import Array, BoolArray, FloatArray

logger = logging.getLogger(__name__)
_FILE: Final = "the bundle's item_tower.onnx"


@dataclass(frozen=True)
class EncodedItems:
    """Vectors of cold-start items, as arrays and as bytes; one row per item."""

    vectors: FloatArray
    """``(items, d)`` outputs of the item tower."""
    user_features: FloatArray
    """``(items, 12)`` the item's contribution to the features of a user who interacts with it."""
    history: FloatArray | None
    """``(items, h)`` the user tower's input for the item in a history, or None."""
    text: FloatArray | None
    """``(items, t)`` unit text vectors, or None."""

    def to_bytes(self, row: int) -> bytes:
        """One item as float32, without its text: the inverse of `of_bytes`."""
        parts = [self.vectors[row], self.user_features[row]]
        if self.history is not None:
            parts.append(self.history[row])
        return np.concatenate(parts, dtype=np.float32).tobytes()

    @classmethod
    def of_bytes(
        cls, kept: Sequence[bytes], text: FloatArray | None, contents: BundleContents
    ) -> Self:
        """Items from `to_bytes`, encoded by the same bundle, with their text vectors."""
        history = contents.history_table
        widths = [contents.item_vectors.shape[1], contents.user_features.item_table.shape[1]]
        rows = np.stack([np.frombuffer(row, dtype=np.float32) for row in kept])
        vectors, user_features, rest = np.split(rows, np.cumsum(widths), axis=1)
        return cls(vectors, user_features, None if history is None else rest, text)


class ItemEncoder:
    """Encodes cold-start items with the statistics and weights from training.

    Parameters
    ----------
    text_encoder
        The bundle's text encoder: see `twotower.inference.text_encoder.text_encoder_of`.
    threads
        Threads that one run may use.

    Raises
    ------
    InputError
        If the bundle holds no item tower, or lacks the text encoder that the tower needs.
    ArtefactError
        If the tower cannot be run.
    """

    def __init__(
        self, contents: BundleContents, text_encoder: TextEncoder | None, threads: int = 1
    ) -> None:
        if contents.new_items is None:
            raise InputError(
                f"bundle of {contents.info.model} holds no item tower",
                "bundle the model again with new items",
            )
        self._new: NewItems = contents.new_items
        self._contents = contents
        self.text_encoder = text_encoder
        with reading(_FILE, "cannot be run"):
            self._session = open_session(self._new.tower, threads)
        self._inputs = {tensor.name: tensor.shape[-1] for tensor in self._session.get_inputs()}
        reads_text = "text" in self._inputs or self._new.history_projection is not None
        if reads_text and self.text_encoder is None:
            raise InputError(
                f"bundle of {contents.info.model} lacks the text encoder that its item tower needs",
                "bundle the model again with the text encoder",
            )

    @property
    def keeps_text(self) -> bool:
        """Whether text vectors of new items are kept, because text search uses them."""
        return self._new.text is not None

    def texts(self, rows: pl.DataFrame) -> FloatArray | None:
        """``(rows, t)`` text vectors; None without a text encoder."""
        if self.text_encoder is None:
            return None
        return self.text_encoder.encode(item_texts(rows, self._new.text_fields))

    def encode(
        self,
        rows: pl.DataFrame,
        text: FloatArray | None,
        added: int = 0,
        columns: Sequence[Mapping[str, Any]] | None = None,
    ) -> EncodedItems:
        """Encode items, scaled down where needed to bound how often each is recommended.

        Parameters
        ----------
        rows
            Catalogue columns; any but the id may be null or absent. An item without a release time
            is taken to be newer than the bundle's items.
        text
            Their `texts`.
        added
            Number of items added before: see `ListBars.scales`.
        columns
            Their declared columns, already checked; absent names are missing values.
        """
        encoded = self.unbounded(rows, text, columns)
        return replace(encoded, vectors=self._bounded(encoded.vectors, rows, added))

    def unbounded(
        self,
        rows: pl.DataFrame,
        text: FloatArray | None,
        columns: Sequence[Mapping[str, Any]] | None = None,
    ) -> EncodedItems:
        """Encode items without the bound on exposure; parameters as in `encode`."""
        new, feed = self._new, self.feed(rows, text, columns)
        with reading(_FILE, "cannot be run"):
            towers = self._session.run(["vector"], {name: feed[name] for name in self._inputs})[0]
        history = towers if new.history_is_vector else None
        if new.history_projection is not None and text is not None:
            history = text @ new.history_projection
        if new.vector_projection is not None:
            towers = towers @ new.vector_projection
        return EncodedItems(
            vectors=self._vectors(towers, text, feed["release"]),
            user_features=self._contents.user_features.rows_of_new(rows, new.features.categories),
            history=history,
            text=text if self.keeps_text else None,
        )

    def feed(
        self,
        rows: pl.DataFrame,
        text: FloatArray | None,
        columns: Sequence[Mapping[str, Any]] | None = None,
    ) -> dict[str, Array]:
        """Inputs of the item tower; parameters as in `encode`."""
        new, count = self._new, rows.height
        feed: dict[str, Array] = {
            "item": np.tile(new.unknown_id, (count, 1)),
            "features": new.features.transform_new(rows),
            "release": new.releases.waves(releases(rows, unknown=NEWEST)),
        }
        if text is not None:
            feed["text"] = text
        if "image" in self._inputs:  # the tower has learned zeros as no image
            feed["image"] = np.zeros((count, self._inputs["image"]), dtype=np.float32)
        declared = self._contents.declared
        if "codes" in self._inputs and declared is not None:
            table = rows_of_requests(columns or [{}] * count, declared.schema.items)
            texts = partial(text_vectors, self.text_encoder)
            feed |= declared.item_encoders.encode(table, texts)._asdict()
        return {name: feed[name] for name in (*self._inputs, "release") if name in feed}

    def _vectors(
        self, towers: FloatArray, text: FloatArray | None, release: FloatArray
    ) -> FloatArray:
        """``(rows, d + f)`` vectors, with estimated factors if the model has factors."""
        fold_in, known = self._contents.info.fold_in, self._new.text
        if fold_in is None:
            return np.float32(self._new.vector_scale) * towers
        if text is None or known is None:
            known = text = np.zeros((len(towers), 1), dtype=np.float32)
        cold, trained = fold_in.cold_items, self._trained
        factors = self._contents.item_vectors[:, -fold_in.dim :]
        nearest = cold.nearest(text, known, trained, Nearness(release, self._release))
        return cold.vectors(towers, nearest, factors)

    def _bounded(self, vectors: FloatArray, rows: pl.DataFrame, added: int) -> FloatArray:
        """Vectors scaled to keep each item within its share of top-10 lists: see `ListBars`."""
        bars = self._new.bars
        if bars is None:
            return vectors
        scales, lists = bars.scales(vectors, added)
        for row in np.flatnonzero(scales < 1).tolist():
            logger.warning(
                "item %r would be in %.1f%% of top-10 lists, more than its share: its scores are "
                "multiplied by %.3g",
                rows[columns.ITEM_ID][row], 100 * lists[row], scales[row],
            )  # fmt: skip
        return vectors * scales[:, None]

    @cached_property
    def _release(self) -> FloatArray:
        """``(items, RELEASE_WAVES)`` release times of the bundle's items."""
        return self._new.releases.waves(releases(self._contents.catalogue))

    @cached_property
    def _trained(self) -> BoolArray:
        """``(items,)`` which of the bundle's items had training events."""
        factors = self._contents.factors
        assert factors is not None, "a bundle with a fold-in holds factors"
        return np.any(factors != 0, axis=1)  # type: ignore[no-any-return]


def text_vectors(encoder: TextEncoder | None, name: str, texts: Sequence[str]) -> FloatArray:
    """Text vectors by the encoder ``name``: the bundle's, or hashing; `InputError` if missing."""
    if name == "hashing":
        return HashingText().encode(texts)
    if encoder is None or isinstance(encoder, HashingText):
        raise InputError(
            f"the bundle lacks the text encoder {name!r} of a declared column",
            'train with that text encoder, or say encoder = "hashing" in the schema',
        )
    return encoder.encode(texts)


def catalogue_rows(described: Sequence[dict[str, object]]) -> pl.DataFrame:
    """Item descriptions as catalogue rows."""
    from twotower.data.catalogue import CATALOGUE_SCHEMA  # also imports all readers and pyarrow

    extra = dict.fromkeys(columns.CATALOGUE_EXTRA, pl.String)
    schema = {**CATALOGUE_SCHEMA, **extra, columns.RELEASED: pl.Float64}
    return pl.DataFrame(described, schema=schema)
