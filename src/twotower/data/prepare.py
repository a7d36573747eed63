"""Data preparation: files to a `Dataset` (read, validate, filter, index, split)."""

import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from twotower.data import columns
from twotower.data.attributes import Place, described_rows, own_vectors, typed_table
from twotower.data.catalogue import Catalogue, bare_catalogue, read_catalogue, with_bare_items
from twotower.data.columns import folded
from twotower.data.context import columns_that_tell_the_item
from twotower.data.dataset import Dataset, Part
from twotower.data.declaration import Declaration, declared
from twotower.data.events import EventRules, decayed, kept_after_returns, strongest_of_pairs
from twotower.data.frames import TABLE, Table, as_files, is_table
from twotower.data.guesses import date_and_clock, ratings_or_labels, says_yes_or_no
from twotower.data.histories import Histories, offsets
from twotower.data.ids import IdMap
from twotower.data.images import WEB
from twotower.data.kcore import k_core, smaller_cores
from twotower.data.locate import Located, located
from twotower.data.log import SAMPLED_IDS, EventLog, LogRead, ReadProgress, read_log
from twotower.data.readers import (
    CatalogueFile,
    ColumnMapping,
    Columns,
    LogFile,
    ReadOptions,
    Source,
)
from twotower.data.readers.lists import looks_like_lists
from twotower.data.readers.mapping import LOG_NAMES, items_in_log
from twotower.data.readers.tables import joined_columns
from twotower.data.readers.text import likely_encoding
from twotower.data.readers.times import DAY, likely_unit
from twotower.data.rejects import REJECTS_FILE, RejectLog, unknown_item_hint
from twotower.data.schema import OWN, Schema, unknown_column, with_article
from twotower.data.settings import PrepareSettings
from twotower.data.split_choice import choose_split, split_notes, unseen_note
from twotower.data.splits import FileOrder, PartArray, Rolling, Split, split_parts
from twotower.data.summary import YEAR, cores_in_words
from twotower.data.users import read_users, users_column
from twotower.data.validation import UNKNOWN_REASON, Rules
from twotower.errors import InputError
from twotower.types import BoolArray, IndexArray, Mapper

HEAVY: Final = 0.1
"""A user with more than this share of the log is reported, if there are `HEAVY_OF` users."""
HEAVY_OF: Final = 20
CASE_VARIANTS: Final = 0.01
"""Ids that differ only in case are reported if they exceed this share of the (sampled) ids."""


def prepare(
    path: str | Path | Sequence[str | Path] | Table,
    *,
    name: str | None = None,
    settings: PrepareSettings | None = None,
    mapping: ColumnMapping | None = None,
    catalogue: str | Path | Table | None = None,
    options: ReadOptions | None = None,
    catalogue_options: ReadOptions | None = None,
    users: str | Path | Table | None = None,
    format: str | None = None,
    declaration: Declaration | None = None,
    events: EventRules | None = None,
    out: Path | None = None,
    progress: ReadProgress | None = None,
    mapper: Mapper = map,
) -> Dataset:
    """Turn a log and its catalogue into a data set.

    Parameters
    ----------
    path
        A folder, a file or its ``dataset.toml``, or several files or glob patterns of one log, as
        paths or URLs; or an in-memory table: a DataFrame, an array, a dict of columns or a list
        of rows.
    name
        Name of the data set; by default the folder name, or the file name up to its first dot.
    settings
        What to keep and how to split.
    mapping
        Column names, if they are unusual.
    catalogue
        The catalogue, if it is not beside the log: a file or a table.
    options
        How the log is read, if detection fails: encoding, separator, time format, rating scale …
        The catalogue is read with `ReadOptions.for_catalogue` of it.
    catalogue_options
        How the catalogue is read, if different.
    users
        The users table: a file or a table with an id column.
    format
        Name of a published format (`twotower.data.formats`), if it is not recognised.
    declaration
        All of this at once, as in ``dataset.toml``. The other arguments override it, and it
        overrides a ``dataset.toml`` in the folder of the log.
    events
        Weights of the event kinds, and which kinds to predict.
    out
        Folder to write atomically: the files of `Dataset.save`, and ``rejects.jsonl`` if a row
        was rejected.
    progress
        Called as the log is read.
    mapper
        `map`-like function that reads and validates the log files: `map`, or the one of
        `twotower.cluster.ray_cluster`.

    Returns
    -------
    Dataset
        Users ordered by id; items in catalogue order, or by id without a catalogue. ``summary``
        counts what was read, rejected, filtered and kept.

    Raises
    ------
    InputError
        If the source is not recognised or nothing usable is left; with ``strict`` at the first
        bad row.
    """
    if is_table(path) or any(is_table(table) for table in (catalogue, users) if table is not None):
        if mapper is not map and is_table(path):
            raise InputError("a table in memory is read here", "prepare it without a cluster")
        with as_files(path, catalogue, users) as files:
            return prepare(
                files.log, name=name or (TABLE if is_table(path) else None), settings=settings,
                mapping=mapping, catalogue=files.catalogue, options=options,
                catalogue_options=catalogue_options, users=files.users, format=format,
                declaration=declaration, events=events, out=out, progress=progress,
                mapper=mapper,
            )  # fmt: skip
    given = {
        "name": name, "prepare": settings, "columns": mapping, "read": options,
        "read_catalogue": catalogue_options, "format": format, "events": events,
        "catalogue": None if catalogue is None else str(catalogue),
        "users": None if users is None else str(users),
    }  # fmt: skip
    over = declared({key: value for key, value in given.items() if value is not None}, "prepare")
    described = (declaration or Declaration()).overridden_by(over)
    with located([path] if isinstance(path, str | Path) else path, described) as found:
        return prepare_located(found, out=out, progress=progress, mapper=mapper)


