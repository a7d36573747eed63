"""Training data from a running service: its log, events and items as input of the next training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from twotower.bundle.contents import BundleContents
from twotower.data import columns
from twotower.data.atomic import atomic_file
from twotower.data.declaration import DECLARATION_FILE, Declaration
from twotower.data.readers import ColumnMapping
from twotower.inference.item_encoder import catalogue_rows
from twotower.service.state import Changes, Cursor, Event, StateStore

INTERACTIONS: Final = "interactions.parquet"
ITEMS: Final = "items.parquet"
LEARNED: Final = ("buy", "rating")
"""Kinds of events that are taken for interactions where the bundle declares none: no views and no
carts."""


def write_source(
    contents: BundleContents,
    store: StateStore,
    out: Path,
    kinds: Sequence[str] | None = None,
) -> dict[str, int]:
    """Write the bundle's log and the database's events as one log, and all items as a catalogue.

    Where the bundle declares kinds of events, they are a column of the log, and a ``dataset.toml``
    beside it says what they are worth, so that the next training reads them as this one did.

    Parameters
    ----------
    contents
        The bundle that was served.
    store
        Its database.
    out
        Folder for ``interactions.parquet`` and ``items.parquet``.
    kinds
        Kinds of events to take; by default those that the bundle declares, else `LEARNED`.

    Returns
    -------
    dict
        How many interactions and items there are, and how many of each are new.
    """
    changes = _everything(store)
    rules = contents.info.events
    new = [
        event
        for event in changes.events
        if (rules is not None and kinds is None) or event.kind in (kinds or LEARNED)
    ]
    old = _bundle_log(contents)
    once = [columns.USER_ID, columns.ITEM_ID, columns.TIMESTAMP]
    once += [name for name in (columns.EVENT, columns.QUANTITY) if name in old.columns]
    log = pl.concat([old, _event_log(new, old.columns)], how="diagonal").unique(
        once, maintain_order=True
    )
    if columns.RATING in log.columns and rules is None:
        log = _with_ratings(log)
    catalogue = _catalogue(contents, changes)
    with atomic_file(out / ITEMS) as temporary:
        catalogue.write_parquet(temporary)
    with atomic_file(out / INTERACTIONS) as temporary:
        log.write_parquet(temporary)
    if rules is not None:
        declaration = Declaration(columns=ColumnMapping(event=columns.EVENT), events=rules)
        with atomic_file(out / DECLARATION_FILE) as temporary:
            temporary.write_text(declaration.to_toml(), encoding="utf-8")
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
    rules = contents.info.events
    if rules is not None and log.kinds is not None:
        frame[columns.EVENT] = pl.Series(rules.kinds)[log.kinds.astype("int64")]
    if rules is not None or contents.returned is not None:
        frame[columns.QUANTITY] = pl.repeat(None, len(log.items), dtype=pl.Float64, eager=True)
    return pl.concat(
        [_returned_log(contents, int(times.min(initial=0))), pl.DataFrame(frame)], how="diagonal"
    )


def _returned_log(contents: BundleContents, first: int) -> pl.DataFrame:
    """What users returned, before all else: it takes nothing away, and is not recommended again."""
    back, rules = contents.returned, contents.info.events
    if back is None:
        return pl.DataFrame()
    users, items = pl.Series(contents.users.ids), pl.Series(contents.items.ids)
    frame = pl.DataFrame({columns.USER_ID: users[back.rows], columns.ITEM_ID: items[back.items]})
    frame = frame.with_columns(
        pl.lit(first, pl.Int64).alias(columns.TIMESTAMP), pl.lit(-1.0).alias(columns.QUANTITY)
    )
    if rules is None:
        return frame
    return frame.with_columns(pl.lit(rules.weakest).alias(columns.EVENT))


def _with_ratings(log: pl.DataFrame) -> pl.DataFrame:
    """An event without a rating gets its user's mean, or that of all users, as while serving."""
    rating = pl.col(columns.RATING)
    own = rating.mean().over(columns.USER_ID)
    return log.with_columns(pl.coalesce(rating, own, rating.mean()).cast(pl.Float32))


def _event_log(events: list[Event], wanted: list[str]) -> pl.DataFrame:
    rows = pl.DataFrame(
        [
            (
                event.user_id,
                event.item_id,
                event.rating,
                event.occurred_at,
                event.kind,
                event.quantity,
            )
            for event in events
        ],
        schema={
            columns.USER_ID: pl.String,
            columns.ITEM_ID: pl.String,
            columns.RATING: pl.Float32,
            columns.TIMESTAMP: pl.Int64,
            columns.EVENT: pl.String,
            columns.QUANTITY: pl.Float64,
        },
        orient="row",
    )
    kept = [*wanted]
    if columns.QUANTITY not in kept and rows[columns.QUANTITY].null_count() < rows.height:
        kept.append(columns.QUANTITY)  # a return, which the log had none of
    return rows.select(kept)


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
