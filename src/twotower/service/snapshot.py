"""Serving snapshot: a bundle with the changes from the database applied."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from twotower.bundle.manifest import Manifest
from twotower.bundle.storage import load_bundle
from twotower.bundle.throttle import Pause, no_pause
from twotower.data import IdMap, columns
from twotower.errors import InputError
from twotower.inference.item_encoder import EncodedItems, ItemEncoder, catalogue_rows
from twotower.inference.item_table import Descriptions, ItemTable
from twotower.inference.pipeline import Pipeline
from twotower.inference.requests import Past
from twotower.inference.smoke import check_answers
from twotower.service.past_events import PastEvents
from twotower.service.state import Changes, Cursor, Forgotten, ItemFields, StoredItem
from twotower.types import FloatArray

logger = logging.getLogger(__name__)


class ServedUsers(IdMap):
    """An id map from which users can be removed. Rows stay where they are."""

    @classmethod
    def of(cls, users: IdMap) -> Self:
        """A map of the same users, sharing the table of ids."""
        made = cls.__new__(cls)
        made.ids, made.kind = users.ids, users.kind
        made.__dict__["_index"] = users._index
        return made

    def forget(self, external: str) -> None:
        """Remove an id, making the user unknown."""
        self._index.pop(external, None)

    def known(self) -> list[str]:
        """The remaining ids."""
        return list(self._index)


@dataclass(frozen=True)
class Snapshot:
    """State that answers requests; immutable, except for past events and forgotten users."""

    pipeline: Pipeline
    """The bundle with the current items."""
    manifest: Manifest
    past: PastEvents
    cursor: Cursor
    """How far the database has been applied."""
    users: ServedUsers
    """The bundle's users, without those recognised as forgotten."""
    forgotten: Forgotten
    """Tombstones hold no ids: a forgotten user is recognised when a request names them."""
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Declared columns of users by id, as the database holds them."""

    @classmethod
    def of_bundle(
        cls,
        folder: Path,
        threads: int,
        events_of_user: int,
        events: int,
        forgotten: Forgotten,
        pause: Pause = no_pause,
    ) -> Self:
        """Load, verify and smoke-test a bundle.

        `ArtefactError` if it is broken or fails the smoke test.

        Parameters
        ----------
        events_of_user, events
            Events to keep per user and in total: see `PastEvents`.
        forgotten
            Empty; the database's tombstones are added to it later.
        """
        bundle = load_bundle(folder, pause)
        users = ServedUsers.of(bundle.contents.users)
        pipeline = Pipeline(replace(bundle.contents, users=users), threads, room=True)
        pipeline.warm(pause)
        check_answers(pipeline)
        past = PastEvents(pipeline.contents, events_of_user, events)
        return cls(pipeline, bundle.manifest, past, Cursor(), users, forgotten)

    def shared_items(self, other: "Snapshot") -> float:
        """Share of this bundle's items that the other one has too."""
        own, others = (
            snapshot.pipeline.contents.catalogue[columns.ITEM_ID] for snapshot in (self, other)
        )
        return float(own.is_in(others.implode()).sum()) / max(len(own), 1)

    def without_changes(self, pause: Pause = no_pause) -> Self:
        """The snapshot of the bundle alone, ready to apply another database's changes."""
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
            gone = [item.fields.item_id for item in changes.items if item.deleted]
            if gone:
                table = table.without(gone)
            kept = [item for item in changes.items if not item.deleted]
            bundled = [item for item in kept if item.fields.item_id in pipeline.contents.items]
            added = [item for item in kept if item.fields.item_id not in pipeline.contents.items]
            if bundled:
                table = table.redescribed(described(bundled))
            encoder = _encoder(pipeline, len(added)) if added else None
            if encoder is not None:
                table = _with_added(table, encoder, added, self.manifest.model_version)
            pipeline = pipeline.with_items(table)
        self.forgotten.add(changes.forgotten)
        self.past.add(changes.events)
        if changes.forgotten:  # drop old attributes; those in `changes` were written later
            new = {user.digest for user in changes.forgotten}
            for user_id in [*self.attributes]:
                if self.forgotten.digest(user_id) in new:
                    del self.attributes[user_id]
        self.attributes.update(changes.users)
        return replace(self, pipeline=pipeline, cursor=changes.cursor)

    def attributes_of(self, user_id: str | None) -> dict[str, Any] | None:
        """A user's stored attributes that the bundle's schema declares; None if none are stored."""
        stored = None if user_id is None else self.attributes.get(user_id)
        return None if stored is None else self.pipeline.known_attributes(stored)

    def past_of(self, user_id: str) -> Sequence[Past]:
        """A user's events since the bundle was made; applies a tombstone, if there is one."""
        if self.forgotten:
            self.erase(user_id)
        return self.past.of(user_id)

    def erase(self, user_id: str) -> None:
        """Drop from memory the data of a user that a tombstone covers. Later events stay."""
        until = self.forgotten.since(user_id)
        if until is None:
            return
        self.past.forget(user_id, until)
        row = self.users.find(user_id)
        if row is not None and not self._began_after(row, until):
            self.users.forget(user_id)

    def erase_all(self, pause: Pause = no_pause) -> None:
        """Drop the data of all forgotten users, without waiting for requests to name them."""
        self.past.forget_all(self.forgotten.since)
        for place, user_id in enumerate(self.users.known()):
            if self.forgotten.since(user_id) is not None:
                self.erase(user_id)
            if place % 1000 == 0:
                pause()

    def bundled_history(self, user_id: str) -> list[dict[str, object]]:
        """The bundle's data about a user: item, rating and time of each interaction."""
        row = self.users.find(user_id)
        if row is None:
            return []
        log, items = self.pipeline.contents.histories, self.pipeline.contents.items
        places = range(int(log.indptr[row]), int(log.indptr[row + 1]))
        return [
            {
                "item_id": items.ids[int(log.items[place])],
                "rating": None if log.ratings is None else float(log.ratings[place]),
                "timestamp": None if log.timestamps is None else int(log.timestamps[place]),
            }
            for place in places
        ]

    def _began_after(self, row: int, moment: int) -> bool:
        """Whether all of the bundle's events of a user came after a moment."""
        log = self.pipeline.contents.histories
        own = slice(int(log.indptr[row]), int(log.indptr[row + 1]))
        if log.timestamps is None or own.start == own.stop:
            return False
        return bool(log.timestamps[own].min() > moment)