def _for_other_processes(found: Located) -> Located:
    """The files with absolute paths, for processes on other machines."""
    if found.converted:
        raise InputError(
            f"{found.name} is unpacked or converted first, which is done on one machine",
            "prepare them without a cluster",
            cli_fix="leave out --engine ray",
        )
    logs = (replace(log, path=log.path.absolute()) for log in found.logs)
    return replace(found, logs=tuple(logs))


def prepare_located(
    found: Located,
    *,
    out: Path | None = None,
    progress: ReadProgress | None = None,
    mapper: Mapper = map,
) -> Dataset:
    """`prepare` for files found by `located`."""
    if mapper is not map:
        found = _for_other_processes(found)
    plan = _planned(found)
    with tempfile.TemporaryDirectory(prefix="twotower-") as folder:
        rejects = RejectLog(Path(folder) / REJECTS_FILE, strict=found.declaration.prepare.strict)
        with rejects:
            known, log_read = _read(found, plan.source, rejects, progress, mapper)
            summary = _read_summary(plan.source, rejects, log_read, known) | found.summary
            if known is not None:
                known = with_bare_items(known, log_read.items)
            dataset = _dataset_of(found, plan, log_read, known, summary, rejects)
        if out is not None:
            dataset.save(out, extra=[rejects.path] if rejects.path.exists() else [])
    return dataset


class _Plan(NamedTuple):
    """How files are read and split; checked before the log is read."""

    source: Source
    split: Split
    users_key: str | None
    """The id column of the users table, if there is one."""


def _planned(found: Located) -> _Plan:
    declaration, kinds = found.declaration, found.declaration.events
    schema = declaration.declared
    if kinds is not None:
        kinds.check_complete()
    source = found.source()
    if kinds is not None and kinds.from_rating and columns.RATING not in source.columns:
        raise InputError(
            f"from_rating is given, but {source.logs[0].path} has no ratings",
            "name their column: ColumnMapping(rating='…')",
            cli_fix="name their column: --column rating=…",
        )
    split = choose_split(declaration.prepare.split, source)
    check_schema(schema, source, found.users)
    check_context(schema, source, found.item_columns)
    users_key = None
    if found.users is not None:
        of_log = source.logs[0].columns[columns.USER_ID]
        users_key = users_column(found.users, declaration.read_users, of_log)
    return _Plan(source, split, users_key)


