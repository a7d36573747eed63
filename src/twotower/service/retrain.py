"""Training data from a running service: its log, events and items, as input for retraining."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import polars as pl

from twotower.bundle.contents import BundleContents
from twotower.bundle.declared import DeclaredColumns
from twotower.data import columns
from twotower.data.atomic import atomic_file
from twotower.data.declaration import DECLARATION_FILE, Declaration
from twotower.data.readers import ColumnMapping
from twotower.data.schema import Column, known_values, rows_of_requests
from twotower.inference.item_encoder import catalogue_rows
from twotower.service.state import Changes, Cursor, Event, Forgotten, StateStore
from twotower.service.state.personal import now_ms

INTERACTIONS: Final = "interactions.parquet"
ITEMS: Final = "items.parquet"
USERS: Final = "users.parquet"
LEARNED: Final = ("buy", "rating")
"""Event kinds used as interactions if the bundle declares no kinds: no views or carts."""
_DAY_MS: Final = 86_400_000


def write_source(
    contents: BundleContents,
    store: StateStore,
    out: Path,
    kinds: Sequence[str] | None = None,
    *,
    keep_days: float | None = None,
    anonymise_after_days: float | None = None,
) -> dict[str, int]:
    """Write the bundle's log and the database's events as one log, and all items as a catalogue.

    Interactions of forgotten users before they were forgotten are left out, also of the bundle's
    log. If the bundle declares event kinds, they become a column of the log, and a
    ``dataset.toml`` beside it holds their weights, so the next training reads them like this one.

    Parameters
    ----------
    out
        Folder for ``interactions.parquet`` and ``items.parquet``; with declared columns also
        ``users.parquet`` and the schema in ``dataset.toml``.
    kinds
        Event kinds to use; by default those that the bundle declares, else `LEARNED`.
    keep_days, anonymise_after_days
        The age limits of the service's settings, applied to the bundle's log: interactions older
        than ``keep_days`` are left out, and users of interactions older than
        ``anonymise_after_days`` get random ids. A log without times is not limited.

    Returns
    -------
    dict
        Numbers of interactions and items, and how many of each are new.
    """
    changes = everything(store)
    rules = contents.info.events
    new = learned(contents, changes.events, kinds)
    old = _without_forgotten(_bundle_log(contents), store.forgotten())
    if contents.histories.timestamps is not None:
        old = _limited_in_age(old, keep_days, anonymise_after_days)
    once = [columns.USER_ID, columns.ITEM_ID, columns.TIMESTAMP]
    once += [name for name in (columns.EVENT, columns.QUANTITY) if name in old.columns]
    recorded = _event_log(new, old.columns, contents.declared)
    log = pl.concat([old, recorded], how="diagonal").unique(once, maintain_order=True)
    if columns.RATING in log.columns and rules is None:
        log = _with_ratings(log)
    catalogue = _catalogue(contents, changes)
    declaration: dict[str, Any] = {}
    if rules is not None:
        declaration |= {"columns": ColumnMapping(event=columns.EVENT), "events": rules}
    if contents.declared is not None:
        catalogue = _with_columns(catalogue, contents, changes)
        kept = old[columns.USER_ID].unique()  # forgotten users lose their attributes too
        declaration |= _schema_of(contents.declared, contents.users.ids, kept, changes, out)
    with atomic_file(out / ITEMS) as temporary:
        catalogue.write_parquet(temporary)
    with atomic_file(out / INTERACTIONS) as temporary:
        log.write_parquet(temporary)
    if declaration:
        with atomic_file(out / DECLARATION_FILE) as temporary:
            temporary.write_text(Declaration(**declaration).to_toml(), encoding="utf-8")
    return {
        "interactions": log.height,
        "interactions_new": log.height - old.height,
        "items": catalogue.height,
        "items_new": catalogue.height - contents.catalogue.height,
    }


def learned(
    contents: BundleContents, events: Sequence[Event], kinds: Sequence[str] | None
) -> list[Event]:
    """The events whose kinds are used for training; see `write_source`."""
    if kinds is None and contents.info.events is not None:
        return list(events)
    return [event for event in events if event.kind in (kinds or LEARNED)]


def everything(store: StateStore) -> Changes:
    """All contents of a database as one `Changes`."""
    changes = store.changes(Cursor())
    events, users = list(changes.events), list(changes.users)
    cursor = changes.cursor
    while more := store.changes(cursor):
        events += more.events
        users += more.users
        cursor = more.cursor
    return replace(changes, events=events, users=users, cursor=cursor)


def _with_columns(
    catalogue: pl.DataFrame, contents: BundleContents, changes: Changes
) -> pl.DataFrame:
    """The catalogue with declared columns, from the bundle and from later writes."""
    declared = contents.declared
    assert declared is not None
    if not declared.schema.items:
        return catalogue
    ids = pl.DataFrame({columns.ITEM_ID: contents.items.ids})
    known = pl.concat([ids, declared.items], how="horizontal")
    written = {
        item.fields.item_id: item.fields.columns or {} for item in changes.items if not item.deleted
    }
    known = _with_written(known, columns.ITEM_ID, written, declared.schema.items)
    kept = catalogue.drop(name for name in declared.schema.items if name in catalogue.columns)
    return kept.join(known, columns.ITEM_ID, how="left", maintain_order="left")


def _schema_of(
    declared: DeclaredColumns,
    users: Sequence[str],
    kept: pl.Series,
    changes: Changes,
    out: Path,
) -> dict[str, Any]:
    """The schema part of the declaration; also writes the table of users."""
    # Vectors declared by file are now a column of the catalogue.
    items = {
        name: column.model_copy(update={"file": None, "ids": None})
        for name, column in declared.schema.items.items()
    }
    values: dict[str, Any] = {"schema": declared.schema.model_copy(update={"items": items})}
    if declared.schema.users:
        ids = pl.DataFrame({columns.USER_ID: users}, schema={columns.USER_ID: pl.String})
        known = pl.concat([ids, declared.user_values], how="horizontal")
        known = known.filter(pl.col(columns.USER_ID).is_in(kept.implode()))
        known = _with_written(known, columns.USER_ID, dict(changes.users), declared.schema.users)
        with atomic_file(out / USERS) as temporary:
            known.write_parquet(temporary)
        values["users"] = USERS
    return values


def _with_written(
    known: pl.DataFrame,
    key: str,
    written: Mapping[str, Mapping[str, Any]],
    declared: Mapping[str, Column],
) -> pl.DataFrame:
    """The table with the rows in ``written`` appended, replacing earlier rows of the same ids."""
    new = rows_of_requests(list(written.values()), declared)
    ids = pl.DataFrame({key: list(written)}, schema={key: pl.String})
    return pl.concat(
        [known.filter(~pl.col(key).is_in(list(written))), pl.concat([ids, new], how="horizontal")]
    )


def _bundle_log(contents: BundleContents) -> pl.DataFrame:
    """The bundle's histories as a log; without times, positions in the history are used."""
    log = contents.histories
    users, items = pl.Series(contents.users.ids), pl.Series(contents.items.ids)
    frame = {columns.USER_ID: users[log.rows], columns.ITEM_ID: items[log.items]}
    if log.ratings is not None:
        frame[columns.RATING] = pl.Series(log.ratings, nan_to_null=True)
    times = log.timestamps
    if times is None:
        # As milliseconds since 1970: long before any event, and in the order of each history.
        starts = log.indptr[:-1].repeat(log.lengths)
        times = pl.int_range(len(log.items), eager=True).to_numpy() - starts
    frame[columns.TIMESTAMP] = pl.Series(times).cast(pl.Int64)
    rules = contents.info.events
    if rules is not None and log.kinds is not None:
        frame[columns.EVENT] = pl.Series(rules.kinds)[log.kinds.astype("int64")]
    if contents.declared is not None and log.contexts is not None:
        of_events = contents.declared.contexts[log.contexts]
        frame |= {column.name: column for column in of_events}
    if rules is not None or contents.returned is not None:
        frame[columns.QUANTITY] = pl.repeat(None, len(log.items), dtype=pl.Float64, eager=True)
    return pl.concat(
        [_returned_log(contents, int(times.min(initial=0))), pl.DataFrame(frame)], how="diagonal"
    )


