"""Recommendation service without HTTP: a bundle, its state database, reloads and comparisons."""

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

from pydantic import SecretStr

from twotower.bundle.manifest import Manifest, verify
from twotower.bundle.storage import bundle_folder, without_path
from twotower.bundle.throttle import Pause, Throttle, no_pause
from twotower.errors import ArtefactError, InputError, TwoTowerError
from twotower.inference.business_rules import read_rules
from twotower.inference.pipeline import Pipeline
from twotower.service.comparison import Assigned, Comparison
from twotower.service.live import PopularityDrift, ShownCounts, live_report
from twotower.service.settings import ServeSettings
from twotower.service.shadow import Shadow
from twotower.service.snapshot import Snapshot, encoded_item
from twotower.service.state import (
    BundleInService,
    Changes,
    Cursor,
    Event,
    Forgetting,
    Forgotten,
    ItemFields,
    StateConflictError,
    StateReplacedError,
    StateStore,
    StateUnavailableError,
    StoredItem,
    live,
    personal,
)
from twotower.service.state.live import Begun, Mode
from twotower.service.state.personal import HEARTBEAT_S, now_ms
from twotower.service.trim_memory import trim_memory

logger = logging.getLogger(__name__)

T = TypeVar("T")

_AT_ONCE: Final = 500  # items, and events, per read from the database
_RELOAD_SHARE: Final = 0.25  # of the time, for loading while another bundle answers
_FEW_SHARED: Final = 0.5  # share of common items below which a reload warns of another data set
SYNC_S: Final = 0.2
"""How long a request waits for a read of what other processes wrote to the database."""

SHOWN_EVERY_S: Final = 10.0
"""Seconds between writes of the counts of shown answers."""
_DAY_MS: Final = 86_400_000

State: TypeAlias = Literal["up", "stale", "down"]