def described(items: Sequence[StoredItem]) -> Descriptions:
    """Stored items as descriptions for the item table."""
    fields = [item.fields for item in items]
    return Descriptions(
        [item.item_id for item in fields],
        [item.title for item in fields],
        [item.category for item in fields],
        [np.nan if item.price is None else item.price for item in fields],
        [item.columns or {} for item in fields],
    )


def encoded_item(
    fields: ItemFields, encoder: ItemEncoder, model_version: str, added: int
) -> StoredItem:
    """An item to store, with its text vector and its encoding by the bundle of that version.

    ``added`` is the number of items added before.
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
    """The table with stored items added; items encoded by another bundle are encoded again."""
    own = [item for item in added if item.model_version == model_version]
    kept = [item.encoding for item in own if item.encoding is not None]
    if kept:
        text = stored_text(encoder, own) if encoder.keeps_text else None
        table = table.with_items(described(own), EncodedItems.of_bytes(kept, text, table.contents))
    others = [item for item in added if item.model_version != model_version]
    if others:
        rows = catalogue_rows([item.fields.model_dump() for item in others])
        columns = [item.fields.columns or {} for item in others]
        encoded = encoder.encode(rows, stored_text(encoder, others), len(own), columns)
        table = table.with_items(described(others), encoded)
    return table


def stored_text(encoder: ItemEncoder, items: Sequence[StoredItem]) -> FloatArray | None:
    """Text vectors of stored items, from the database or else encoded now."""
    if encoder.text_encoder is None:
        return None
    name, dim = encoder.text_encoder.name, encoder.text_encoder.dim
    vectors = np.zeros((len(items), dim), dtype=np.float32)
    missing = []
    for row, item in enumerate(items):
        if item.text_vector is not None and item.text_encoder == name:
            vectors[row] = np.frombuffer(item.text_vector, dtype=np.float32)
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