def _returned_log(contents: BundleContents, first: int) -> pl.DataFrame:
    """Returned items, dated before all events: cancel nothing, but are not recommended again."""
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


def _without_forgotten(log: pl.DataFrame, forgotten: Forgotten) -> pl.DataFrame:
    """The log without the interactions of users up to when they were forgotten."""
    if not forgotten:
        return log
    users = log[columns.USER_ID].unique()
    until = pl.DataFrame(
        {columns.USER_ID: users, "until": [forgotten.since(user) for user in users]},
        schema_overrides={"until": pl.Int64},
    )
    kept = log.join(until, on=columns.USER_ID, how="left", maintain_order="left")
    own = pl.col("until")
    return kept.filter(own.is_null() | (pl.col(columns.TIMESTAMP) > own)).drop("until")


def _limited_in_age(
    log: pl.DataFrame, keep_days: float | None, anonymise_after_days: float | None
) -> pl.DataFrame:
    time, now = pl.col(columns.TIMESTAMP), now_ms()
    if keep_days is not None:
        log = log.filter(time >= now - keep_days * _DAY_MS)
    if anonymise_after_days is not None:
        is_old = time < now - anonymise_after_days * _DAY_MS
        users = log.filter(is_old)[columns.USER_ID].unique()
        names = {user: f"anonymous-{secrets.token_hex(16)}" for user in users}
        user = pl.col(columns.USER_ID)
        log = log.with_columns(
            pl.when(is_old).then(user.replace(names)).otherwise(user).alias(columns.USER_ID)
        )
    return log


def _with_ratings(log: pl.DataFrame) -> pl.DataFrame:
    """Fill missing ratings with the user's mean, or that of all users, as in serving."""
    rating = pl.col(columns.RATING)
    own = rating.mean().over(columns.USER_ID)
    return log.with_columns(pl.coalesce(rating, own, rating.mean()).cast(pl.Float32))


def _event_log(
    events: list[Event], wanted: list[str], declared: DeclaredColumns | None
) -> pl.DataFrame:
    fields = attrgetter("user_id", "item_id", "rating", "occurred_at", "kind", "quantity")
    rows = pl.DataFrame(
        [fields(event) for event in events],
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
    if declared is not None and declared.schema.events:
        columns_ = declared.schema.events
        stated = [known_values(event.context or {}, columns_, "events") for event in events]
        rows = rows.hstack(rows_of_requests(stated, columns_))
    kept = [*wanted]
    if columns.QUANTITY not in kept and rows[columns.QUANTITY].null_count() < rows.height:
        kept.append(columns.QUANTITY)  # returns, which the log did not have
    return rows.select(kept)


def _catalogue(contents: BundleContents, changes: Changes) -> pl.DataFrame:
    """The bundle's catalogue with later descriptions, followed by added items.

    Deleted items stay: their interactions are still useful for training.
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