class Service:
    """Answers from a snapshot in memory; writes to the database, then to the snapshot.

    Read-your-writes: a write is on disk before its method returns, and in every answer that starts
    after that. While the database is unavailable, requests are still answered, and writes are
    refused. No lock is held during database calls, so answers never wait for them.

    The bundle in service is a row of the database: a reload is followed by every service on that
    database whose configured folder has the same name, on any machine.

    Attributes
    ----------
    current
        The snapshot that answers requests.
    state_answers
        Whether the database answered the last call.
    on_follow
        Called after another service's reload with whether following it succeeded.

    Raises
    ------
    ArtefactError
        If the bundle is broken.
    StateUnavailableError
        If the database cannot be reached.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.on_follow: Callable[[bool], None] = lambda _: None
        self.store = StateStore(settings.database, settings.state_timeout_s)
        self.state_answers = True
        self._writes_fail = False
        self._replaced = False
        self._reading_anew: threading.Thread | None = None
        self._syncs: dict[object, float] = {}  # reads in progress, and when each began
        self._changing = threading.Lock()
        self._reloading = threading.Lock()  # held for a call of `reload`
        self._loading = threading.Lock()  # held while a bundle, or the whole database, is read
        self._extending = threading.Lock()
        self._name = secrets.token_hex(16)  # of this process in the followers table
        self._confirmed: tuple[int, float] | None = None  # newest confirmed tombstone, and when
        self.shown = ShownCounts()
        self._drift: tuple[object, PopularityDrift] | None = None  # of the contents in service
        self._comparison = Comparison()
        self._following_split = threading.Lock()
        self._erased = 0  # newest tombstone that memory was searched for
        self._maintained = -math.inf
        self._shown_at = time.monotonic()
        try:
            self._served, self.current = self._first()
            self.confirm()  # before anything is answered
        except Exception:
            self.store.close()
            raise

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline that answers requests."""
        return self.current.pipeline

    @property
    def manifest(self) -> Manifest:
        """Manifest of the bundle in service."""
        return self.current.manifest

    @property
    def state(self) -> State:
        """Health of the database.

        ``down`` if it does not answer, refused the last write or was replaced; ``stale`` if a read
        is overdue, so answers may lack other processes' writes.
        """
        if not self.state_answers or self._writes_fail or self._replaced:
            return "down"
        overdue = time.monotonic() - SYNC_S
        return "stale" if any(began < overdue for began in [*self._syncs.values()]) else "up"

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Track a read of the database, for `state`."""
        read = object()
        self._syncs[read] = time.monotonic()
        try:
            yield
        finally:
            del self._syncs[read]

    def create_item(self, fields: ItemFields) -> bool:
        """Add an item; False if an identical one was added before.

        `StateConflictError` if the id belongs to another item, `InputError` if the bundle cannot
        encode new items.
        """
        items, item_id = self.pipeline.items, fields.item_id
        if (row := items.contents.items.find(item_id)) is not None and items.listed[row]:
            exists = f"item {item_id!r} exists"
            raise StateConflictError(exists, "choose another id, or PUT to replace it")
        item = self._encoded(fields)
        with self._noting_writes():
            revision = self.store.create_item(item)
        if revision is None:  # stored before, but perhaps not applied here, as after a retry
            self._wrote()
        else:
            self._wrote(Changes([item], [], [], Cursor(items=revision)))
        return revision is not None

    def put_item(self, fields: ItemFields) -> None:
        """Add an item or replace its description. The bundle's items keep their trained vectors."""
        self._put(self._encoded(fields))

    def delete_item(self, item_id: str) -> None:
        """Remove an item from the catalogue; `InputError` if there is no such item."""
        table = self.pipeline.items
        shown = table.describe(table.row(item_id))
        fields = ItemFields.model_construct(item_id=item_id, title=shown.titles[0] or item_id)
        self._put(StoredItem(fields, deleted=True))

    def set_availability(self, item_id: str, available: bool) -> None:
        """Set whether an item is available; `InputError` if there is no such item."""
        self.pipeline.items.row(item_id)
        self.set_stock({item_id: available})

    def set_stock(self, available: Mapping[str, bool]) -> None:
        """Set whether items are available, atomically.

        Ids that are not served yet are accepted too, and apply once such an item is added.
        """
        with self._noting_writes():
            revision = self.store.set_stock(available)
        self._wrote(Changes([], [*available.items()], [], Cursor(availability=revision)))

    def put_user(self, user_id: str, attributes: Mapping[str, Any]) -> None:
        """Set a user's attributes, replacing earlier ones; raises as `accepted`."""
        checked = self.accepted(Pipeline.checked_attributes, attributes)
        with self._noting_writes():
            revision = self.store.put_user(user_id, checked)
        self._wrote(Changes([], [], [], Cursor(users=revision), [(user_id, checked)]))

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """Record events atomically; False for duplicates and for users forgotten since."""
        with self._noting_writes():
            rules = self.pipeline.contents.info.events
            outcomes = self._comparison.outcomes(rules, events)
            recorded = self.store.add_events(events, outcomes)
        self._wrote()
        self.drift.add(event.item_id for event, new in zip(events, recorded, strict=True) if new)
        return recorded

    @property
    def drift(self) -> PopularityDrift:
        """Drift of the events recorded by this process from the log of the bundle in service."""
        contents = self.pipeline.contents
        if self._drift is None or self._drift[0] is not contents.histories:
            self._drift = contents.histories, PopularityDrift(contents)
        return self._drift[1]

    def assigned(self, user_id: str | None) -> Assigned:
        """The bundle or bundles that answer a user today."""
        return self._comparison.assigned(self.current, user_id)

    def shadowed(self, user_id: str | None) -> tuple[Shadow, Snapshot] | None:
        """The shadow that also answers a user today, and its snapshot; None without one."""
        return self._comparison.shadowed(self.current, user_id)

    def accepted(self, check: Callable[[Pipeline, T], dict[str, Any]], given: T) -> dict[str, Any]:
        """Checked attributes or context; if two bundles answer, either may accept it.

        ``check`` is a method such as `Pipeline.checked_attributes`. If all refuse, the `InputError`
        of the bundle in service is raised.
        """
        refused: list[InputError] = []
        for pipeline in self._comparison.answering(self.pipeline):
            try:
                return check(pipeline, given)
            except InputError as error:
                refused.append(error)
        raise refused[0]

    def split(self, name: str | None, share: float = 0.5, mode: Mode = "split") -> Begun:
        """Compare with another bundle, named as in `reload`, on a share of the users; None ends it.

        Replaces any running comparison. Modes: ``split`` answers these users from the other bundle;
        ``interleave`` mixes items of both bundles, see `team_draft`; ``shadow`` compares the other
        bundle's answers without showing them. Other processes and services follow.
        """
        if name is not None:
            verify(bundle_folder(self.settings.bundle, name), ())
        with self._noting_writes():
            begun = self.store.write(live.set_split, self._configured, name, share, mode)
        self.follow_split()
        return begun

    def follow_split(self) -> None:
        """Load or release the other bundle, following the comparison in the database."""
        with self._following_split:
            wanted = self.store.read(live.split, self._configured)
            before = self._comparison
            if wanted == before.split:
                return
            challenger = shadow = None
            if wanted is not None and wanted.name is not None:
                folder = bundle_folder(self.settings.bundle, wanted.name)
                same = self.settings.model_copy(update={"bundle": folder, "processes": 1})
                try:
                    challenger = Service(
                        same.model_copy(update={"state_url": SecretStr(self.settings.database)})
                    )
                except TwoTowerError as error:
                    logger.error(
                        "the other bundle of the %s cannot be used: %s", wanted.mode, error
                    )
                else:
                    shadow = Shadow() if wanted.mode == "shadow" else None
            self._comparison.write(self.store, self.shown)
            self._comparison = Comparison(wanted, challenger, shadow)
            before.close()
            logger.info("bundles compared", extra={"fields": self._comparison.described()})

    def live_report(self, since: int) -> dict[str, Any]:
        """Live metrics since a moment, in milliseconds: see `twotower.service.live.report`."""
        self._comparison.write(self.store, self.shown)
        return {
            "since": since,
            **live_report(self.store, self._configured, since),
            "psi": self.drift.psi,
        }

    def forget(self, user_ids: Sequence[str]) -> tuple[Forgetting, int]:
        """Forget users in the database and in every later answer of every process.

        Waits for all processes on the database to confirm, for at most the time limit of a
        database call.

        Returns
        -------
        outcome, unconfirmed
            What was deleted, and how many processes did not confirm in time: they will when they
            next reach the database.
        """
        deadline = time.monotonic() + self.settings.state_timeout_s
        with self._noting_writes():
            outcome = self.store.forget(user_ids)
        self.current.forgotten.add(outcome.tombstones)
        self._wrote()
        for service in (self, *self._others):
            for user_id in user_ids:
                service.current.erase(user_id)
        logger.info(
            "users were forgotten", extra={"fields": {"users": len(user_ids), "rows": outcome.rows}}
        )
        self.confirm()
        left = max(0.0, deadline - time.monotonic())
        return outcome, self.store.wait_for_followers(outcome.revision, left)

    def export(self, user_id: str) -> dict[str, Any]:
        """All data stored about a user: database rows by table, and the bundle's history."""
        self.catch_up()
        rows = self.store.read(personal.rows_of, user_id)
        snapshot = self.current
        snapshot.past_of(user_id)  # applies a tombstone, if there is one
        bundle = {
            "model_version": snapshot.manifest.model_version,
            "history": snapshot.bundled_history(user_id),
        }
        return {"user_id": user_id, **rows, "bundle": bundle}

    def confirm(self) -> None:
        """Heartbeat: tell the database that this process runs, and its newest applied tombstone."""
        revision, now = self.current.cursor.forgotten, time.monotonic()
        if self._confirmed is None or self._confirmed[0] != revision or (
            now - self._confirmed[1] > HEARTBEAT_S
        ):  # fmt: skip
            self.store.confirm(self._name, revision)
            self._confirmed = revision, now
        for other in self._others:
            other.confirm()

    def maintain(self) -> None:
        """Periodic work that may take long: following comparisons, writing counts, age limits.

        `StateUnavailableError` if the database does not answer.
        """
        self.follow_split()
        if time.monotonic() - self._shown_at > SHOWN_EVERY_S:
            self._shown_at = time.monotonic()
            self._comparison.write(self.store, self.shown)
        snapshot = self.current
        if self._erased != snapshot.cursor.forgotten:
            snapshot.erase_all(Throttle(_RELOAD_SHARE))
            self._erased = snapshot.cursor.forgotten
        settings = self.settings
        if time.monotonic() - self._maintained < settings.maintain_every_s:
            return
        self._maintained = time.monotonic()
        self._drop_old_events()
        if self.store.write(personal.claim_maintenance, settings.maintain_every_s / 2):
            self._maintain_database()

    def _drop_old_events(self) -> None:
        """Drop events from memory that exceed the age limits of the settings."""
        limits = (self.settings.events_keep_days, self.settings.anonymise_after_days)
        days = [limit for limit in limits if limit is not None]
        if days:
            cutoff = now_ms() - int(min(days) * _DAY_MS)
            for service in (self, *self._others):
                service.current.past.forget_all(lambda _: cutoff)

    def _maintain_database(self) -> None:
        settings, now = self.settings, now_ms()
        done = {"encodings_deleted": self.store.write(personal.delete_old_encodings)}
        if settings.events_keep_days is not None:
            before = now - int(settings.events_keep_days * _DAY_MS)
            done["events_deleted"] = self.store.delete_events(before)
        if settings.anonymise_after_days is not None:
            before = now - int(settings.anonymise_after_days * _DAY_MS)
            done["events_anonymised"] = self.store.anonymise_events(before)
        self.store.scrub()
        logger.info("the database was maintained", extra={"fields": done})

    def catch_up(self) -> None:
        """Apply what this or another process wrote to the database.

        `StateUnavailableError` if the database does not answer, `StateReplacedError` if it was
        replaced: it is then reread in the background.
        """
        try:
            self._refuse_if_replaced()
            self._sync()
            self._follow_if_due()
        except StateUnavailableError as error:
            self._note_replaced(error)
            self.state_answers = False
            raise
        self.state_answers = True
        self._extend_if_due()
        for other in self._others:
            other.catch_up()

    def probe(self) -> None:
        """If the last write was refused, check whether the database accepts writes again."""
        if self._writes_fail and not self._replaced:
            with self._noting_writes():
                self.store.try_writing()

    def reload(self, name: str | None = None) -> Manifest:
        """Swap in a bundle once verified and smoke-tested. The old one answers until then.

        Other services on the database follow. ``name`` is a folder beside the configured bundle;
        None reloads the configured one.

        Raises
        ------
        ArtefactError
            If it is broken: the old one stays in service, everywhere.
        InputError
            If the name is invalid.
        StateConflictError
            While another reload is in progress.
        StateUnavailableError
            If the database does not answer.
        """
        folder = bundle_folder(self.settings.bundle, name)
        self._refuse_if_replaced()
        if not self._reloading.acquire(blocking=False):
            raise StateConflictError("a reload is under way", "wait until it has ended")
        try:
            with self._loading:
                loaded = self._loaded(folder)
                shared = self.current.shared_items(loaded)
                with self._noting_writes():
                    served = self.store.set_bundle(self._configured, name)
                self._swap_in(loaded)
                self._served = served
                del loaded
        finally:
            self._reloading.release()
        trim_memory(thorough=False)
        logger.info("now serving %s", self.manifest.model_version)
        if shared < _FEW_SHARED:
            logger.warning(
                "it has %.0f%% of the items of the bundle before it; if that is of another data "
                "set, reload the right one, and serve each data set with a state database of its "
                "own", 100 * shared,
            )  # fmt: skip
        return self.manifest

    def close(self) -> None:
        """Close the database's connections."""
        self._comparison.close()
        if self._confirmed is not None:
            with suppress(StateUnavailableError):
                self._comparison.write(self.store, self.shown)
            with suppress(StateUnavailableError):
                self.store.leave(self._name)
        self.store.close()

    def _put(self, item: StoredItem) -> None:
        with self._noting_writes():
            revision = self.store.put_item(item)
        self._wrote(Changes([item], [], [], Cursor(items=revision)))

    @contextmanager
    def _noting_writes(self) -> Iterator[None]:
        """Remember whether the last write was refused."""
        self._refuse_if_replaced()
        try:
            yield
        except StateUnavailableError as error:
            self._note_replaced(error)
            if not self._writes_fail:
                logger.error("a write was refused: %s", error)
            self._writes_fail = True
            raise
        if self._writes_fail:
            logger.info("the database takes writes again")
        self._writes_fail = False

    def _wrote(self, change: Changes | None = None) -> None:
        """Apply a committed write: ``change``, with the cursor of its last row, if known."""
        if change is not None and self._took_over(change):
            self._extend_if_due()
            for other in self._others:
                with suppress(StateUnavailableError):
                    other.catch_up()
            return
        try:
            self.catch_up()
        except StateUnavailableError as error:  # the write stands, so it is acknowledged
            logger.error("a write was committed, but not read back: %s", error)
            if change is not None:  # reading it again later is harmless
                with self._changing:
                    same = replace(change, cursor=self.current.cursor)
                    self.current = self.current.advanced(same)

    def _took_over(self, change: Changes) -> bool:
        """Apply a write of this process without reading it back, if no other came in between."""
        with self._changing:
            after = self.current.cursor.after(change.cursor)
            if after is None or not self.state_answers:
                return False
            self.current = self.current.advanced(replace(change, cursor=after))
        return True

    def _sync(self) -> None:
        """Read changes page by page; a page is read again if the snapshot changed meanwhile."""
        while True:
            before = self.current
            with self.waiting():
                changes = self.store.changes(before.cursor, _AT_ONCE, _AT_ONCE)
            with self._changing:
                if changes and self.current is not before:
                    continue
                if changes:
                    self.current = before.advanced(changes)
                if _is_last(changes):
                    return

    def _swap_in(self, loaded: Snapshot, pause: Pause = no_pause) -> None:
        """Switch to another snapshot once it has caught up with the current one."""
        while True:
            before = self.current
            loaded = self._caught_up(loaded, pause)
            with self._changing:
                if self.current is before:
                    self.current = loaded
                    return

    @property
    def _others(self) -> Sequence["Service"]:
        """The service of the other bundle, if a comparison runs."""
        challenger = self._comparison.challenger
        return () if challenger is None else (challenger,)

    @property
    def _configured(self) -> str:
        return self.settings.bundle.absolute().name

    def _first(self) -> tuple[BundleInService | None, Snapshot]:
        """Initial snapshot: the bundle of the last reload, else the configured one."""
        served = self.store.bundle(self._configured)
        if served is not None and served.name is not None:
            try:
                snapshot = self._load(bundle_folder(self.settings.bundle, served.name))
            except TwoTowerError as error:
                if isinstance(error, StateUnavailableError):
                    raise
                logger.error(
                    "the configured bundle is served, not %s of the last reload: %s",
                    served.name, error,
                )  # fmt: skip
            else:
                logger.info("beginning with %s, which the last reload named", served.name)
                return served, snapshot
        return served, self._load(self.settings.bundle)

    def _follow_if_due(self) -> None:
        """Follow another service's reload in a background thread."""
        served = self.store.bundle(self._configured)
        if served is None or served == self._served or not self._loading.acquire(blocking=False):
            return
        threading.Thread(target=self._follow, name="twotower-reload", daemon=True).start()

    def _follow(self) -> None:
        try:
            served = self.store.bundle(self._configured)  # may now be this process's own reload
            if served is None or served == self._served:
                return
            self._served = served  # set first: a broken bundle is not tried again
            self._swap_in(self._loaded(bundle_folder(self.settings.bundle, served.name)))
        except Exception as error:
            logger.error("the old bundle goes on, the new one cannot be used", exc_info=error)
            self.on_follow(False)
        else:
            logger.info("now serving %s", self.manifest.model_version)
            self.on_follow(True)
        finally:
            self._loading.release()
        trim_memory(thorough=False)
        with suppress(StateUnavailableError):  # the next sync sees it
            self._follow_if_due()

    def _loaded(self, folder: Path) -> Snapshot:
        """A bundle to swap in, loaded throttled while requests are served."""
        try:
            return self._load(folder, Throttle(_RELOAD_SHARE))
        except ArtefactError as error:
            raise ArtefactError(without_path(str(error), folder)) from None

    def _refuse_if_replaced(self) -> None:
        if self._replaced:
            self._read_anew_if_due()
            raise StateReplacedError(
                "the state database was replaced and is being read anew; nothing was written, "
                "try again when /ready says up"
            )

    def _note_replaced(self, error: StateUnavailableError) -> None:
        if isinstance(error, StateReplacedError) and not self._replaced:
            logger.error("all of it is read anew: %s", error)
            self._replaced = True
            self._read_anew_if_due()

    def _read_anew_if_due(self) -> None:
        """Reread the whole database in a background thread, unless one is running."""
        with self._changing:
            thread = self._reading_anew
            if not self._replaced or (thread is not None and thread.is_alive()):
                return
            self._reading_anew = threading.Thread(
                target=self._read_anew, name="twotower-state", daemon=True
            )
            self._reading_anew.start()

    def _read_anew(self) -> None:
        try:
            with self._loading:
                pause = Throttle(_RELOAD_SHARE)
                self.store.reopen()
                before, forgotten = self.current.forgotten, Forgotten(self.store.forget_key)
                if before.key == forgotten.key:  # an older back-up of the same database
                    self.store.forget_again(before.tombstones())
                start = self.store.start(self.settings.events_in_memory)
                anew = replace(self.current.without_changes(pause), forgotten=forgotten)
                self._swap_in(replace(anew, cursor=start), pause)
        except StateUnavailableError as error:  # retried at the next read or write
            logger.error("the replaced state database cannot be read: %s", error)
        except Exception as error:
            logger.error("the replaced state database cannot be read", exc_info=error)
        else:
            self._replaced = self._writes_fail = False
            self.state_answers = True
            logger.info("the replaced state database was read")
            self._extend_if_due()

    def _load(self, folder: Path, pause: Pause = no_pause) -> Snapshot:
        settings = self.settings
        snapshot = Snapshot.of_bundle(
            folder,
            settings.threads,
            settings.max_history,
            settings.events_in_memory,
            Forgotten(self.store.forget_key),
            pause,
        )
        start = self.store.start(settings.events_in_memory)
        snapshot = self._caught_up(replace(snapshot, cursor=start), pause)
        if snapshot.pipeline.lags(settings.extend_share):
            whole = snapshot.pipeline.whole_index()
            snapshot = replace(snapshot, pipeline=snapshot.pipeline.with_index(whole))
        if snapshot.forgotten:
            snapshot.erase_all(pause)
        return self._under_rules(snapshot)

    def _under_rules(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the business rules, read from their file."""
        if self.settings.rules is None:
            return snapshot
        pipeline = snapshot.pipeline.with_rules(read_rules(self.settings.rules))
        if pipeline.rules is not None and pipeline.rules.unknown:
            logger.warning(
                "business rules for unknown items: %s", ", ".join(pipeline.rules.unknown)
            )
        return replace(snapshot, pipeline=pipeline)

    def _caught_up(self, snapshot: Snapshot, pause: Pause) -> Snapshot:
        while True:
            changes = self.store.changes(snapshot.cursor, _AT_ONCE, _AT_ONCE)
            if changes:
                snapshot = snapshot.advanced(changes)
            if _is_last(changes):
                return snapshot
            pause()

    def _encoded(self, fields: ItemFields) -> StoredItem:
        """An item with its encoding by the bundle, so that it need not be encoded again."""
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
                    changes = before.pipeline.items.changes
                    extended = now.pipeline.with_index(index, changes)
                    self.current = replace(now, pipeline=extended)
            logger.info("index now holds all of %d items", index.size)
        except Exception as error:  # keep the old index: items outside it are found too
            logger.error("the index could not be extended", exc_info=error)
        finally:
            self._extending.release()


def _is_last(changes: Changes) -> bool:
    """Whether no further page is available yet."""
    return max(len(changes.items), len(changes.events), len(changes.users)) < _AT_ONCE
