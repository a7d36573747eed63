"""Training data from a running service: its log, events and items as input of the next training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from twotower.bundle.contents import BundleContents
from twotower.bundle.declared import DeclaredColumns
from twotower.data import columns
from twotower.data.atomic import atomic_file
from twotower.data.declaration import DECLARATION_FILE, Declaration
from twotower.data.schema import Column, rows_of_requests
from twotower.inference.item_encoder import catalogue_rows
from twotower.service.state import Changes, Cursor, Event, EventKind, StateStore

INTERACTIONS: Final = "interactions.parquet"
ITEMS: Final = "items.parquet"
USERS: Final = "users.parquet"
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
        Folder for ``interactions.parquet`` and ``items.parquet``; with declared columns also
        ``users.parquet`` and the schema in ``dataset.toml``.
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
    if contents.declared is not None:
        catalogue = _with_columns(catalogue, contents, changes)
        _write_schema(contents.declared, contents.users.ids, changes, out)
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
    events, users = list(changes.events), list(changes.users)
    cursor = changes.cursor
    while more := store.changes(cursor):
        events += more.events
        users += more.users
        cursor = more.cursor
    return Changes(changes.items, changes.availability, events, cursor, users)


def _with_columns(
    catalogue: pl.DataFrame, contents: BundleContents, changes: Changes
) -> pl.DataFrame:
    """The catalogue with the declared columns, of the bundle and as they were written since."""
    declared = contents.declared
    assert declared is not None
    if not declared.schema.items:
        return catalogue
    ids = pl.DataFrame({columns.ITEM_ID: contents.items.ids})
    known = pl.concat([ids, declared.items], how="horizontal")
    written = {
        one.fields.item_id: one.fields.columns or {} for one in changes.items if not one.deleted
    }
    known = _with_written(known, columns.ITEM_ID, written, declared.schema.items)
    kept = catalogue.drop(name for name in declared.schema.items if name in catalogue.columns)
    return kept.join(known, columns.ITEM_ID, how="left", maintain_order="left")


def _write_schema(
    declared: DeclaredColumns, users: Sequence[str], changes: Changes, out: Path
) -> None:
    """Write the table of users and a ``dataset.toml`` with the schema."""
    # Vectors of a file are a column of the catalogue by now.
    items = {
        name: column.model_copy(update={"file": None, "ids": None})
        for name, column in declared.schema.items.items()
    }
    values: dict[str, Any] = {"schema": declared.schema.model_copy(update={"items": items})}
    if declared.schema.users:
        ids = pl.DataFrame({columns.USER_ID: users}, schema={columns.USER_ID: pl.String})
        known = pl.concat([ids, declared.user_values], how="horizontal")
        known = _with_written(known, columns.USER_ID, dict(changes.users), declared.schema.users)
        with atomic_file(out / USERS) as temporary:
            known.write_parquet(temporary)
        values["users"] = USERS
    with atomic_file(out / DECLARATION_FILE) as temporary:
        temporary.write_text(Declaration(**values).to_toml(), encoding="utf-8")


def _with_written(
    known: pl.DataFrame,
    key: str,
    written: Mapping[str, Mapping[str, Any]],
    declared: Mapping[str, Column],
) -> pl.DataFrame:
    """Rows of a table, those in ``written`` in place of earlier ones and behind the others."""
    new = rows_of_requests(list(written.values()), declared)
    ids = pl.DataFrame({key: list(written)}, schema={key: pl.String})
    return pl.concat(
        [known.filter(~pl.col(key).is_in(list(written))), pl.concat([ids, new], how="horizontal")]
    )


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
