"""Training data from a running service: its log, events and items as input of the next training."""

from pathlib import Path
from typing import Final

import polars as pl

from twotower.bundle.contents import BundleContents
from twotower.data import columns
from twotower.data.atomic import atomic_file
from twotower.inference.item_encoder import catalogue_rows
from twotower.service.state import Changes, Cursor, Event, EventKind, StateStore

INTERACTIONS: Final = "interactions.parquet"
ITEMS: Final = "items.parquet"
LEARNED: Final[tuple[EventKind, ...]] = ("buy", "rating")
"""Kinds of events that are taken for interactions by default: no views and no carts."""


def write_source(
    contents: BundleContents,
    store: StateStore,
    out: Path,
    kinds: tuple[EventKind, ...] = LEARNED,
) -> dict[str, int]:
    """Write the bundle's log and the database's events as one log, and all items as a catalogue.

    Parameters
    ----------
    contents
        The bundle that was served.
    store
        Its database.
    out
        Folder for ``interactions.parquet`` and ``items.parquet``.
    kinds
        Kinds of events to take.

    Returns
    -------
    dict
        How many interactions and items there are, and how many of each are new.
    """
    changes = _everything(store)
    new = [event for event in changes.events if event.kind in kinds]
    old = _bundle_log(contents)
    log = pl.concat([old, _event_log(new, old.columns)], how="diagonal").unique(
        [columns.USER_ID, columns.ITEM_ID, columns.TIMESTAMP], maintain_order=True
    )
    if columns.RATING in log.columns:
        log = _with_ratings(log)
    catalogue = _catalogue(contents, changes)
    with atomic_file(out / ITEMS) as temporary:
        catalogue.write_parquet(temporary)
    with atomic_file(out / INTERACTIONS) as temporary:
        log.write_parquet(temporary)
    return {
        "interactions": log.height,
        "interactions_new": log.height - old.height,
        "items": catalogue.height,
        "items_new": catalogue.height - contents.catalogue.height,
    }


def _everything(store: StateStore) -> Changes:
    changes = store.changes(Cursor())
    events = list(changes.events)
    cursor = changes.cursor
    while more := store.changes(cursor):
        events += more.events
        cursor = more.cursor
    return Changes(changes.items, changes.availability, events, cursor)


def _bundle_log(contents: BundleContents) -> pl.DataFrame:
    """The bundle's histories; where they have no times their order stands for it."""
    log = contents.histories
    users, items = pl.Series(contents.users.ids), pl.Series(contents.items.ids)
    frame = {columns.USER_ID: users[log.rows], columns.ITEM_ID: items[log.items]}
    if log.ratings is not None:
        frame[columns.RATING] = pl.Series(log.ratings, nan_to_null=True)
    times = log.timestamps
    if times is None:
        # Milliseconds from 1970 on: long before any event, and in the order of each history.
        starts = log.indptr[:-1].repeat(log.lengths)
        times = pl.int_range(len(log.items), eager=True).to_numpy() - starts
    frame[columns.TIMESTAMP] = pl.Series(times).cast(pl.Int64)
    return pl.DataFrame(frame)


def _with_ratings(log: pl.DataFrame) -> pl.DataFrame:
    """An event without a rating gets its user's mean, or that of all users, as while serving."""
    rating = pl.col(columns.RATING)
    own = rating.mean().over(columns.USER_ID)
    return log.with_columns(pl.coalesce(rating, own, rating.mean()).cast(pl.Float32))


def _event_log(events: list[Event], wanted: list[str]) -> pl.DataFrame:
    rows = pl.DataFrame(
        [(event.user_id, event.item_id, event.rating, event.occurred_at) for event in events],
        schema={
            columns.USER_ID: pl.String,
            columns.ITEM_ID: pl.String,
            columns.RATING: pl.Float32,
            columns.TIMESTAMP: pl.Int64,
        },
        orient="row",
    )
    return rows.select(wanted)


def _catalogue(contents: BundleContents, changes: Changes) -> pl.DataFrame:
    """The bundle's catalogue with later descriptions, and added items behind it.

    Deleted items stay: interactions with them are still worth learning from.
    """
    base = contents.catalogue
    described = catalogue_rows(
        [item.fields.model_dump() for item in changes.items if not item.deleted]
    )
    lacking = [name for name in described.columns if name not in base.columns]
    unused = [name for name in lacking if described[name].null_count() == described.height]
    described = described.drop(unused)
    base = base.with_columns(
        pl.lit(None, described.schema[name]).alias(name) for name in lacking if name not in unused
    )
    rows = base.update(described, on=columns.ITEM_ID)
    added = described.join(base.select(columns.ITEM_ID), on=columns.ITEM_ID, how="anti")
    return pl.concat([rows, added], how="diagonal_relaxed")
