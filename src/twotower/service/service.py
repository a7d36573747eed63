"""The service without HTTP: one bundle, its database, and what answers requests."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from twotower.bundle.folders import bundle_folder, without_path
from twotower.bundle.manifest import Manifest
from twotower.bundle.throttle import paced, pause
from twotower.errors import ArtefactError
from twotower.inference.filters import ANY, Filters
from twotower.inference.pipeline import Pipeline, Recommendation
from twotower.inference.requests import Request
from twotower.inference.stages import Timings
from twotower.service.settings import ServeSettings
from twotower.service.snapshot import Snapshot, encoded_item
from twotower.service.state import (
    Changes,
    Event,
    ItemFields,
    StateConflictError,
    StateStore,
    StateUnavailableError,
    StoredItem,
)
from twotower.service.trim_memory import settle
from twotower.service.write_counter import Writes

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 500  # items, and events, that are read from the database
_RELOAD_SHARE: Final = 0.25  # of the time, while another bundle answers


class Service:
    """Answers from a snapshot in memory; writes to the database, then to the snapshot.

    A write is on disk before its method returns, and in every answer that begins after that.
    While the database is gone, requests are answered as before, and writes are refused.

    Parameters
    ----------
    settings
        Where the bundle and the database are, and the limits.
    writes
        Where this service is several processes: what they count their writes with.
    bundle
        Name of a folder beside the configured bundle, to begin with that one.

    Attributes
    ----------
    current
        What answers requests now.
    state_answers
        Whether the database did when it was last asked.
    caught_up_with
        How many of the `written` are taken over, or were tried in vain while the database was gone.

    Raises
    ------
    ArtefactError
        Where the bundle is broken.
    StateUnavailableError
        Where the database cannot be reached.
    """

    def __init__(
        self, settings: ServeSettings, writes: Writes | None = None, bundle: str | None = None
    ) -> None:
        self.settings = settings
        self._writes = writes
        self.caught_up_with = self.written
        self.store = StateStore(settings.database)
        self.state_answers = True
        self._changing = threading.Lock()
        self._reloading = threading.Lock()
        self._extending = threading.Lock()
        try:
            self.current = self._load(bundle_folder(settings.bundle, bundle))
        except Exception:
            self.store.close()
            raise

    @property
    def pipeline(self) -> Pipeline:
        """What answers requests now."""
        return self.current.pipeline

    @property
    def manifest(self) -> Manifest:
        """The bundle's that answers requests now."""
        return self.current.manifest

    @property
    def written(self) -> int:
        """Writes of all processes of this service so far; of one alone they are not counted."""
        return 0 if self._writes is None else self._writes.total

    def knows(self, user_id: str) -> bool:
        """Whether anything is known of a user."""
        snapshot = self.current
        return user_id in snapshot.pipeline.contents.users or bool(snapshot.past.of(user_id))

    def recommend(
        self,
        requests: Sequence[Request],
        k: int,
        *,
        exclude_seen: bool = True,
        filters: Filters = ANY,
        rerank: bool | None = None,
        reasons: bool = True,
        timings: Timings | None = None,
    ) -> list[list[Recommendation]]:
        """As `Pipeline.recommend_batch`, with what the users did lately."""
        snapshot = self.current
        followed = [
            request
            if request.user_id is None
            else replace(request, past=snapshot.past.of(request.user_id))
            for request in requests
        ]
        return snapshot.pipeline.recommend_batch(
            followed,
            k,
            exclude_seen=exclude_seen,
            filters=filters,
            candidates=max(self.settings.candidates, k),
            rerank=self.settings.rerank if rerank is None else rerank,
            reasons=reasons,
            timings=timings,
        )

    def create_item(self, fields: ItemFields) -> bool:
        """Add an item; False where the very same one was added before.

        Raises
        ------
        StateConflictError
            Where the id is another item's.
        InputError
            Where the bundle cannot encode new items.
        """
        items, item_id = self.pipeline.items, fields.item_id
        if (row := items.contents.items.find(item_id)) is not None and items.listed[row]:
            exists = f"item {item_id!r} exists"
            raise StateConflictError(exists, "choose another id, or PUT to replace it")
        item = self._encoded(fields)
        if (revision := self.store.create_item(item)) is not None:
            self._wrote(item, revision)
        return revision is not None

    def put_item(self, fields: ItemFields) -> None:
        """Add an item or describe it anew. One of the bundle keeps its trained vector."""
        self._put(self._encoded(fields))

    def delete_item(self, item_id: str) -> None:
        """Take an item out of the catalogue; `InputError` where there is none."""
        table = self.pipeline.items
        shown = table.describe(table.row(item_id))
        fields = ItemFields.model_construct(item_id=item_id, title=shown.titles[0] or item_id)
        self._put(StoredItem(fields, deleted=True))

    def set_availability(self, item_id: str, available: bool) -> None:
        """Say whether an item can be had; `InputError` where there is no such item."""
        self.pipeline.items.row(item_id)
        self.store.set_availability(item_id, available)
        self._wrote()

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """Record events, all or none; False for each that was recorded before."""
        recorded = self.store.add_events(events)
        self._wrote()
        return recorded

    def catch_up(self) -> None:
        """Take over what this or another process wrote to the database."""
        with self._changing:
            written = self.written  # before the look: what comes during it may be missed by it
            try:
                self.current = self._caught_up(self.current)
            except StateUnavailableError:
                self.state_answers = False
                raise
            finally:
                self.caught_up_with = written
            self.state_answers = True
        self._extend_if_due()

    def reload(self, name: str | None = None) -> Manifest:
        """Swap in a bundle, after it was verified and tried. The old one answers until then.

        Parameters
        ----------
        name
            Of a folder beside the configured bundle; None reads the configured one again.

        Raises
        ------
        ArtefactError
            Where it is broken: the old one goes on.
        InputError
            At a name that is none.
        StateConflictError
            While another reload is under way.
        """
        folder = bundle_folder(self.settings.bundle, name)
        if not self._reloading.acquire(blocking=False):
            raise StateConflictError("a reload is under way", "wait until it has ended")
        try:
            with paced(_RELOAD_SHARE):
                loaded = self._load(folder)
            with self._changing:
                self.current = self._caught_up(loaded)
            del loaded
            settle(thorough=False)
        except ArtefactError as error:
            raise ArtefactError(without_path(str(error), folder)) from None
        finally:
            self._reloading.release()
        logger.info("now serving %s", self.manifest.model_version)
        return self.manifest

    def close(self) -> None:
        """Close the database's connections."""
        self.store.close()

    def _put(self, item: StoredItem) -> None:
        self._wrote(item, self.store.put_item(item))

    def _wrote(self, item: StoredItem | None = None, revision: int = 0) -> None:
        """Something is committed: the other processes shall know it, and this one takes it over."""
        if self._writes is not None:
            self._writes.add()
        if item is not None and self._took_over(item, revision):
            self._extend_if_due()
        else:
            self.catch_up()

    def _took_over(self, item: StoredItem, revision: int) -> bool:
        """Take over an item of this process, without reading it back, where nothing else is new."""
        with self._changing:
            cursor, behind = self.current.cursor, self.written - self.caught_up_with
            alone = self.state_answers and behind <= 1 and revision == cursor.items + 1
            if alone:
                change = Changes([item], [], [], replace(cursor, items=revision))
                self.current = self.current.advanced(change)
                self.caught_up_with += behind
        return alone

    def _load(self, folder: Path) -> Snapshot:
        settings = self.settings
        snapshot = Snapshot.of_bundle(folder, settings.threads, settings.max_history)
        start = self.store.start(settings.events_in_memory)
        snapshot = self._caught_up(replace(snapshot, cursor=start))
        if snapshot.pipeline.lags(settings.extend_share):
            whole = snapshot.pipeline.whole_index()
            snapshot = replace(snapshot, pipeline=snapshot.pipeline.with_index(whole))
        return snapshot

    def _caught_up(self, snapshot: Snapshot) -> Snapshot:
        while True:
            changes = self.store.changes(snapshot.cursor, _AT_ONCE, _AT_ONCE)
            if changes:
                snapshot = snapshot.advanced(changes)
            if max(len(changes.items), len(changes.events)) < _AT_ONCE:
                return snapshot
            pause()

    def _encoded(self, fields: ItemFields) -> StoredItem:
        """An item with what the bundle knows of it, so that nobody needs to encode it again."""
        snapshot = self.current
        if fields.item_id in snapshot.pipeline.contents.items:
            return StoredItem(fields)
        late = snapshot.pipeline.items.late
        return encoded_item(
            fields,
            snapshot.pipeline.item_encoder,
            snapshot.manifest.model_version,
            added=len(late) - (fields.item_id in late),
        )

    def _extend_if_due(self) -> None:
        if not self._extending.acquire(blocking=False):
            return
        if self.pipeline.lags(self.settings.extend_share):
            threading.Thread(target=self._extend_index, name="twotower-index", daemon=True).start()
        else:
            self._extending.release()

    def _extend_index(self) -> None:
        try:
            before = self.current
            index = before.pipeline.whole_index()
            with self._changing:
                now = self.current
                if now.pipeline.contents is before.pipeline.contents:
                    self.current = replace(now, pipeline=now.pipeline.with_index(index))
            logger.info("index now holds all of %d items", index.size)
        except Exception as error:  # the old index goes on, and items outside it are found too
            logger.error("the index could not be extended", exc_info=error)
        finally:
            self._extending.release()