def _read(
    found: Located,
    source: Source,
    rejects: RejectLog,
    progress: ReadProgress | None,
    mapper: Mapper,
) -> tuple[Catalogue | None, LogRead]:
    """Read the catalogue, if there is one, and the log."""
    declaration = found.declaration
    rules = Rules(time.time_ns() // 1_000_000, declaration.read, declaration.events)
    known = None if source.catalogue is None else read_catalogue(source.catalogue, rejects)
    log_read = read_log(
        source,
        rules,
        rejects,
        None if known is None else known.items,
        progress,
        keep_unknown=declaration.prepare.keep_unknown_items,
        declared=declaration.declared.events,
        mapper=mapper,
    )
    return known, log_read


def _dataset_of(
    found: Located,
    plan: _Plan,
    log_read: LogRead,
    known: Catalogue | None,
    summary: dict[str, Any],
    rejects: RejectLog,
) -> Dataset:
    """Build the data set from what was read: filter, index and split; completes ``summary``."""
    source, settings, kinds = plan.source, found.declaration.prepare, found.declaration.events
    schema = found.declaration.declared.in_zones(log_read.zones)
    log, held_out, later = _in_order(log_read.log, plan.split)
    log, back, taken = _without_returned(log, kinds)
    log, reduction = _reduce(log, settings, kinds, summary.get("lists"))
    log, user_ids, user_index = _indexed_users(log, log_read.users.ids)
    log, rows, item_index = _indexed_items(
        log, log_read.items.ids, known, keep_all=settings.k_core == 0
    )
    log, context_table = _indexed_contexts(log, log_read.contexts)
    item_ids = rows[columns.ITEM_ID].to_list()
    indptr = offsets(np.bincount(log.users, minlength=len(user_ids)))
    interactions = Histories(
        indptr, log.items, log.ratings, log.timestamps, log.weights, log.kinds, kinds, log.contexts
    )
    parts = split_parts(
        held_out,
        indptr,
        timestamps=log.timestamps,
        given=log.parts,
        ordered=bool({columns.TIMESTAMP, columns.ORDER} & set(source.columns)),
        to_find=interactions.to_find,
    )
    interactions = _aged(interactions, parts)
    options = found.declaration.read
    summary |= taken | _kinds_summary(interactions) | reduction
    summary |= {
        "users": len(user_ids),
        "items": rows.height,
        "interactions": len(log),
        "parts": {part.name.lower(): int((parts == part).sum()) for part in Part},
        "settings": settings.model_dump(mode="json") | {"split": plan.split.model_dump()},
        "options": options.model_dump(mode="json", exclude_defaults=True),
    }
    notes = split_notes(plan.split, parts, log.parts, np.diff(indptr), log.timestamps)
    notes += unseen_note(parts, log.items)
    if later:
        notes.append(f"{later:,} interactions came after the fold and are left out")
    notes += _context_notes(context_table, interactions, log_read)
    if notes:
        summary["notes"] = notes
    user_table = None
    if found.users is not None and plan.users_key is not None:
        user_table, summary["user_table"] = read_users(
            found.users, found.declaration.read_users, plan.users_key, user_ids, rejects
        )
        place = Place(found.users, found.declaration.read_users or ReadOptions())
        typed = typed_table(user_table, schema.users, place)
        user_table = user_table.with_columns(typed.get_columns())
    return Dataset(
        found.name,
        IdMap(user_ids, "user"),
        IdMap(item_ids, "item"),
        rows,
        interactions,
        parts,
        summary,
        user_table,
        schema,
        _item_table(schema, source, found.base, item_ids),
        None if back is None else _returned(back, user_index, item_index, len(user_ids)),
        context_table,
    )


def _in_order(log: EventLog, split: Split) -> tuple[EventLog, Split, int]:
    """The log in the split's order, up to the end of a `Rolling` fold; the split to apply (the
    fold's `GlobalTime`); and the number of interactions after the fold.
    """
    log = log.by_user() if isinstance(split, FileOrder) else log.by_user_and_time()
    if not isinstance(split, Rolling) or log.timestamps is None:
        return log, split, 0
    held_out, end = split.cuts(log.timestamps)
    if end is None:
        return log, held_out, 0
    return log.select(log.timestamps < end), held_out, int((log.timestamps >= end).sum())


def _context_notes(
    contexts: pl.DataFrame | None, interactions: Histories, log_read: LogRead
) -> list[str]:
    """Warnings about declared context columns, one sentence each; usually none."""
    notes = []
    if contexts is not None:
        notes += [
            f"the declared column {name!r} of the log has one value for each item: where it "
            "describes the item and not the moment, it tells what is to be predicted; declare "
            "it under [schema.items] instead"
            for name in columns_that_tell_the_item(contexts, interactions)
        ]
    if log_read.own_offsets:
        names = ", ".join(name for name, zone in log_read.zones.items() if zone == OWN)
        notes.append(
            f"times have offsets of their own ({', '.join(log_read.own_offsets)}), by which "
            f"they are read as {names}: a request gives its time with an offset, or says them "
            "in its context; or declare a time_zone"
        )
    return notes


def check_schema(schema: Schema, source: Source, users: Path | None) -> None:
    """Raise `InputError` for a declared column that is missing or would leak the target."""
    catalogue = source.catalogue
    if schema.items and catalogue is None:
        name = next(iter(schema.items))
        raise InputError(
            f"the schema declares the column {name!r} of items, but there is no catalogue",
            'pass one, or say catalogue = "log"',
        )
    if schema.users and users is None:
        name = next(iter(schema.users))
        raise InputError(
            f"the schema declares the column {name!r} of users, but there is no table of users",
            'name it: users = "users.csv"',
        )
    if catalogue is None:
        return
    of_log = source.logs[0].columns if catalogue.path in {log.path for log in source.logs} else {}
    canonical = {name: column for column, name in {**of_log, **catalogue.columns}.items()}
    leaks = {
        columns.ITEM_ID: "the item's id",
        columns.USER_ID: "the user of an interaction",
        columns.RATING: "the rating that an interaction ends in",
        columns.EVENT: "the kind of an interaction",
        columns.TIMESTAMP: "the time of an interaction",
        columns.AVERAGE_RATING: "an average over the interactions to predict",
        columns.RATING_COUNT: "a count of the interactions to predict",
    }
    present = catalogue.found.present
    for name, column in schema.items.items():
        if column.file is None and name not in present:
            raise unknown_column(name, catalogue.path, present)
        if column.feature and canonical.get(name) in leaks:
            raise InputError(
                f"the column {name!r} of {catalogue.path} is {leaks[canonical[name]]}, which no "
                "feature may tell",
                "leave it out of the schema, or say feature = false to filter by it",
            )


def check_context(schema: Schema, source: Source, of_items: Collection[str]) -> None:
    """Raise `InputError` for a context column that is the event's outcome or cannot be derived."""
    log = source.logs[0]
    roles = {column: name for name, column in log.columns.items() if not columns.is_context(name)}
    for name, column in schema.events.items():
        is_derived = column.is_of_time and columns.of_context(name) not in log.columns
        if is_derived and columns.TIMESTAMP not in source.columns:
            raise InputError(
                f"the schema declares events.{name} as {with_article(column.kind)}, but {log.path} "
                "has no times",
                f"leave it out, or give the log a time or a column {name!r}",
            )
        role = roles.get(name) or (name if name in _ROLES else None)
        if role is None:  # not read, but usually the outcome of an event
            role = next((outcome for outcome in _OUTCOMES if folded(name) in _USUAL[outcome]), None)
        what = None if role is None else _ROLES[role]
        if what is None and name in of_items:
            what = "a description of the item"
        if what is not None:
            raise InputError(
                f"the column {name!r} of {log.path} is no context of an event: it is {what}",
                "declare columns that are known when a request is made, such as device or country",
            )


_OUTCOMES: Final = (columns.RATING, columns.EVENT, columns.QUANTITY)
_USUAL: Final = {name: {folded(usual) for usual in LOG_NAMES[name]} for name in _OUTCOMES}
_ROLES: Final = {
    columns.USER_ID: "the user",
    columns.ITEM_ID: "the item, which is to be predicted",
    columns.RATING: "the rating that it ends in",
    columns.EVENT: "the kind of event, which is known only after it",
    columns.QUANTITY: "the quantity, which is known only after it",
    columns.WEIGHT: "the weight, which is known only after it",
    columns.TIMESTAMP: "the time, which models read by themselves",
    columns.ORDER: "the order, which models read by themselves",
    **dict.fromkeys(columns.TIME_PARTS, "the time, which models read by themselves"),
}


def _item_table(
    schema: Schema, source: Source, base: Path, ids: Sequence[str]
) -> pl.DataFrame | None:
    """The declared item columns, in item order; None if there are none."""
    if not schema.items or source.catalogue is None:
        return None
    place = Place(source.catalogue.path, source.catalogue.options)
    of_file = {name: column for name, column in schema.items.items() if column.file is None}
    key = source.catalogue.columns[columns.ITEM_ID]
    rows = described_rows(place, key, ids, list(of_file)).rows
    typed = typed_table(rows, of_file, place)
    own = [
        own_vectors(column, base, ids, name)
        for name, column in schema.items.items()
        if column.file is not None
    ]
    return typed.with_columns(own).select(*schema.items)


def _read_summary(
    source: Source, rejects: RejectLog, found: LogRead, known: Catalogue | None
) -> dict[str, Any]:
    paths = [file.path for file in source.logs]
    summary: dict[str, Any] = {
        "source": source.kind,
        "files": [path.name for path in paths],
        "read": sum(found.read_of),
        "rejected": rejects.counts(paths),
        "examples": rejects.examples(paths),
        "columns": _columns(source.logs[0].found),
    }
    if source.catalogue is None:
        log = source.logs[0]
        joined = joined_columns(log.path, log.options)
        names = items_in_log([name for name in log.found.ignored if name not in joined])
        if names:
            summary["items_in_log"] = names
    user, share = found.heaviest_user
    if share > HEAVY and len(found.users) >= HEAVY_OF:
        summary["heaviest_user"] = {"user_id": user, "share": share}
    if scientific := found.scientific_ids:
        summary["scientific_ids"] = {"count": len(scientific), "example": scientific[0]}
    if alike := [*found.alike_ids(found.users), *found.alike_ids(found.items)]:
        summary["alike_ids"] = {"count": len(alike), "example": list(alike[0])}
    for what, ids in (("users", found.users), ("items", found.items)):
        variants = found.case_variants(ids)
        by_chance = CASE_VARIANTS * min(len(ids), SAMPLED_IDS)  # expected among random ids
        if len(variants) > by_chance:
            summary.setdefault("case_variants", {})[what] = {
                "count": len(variants), "example": list(variants[0]),
            }  # fmt: skip
    if found.without_rating:
        summary["without_rating"] = found.without_rating
    if found.log.ratings is not None and found.without_rating < len(found.log):
        low, high = np.nanmin(found.log.ratings), np.nanmax(found.log.ratings)
        summary["ratings"] = [float(low), float(high)]
    summary |= _suspicions(source.logs[0])
    if found.log.timestamps is not None and len(found.log):
        times = found.log.timestamps
        summary["times"] = [int(times.min()), int(times.max())]
        if early := int((times < YEAR).sum()):
            summary["times_in_1970"] = early
            unit = likely_unit(*(time / 1000 for time in summary["times"]))
            if unit is not None:
                summary["likely_unit"] = list(unit)
        if not (times % DAY).any() and (pair := date_and_clock(source.logs[0])):
            summary["date_and_clock"] = list(pair)
    read = dict(zip(paths, found.read_of, strict=True))
    if known is not None and source.catalogue is not None:
        read[source.catalogue.path] = known.read
        summary["catalogue"] = _catalogue_summary(source.catalogue, known, rejects)
        summary |= _unknown_items(found, known, rejects, paths)
        images = known.rows[columns.IMAGE].drop_nulls()
        if any(not image.startswith(WEB) for image in images):
            # Image paths are relative to the catalogue, which is not part of the data set.
            summary["image_folder"] = str(source.catalogue.path.parent.resolve())
    if hints := _encodings(source, rejects, read):
        summary["encodings"] = hints
    return summary


def _catalogue_summary(file: CatalogueFile, known: Catalogue, rejects: RejectLog) -> dict[str, Any]:
    shown = _columns(file.found)
    summary = {
        "file": file.path.name,
        "read": known.read,
        "rejected": rejects.counts([file.path]),
        "examples": rejects.examples([file.path]) | dict(known.examples),
        "repaired": dict(known.repaired),
        "columns": shown,
        "items": known.rows.height,
    }
    nulls = known.rows.null_count().row(0, named=True)
    if empty := [name for name in shown["read"] if nulls.get(name) == known.rows.height]:
        summary["empty"] = empty
    if known.currencies:
        summary["currencies"] = list(known.currencies)
    return summary


def _suspicions(log: LogFile) -> dict[str, Any]:
    """Columns whose first values suggest that they are misread."""
    found: dict[str, Any] = {}
    item = log.columns[columns.ITEM_ID]
    values = log.sampled([item, *ratings_or_labels(log)])
    items = values.pop(item, [])
    if not log.options.explode and looks_like_lists(items):
        found["lists"] = {"column": item, "example": max(items, key=len)}
    if zeros := [name for name, texts in values.items() if says_yes_or_no(texts)]:
        found["zeros"] = zeros
    return found


def _encodings(source: Source, rejects: RejectLog, read: Mapping[Path, int]) -> dict[str, Any]:
    """Files with rows that could not be decoded, and their likely encoding."""
    hints = {}
    catalogue = [] if source.catalogue is None else [source.catalogue]
    files: list[LogFile | CatalogueFile] = [*source.logs, *catalogue]
    for file in files:
        counts = rejects.counts([file.path])
        bad = [(reason, count) for reason, count in counts.items() if reason.startswith("bad ")]
        if bad:
            hints[file.path.name] = {
                "rows": sum(count for _, count in bad),
                "of": read[file.path],
                "read_as": bad[0][0].removeprefix("bad "),
                "likely": likely_encoding(file.path, file.options),
            }
    return hints


def _columns(found: Columns) -> dict[str, Any]:
    shown = found.read
    read = {
        column: shown[column]
        for column, name in found.canonical.items()
        if name in found.keys and column in shown
    }
    late = {"late": dict(found.late)} if found.late else {}
    return {"read": read, "ignored": found.ignored} | late


def _unknown_items(
    found: LogRead, known: Catalogue, rejects: RejectLog, paths: Sequence[Path]
) -> dict[str, Any]:
    """Number and share of interactions with items that the catalogue lacks."""
    rejected = rejects.counts(paths).get(UNKNOWN_REASON, 0)
    kept = int((found.log.items >= known.rows.height).sum())
    if not rejected + kept:
        return {}
    return {
        "unknown_items": {
            "interactions": rejected + kept,
            "share": (rejected + kept) / (len(found.log) + rejected),
            "items": found.unknown_items or len(found.items) - known.rows.height,
            "kept": bool(kept),
            "hint": unknown_item_hint(rejects, paths, known.items),
        }
    }


def _without_returned(
    log: EventLog, kinds: EventRules | None
) -> tuple[EventLog, EventLog | None, dict[str, Any]]:
    """The log without returns and the events they cancel; the final returns; and counts."""
    weights = log.weights
    if weights is None:
        return log, None, {}
    back, taken = None, {}
    if (weights < 0).any():
        kept, returned = kept_after_returns(log.pairs, weights)
        negative = int((weights < 0).sum())
        taken = {
            "returns": {
                "events": negative,
                "taken_away": int((~kept).sum()) - negative,
                "not_recommended": int(returned.sum()),
            }
        }
        back, log = log.select(returned), log.select(kept)
    if kinds is None and log.weights is not None and (log.weights == 1).all():
        log = replace(log, weights=None)  # a quantity alone
    return log, back, taken


def _returned(
    back: EventLog, user_index: IndexArray, item_index: IndexArray, users: int
) -> Histories | None:
    """Items returned for good, per user, for the users and items that are kept."""
    rows, items = user_index[back.users], item_index[back.items]
    known = (rows >= 0) & (items >= 0)
    order = np.argsort(rows[known], kind="stable")
    rows, items = rows[known][order], items[known][order]
    return Histories.of_users(rows, items, users)


def _aged(interactions: Histories, parts: PartArray) -> Histories:
    """The interactions with time-decayed weights, if a half-life is declared."""
    rules, times = interactions.rules, interactions.timestamps
    if rules is None or rules.half_life is None or interactions.weights is None:
        return interactions
    newest = 0 if times is None else int(times[parts == Part.TRAIN].max())
    weights = decayed(interactions.weights, times, newest, rules.half_life)
    return replace(interactions, weights=weights)


def _kinds_summary(interactions: Histories) -> dict[str, Any]:
    rules = interactions.rules
    if rules is None or interactions.kinds is None:
        return {}
    counts = np.bincount(interactions.kinds, minlength=len(rules.kinds)).tolist()
    return {"kinds": dict(zip(rules.kinds, counts, strict=True))}


def _reduce(
    log: EventLog,
    settings: PrepareSettings,
    kinds: EventRules | None,
    lists: Mapping[str, str] | None = None,
) -> tuple[EventLog, dict[str, Any]]:
    """Drop repeats, then interactions outside the k-core; return the log and the counts.

    ``lists`` is the item column if its values look like lists: the likely cause of an error.
    """
    repeats = 0
    if not settings.keep_repeats:
        first = _kept_of_pairs(log, kinds)
        repeats = int(len(first) - first.sum())
        log = log.select(first)
    before = _size(log)
    core = k_core(log.users, log.items, settings.k_core)
    kept = log.select(core.kept)
    if not len(kept):
        if lists is not None:
            raise _items_are_lists(**lists)
        smaller = smaller_cores(log.users, log.items, settings.k_core)
        raise InputError(
            f"no interaction is left in the {settings.k_core}-core, of {len(log):,} by "
            f"{before['users']:,} users of {before['items']:,} items",
            cores_in_words(smaller, "k_core="),
            cli_fix=cores_in_words(smaller, "--k-core "),
        )
    after = _size(kept)
    removed = {f"{kind}_removed": count - after[kind] for kind, count in before.items()}
    found: dict[str, Any] = {
        "repeats": repeats,
        "before_k_core": before,
        "k_core": {"k": settings.k_core, "rounds": core.rounds, **removed},
    }
    if 2 * len(kept) < len(log):
        found["smaller_cores"] = smaller_cores(log.users, log.items, settings.k_core)
    return kept, found


def _items_are_lists(column: str, example: str) -> InputError:
    return InputError(
        f"the values of {column!r} look like lists of items, such as {example[:80]!r}",
        f"pass ReadOptions(explode=({column!r},)): each element becomes a row",
        cli_fix=f"pass --explode {column}: each element becomes a row",
    )


def _kept_of_pairs(log: EventLog, kinds: EventRules | None) -> BoolArray:
    """Mask of one event per user and item: target kinds first, then the strongest, then earliest.

    If some kinds do not count as seen, one of those is kept as well, since the item may be
    recommended again.
    """
    if log.weights is None:
        return log.first_of_pairs()
    groups, strength = log.pairs, log.weights
    if kinds is not None and log.kinds is not None:
        strength = strength + kinds.of_target(log.kinds) * (1 + strength.max(initial=0))
        if kinds.seen is not None:
            groups = 2 * groups + kinds.of_seen(log.kinds)
    return strongest_of_pairs(groups, strength)


def _size(log: EventLog) -> dict[str, int]:
    return {
        "users": int(np.count_nonzero(np.bincount(log.users))),
        "items": int(np.count_nonzero(np.bincount(log.items))),
        "interactions": len(log),
    }


def _indexed_users(log: EventLog, ids: Sequence[str]) -> tuple[EventLog, list[str], IndexArray]:
    index, kept = _by_id(log.users, ids)
    log = replace(log, users=index[log.users])
    return log.select(np.argsort(log.users, kind="stable")), kept, index


def _indexed_items(
    log: EventLog, ids: Sequence[str], known: Catalogue | None, *, keep_all: bool
) -> tuple[EventLog, pl.DataFrame, IndexArray]:
    if known is None:
        index, kept = _by_id(log.items, ids)
        return replace(log, items=index[log.items]), bare_catalogue(kept), index
    if keep_all:
        return log, known.rows, np.arange(known.rows.height, dtype=np.int32)
    codes = np.unique(log.items)
    index = _places(codes, len(ids))
    return replace(log, items=index[log.items]), known.rows[codes], index


def _indexed_contexts(
    log: EventLog, contexts: pl.DataFrame | None
) -> tuple[EventLog, pl.DataFrame | None]:
    """The log with reindexed contexts, and the contexts that are still used."""
    if contexts is None or log.contexts is None:
        return log, None
    left, which = np.unique(log.contexts, return_inverse=True)
    return replace(log, contexts=which.astype(np.int32)), contexts[left]


def _by_id(codes: IndexArray, ids: Sequence[str]) -> tuple[IndexArray, list[str]]:
    """``(ids,)`` new index of each code, sorted by id, -1 if unused; and the ids that occur."""
    present = np.flatnonzero(np.bincount(codes)).tolist()
    present.sort(key=ids.__getitem__)
    index = _places(present, len(ids))
    return index, [ids[code] for code in present]


def _places(codes: Sequence[int] | IndexArray, size: int) -> IndexArray:
    """``(size,)`` position of each code in ``codes``, -1 for codes not among them."""
    index = np.full(size, -1, dtype=np.int32)
    index[codes] = np.arange(len(codes), dtype=np.int32)
    return index
