"""One bundle together with the changes that the database holds."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from twotower.bundle.manifest import Manifest
from twotower.bundle.storage import load_bundle
from twotower.bundle.throttle import Pause, no_pause
from twotower.errors import InputError
from twotower.inference.item_encoder import EncodedItems, ItemEncoder, catalogue_rows
from twotower.inference.item_table import Descriptions, ItemTable, price_of
from twotower.inference.pipeline import Pipeline
from twotower.inference.smoke import check_answers
from twotower.service.past_events import PastEvents
from twotower.service.state import Changes, Cursor, ItemFields, StoredItem
from twotower.types import FloatArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """What answers requests at one moment. A value, but for `past`, which grows.

    Attributes
    ----------
    pipeline
        The bundle and the items as they are now.
    manifest
        The bundle's.
    past
        What users did.
    cursor
        How much of the database is in it.
    attributes
        Declared columns of users by id, as the database holds them.
    """

    pipeline: Pipeline
    manifest: Manifest
    past: PastEvents
    cursor: Cursor
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of_bundle(
        cls,
        folder: Path,
        threads: int,
        events_of_user: int,
        events: int,
        pause: Pause = no_pause,
    ) -> Self:
        """Load a bundle, verify it, and try it.

        Parameters
        ----------
        events_of_user, events
            How many are kept of one user, and of all: see `PastEvents`.
        pause
            Called every few milliseconds of the work.

        Raises
        ------
        ArtefactError
            Where it is broken, or does not answer as it should.
        """
        bundle = load_bundle(folder, pause)
        pipeline = Pipeline(bundle.contents, threads, room=True)
        pipeline.warm(pause)
        check_answers(pipeline)
        past = PastEvents(pipeline.contents, events_of_user, events)
        return cls(pipeline, bundle.manifest, past, Cursor())

    def without_changes(self, pause: Pause = no_pause) -> Self:
        """The bundle alone, to which the changes of another database can be applied."""
        pipeline = self.pipeline.without_changes()
        pipeline.warm(pause)
        return replace(
            self, pipeline=pipeline, past=self.past.emptied(), cursor=Cursor(), attributes={}
        )

    def advanced(self, changes: Changes) -> Self:
        """The snapshot after these changes, which follow its cursor."""
        pipeline = self.pipeline
        if changes.items or changes.availability:
            table = pipeline.items
            if changes.availability:
                table = table.with_availability(dict(changes.availability))
            gone = [one.fields.item_id for one in changes.items if one.deleted]
            if gone:
                table = table.without(gone)
            kept = [one for one in changes.items if not one.deleted]
            bundled = [one for one in kept if one.fields.item_id in pipeline.contents.items]
            added = [one for one in kept if one.fields.item_id not in pipeline.contents.items]
            if bundled:
                table = table.redescribed(described(bundled))
            encoder = _encoder(pipeline, len(added)) if added else None
            if encoder is not None:
                table = _with_added(table, encoder, added, self.manifest.model_version)
            pipeline = pipeline.with_items(table)
        self.past.add(changes.events)
        self.attributes.update(changes.users)
        return replace(self, pipeline=pipeline, cursor=changes.cursor)

    def attributes_of(self, user_id: str | None) -> dict[str, Any] | None:
        """What the database holds of a user, as the bundle's schema declares it, or None."""
        stored = None if user_id is None else self.attributes.get(user_id)
        return None if stored is None else self.pipeline.known_attributes(stored)


def described(items: Sequence[StoredItem]) -> Descriptions:
    """Stored items as the item table shows them."""
    fields = [one.fields for one in items]
    return Descriptions(
        [one.item_id for one in fields],
        [one.title for one in fields],
        [one.category for one in fields],
        [price_of(one.price) for one in fields],
        [one.columns or {} for one in fields],
    )


def encoded_item(
    fields: ItemFields, encoder: ItemEncoder, model_version: str, added: int
) -> StoredItem:
    """An item to store, with its text's vector and what the bundle of that version knows of it.

    ``added`` is the number of items that were added before.
    """
    rows = catalogue_rows([fields.model_dump()])
    text = encoder.texts(rows)
    encoding = encoder.encode(rows, text, added, [fields.columns or {}]).to_bytes(0)
    item = StoredItem(fields, model_version=model_version, encoding=encoding)
    if text is None or encoder.text_encoder is None:
        return item
    vector = np.ascontiguousarray(text[0], dtype=np.float32).tobytes()
    return replace(item, text_encoder=encoder.text_encoder.name, text_vector=vector)


def _with_added(
    table: ItemTable, encoder: ItemEncoder, added: Sequence[StoredItem], model_version: str
) -> ItemTable:
    """The table and stored items behind it; what another bundle encoded is encoded again."""
    own = [one for one in added if one.model_version == model_version]
    kept = [one.encoding for one in own if one.encoding is not None]
    if kept:
        text = stored_text(encoder, own) if encoder.keeps_text else None
        table = table.with_items(described(own), EncodedItems.of_bytes(kept, text, table.contents))
    others = [one for one in added if one.model_version != model_version]
    if others:
        rows = catalogue_rows([one.fields.model_dump() for one in others])
        columns = [one.fields.columns or {} for one in others]
        encoded = encoder.encode(rows, stored_text(encoder, others), len(own), columns)
        table = table.with_items(described(others), encoded)
    return table


def stored_text(encoder: ItemEncoder, items: Sequence[StoredItem]) -> FloatArray | None:
    """Text vectors of stored items: those that the database holds, others encoded now."""
    if encoder.text_encoder is None:
        return None
    name, dim = encoder.text_encoder.name, encoder.text_encoder.dim
    vectors = np.zeros((len(items), dim), dtype=np.float32)
    missing = []
    for row, one in enumerate(items):
        if one.text_vector is not None and one.text_encoder == name:
            vectors[row] = np.frombuffer(one.text_vector, dtype=np.float32)
        else:
            missing.append(row)
    if missing:
        rows = catalogue_rows([items[row].fields.model_dump() for row in missing])
        vectors[missing] = encoder.texts(rows)
    return vectors


def _encoder(pipeline: Pipeline, count: int) -> ItemEncoder | None:
    try:
        return pipeline.item_encoder
    except InputError as error:
        logger.warning("%d added items cannot be served: %s", count, error)
        return None
