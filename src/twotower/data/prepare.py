"""`prepare`: files to a `Dataset` (read, validate, reduce, index, split)."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from twotower.data import columns
from twotower.data.catalogue import Catalogue, bare_catalogue, read_catalogue, with_bare_items
from twotower.data.dataset import Dataset, Part
from twotower.data.declaration import Declaration
from twotower.data.frames import TABLE, Table, as_files, is_table
from twotower.data.histories import Histories
from twotower.data.ids import IdMap
from twotower.data.images import WEB
from twotower.data.kcore import k_core
from twotower.data.locate import Located, located
from twotower.data.log import EventLog, LogRead, ReadProgress, read_log
from twotower.data.readers import (
    CatalogueFile,
    ColumnMapping,
    Columns,
    LogFile,
    ReadOptions,
    Source,
)
from twotower.data.readers.source import source_of
from twotower.data.readers.text import likely_encoding
from twotower.data.rejects import REJECTS_FILE, RejectLog, unknown_item_hint
from twotower.data.settings import PrepareSettings
from twotower.data.split_choice import choose_split, split_notes
from twotower.data.splits import FileOrder, split_parts
from twotower.data.summary import YEAR
from twotower.data.users import read_users, users_column
from twotower.data.validation import UNKNOWN_REASON, Rules
from twotower.errors import InputError
from twotower.types import IndexArray

HEAVY: Final = 0.1
"""Share of a log above which a user is reported, where there are `HEAVY_OF` users or more."""
HEAVY_OF: Final = 20


def prepare(
    path: str | Path | Sequence[str | Path] | Table,
    *,
    name: str | None = None,
    settings: PrepareSettings | None = None,
    mapping: ColumnMapping | None = None,
    catalogue: Path | Table | None = None,
    options: ReadOptions | None = None,
    catalogue_options: ReadOptions | None = None,
    users: Path | Table | None = None,
    format: str | None = None,
    declaration: Declaration | None = None,
    out: Path | None = None,
    progress: ReadProgress | None = None,
) -> Dataset:
    """Turn a log and its catalogue into a data set.

    Parameters
    ----------
    path
        A folder, a file or its ``dataset.toml``, several files or patterns of one log; or a table
        that Python holds: a DataFrame, an array, a dict of columns or a list of rows.
    name
        Name of the data set; by default that of the folder, or the file's up to its first dot.
    settings
        What to keep and how to split.
    mapping
        Names of the columns, where they are unusual.
    catalogue
        The catalogue, where it is not beside the log: a file or a table.
    options
        How the log is read, and by `ReadOptions.for_catalogue` the catalogue, where detection
        does not do: encoding, separator, time format, rating scale …
    catalogue_options
        How the catalogue is read, where it is read differently.
    users
        The table of users: a file or a table with an id column.
    format
        Name of a published format (`twotower.data.formats`), where it is not recognised.
    declaration
        All of this at once, as in ``dataset.toml``. The other arguments override it, and it
        overrides a ``dataset.toml`` in the folder of the log.
    out
        Folder to write, whole or not at all: what `Dataset.save` writes, and
        ``rejects.jsonl`` where a row was set aside.
    progress
        Called as the log is read.

    Returns
    -------
    Dataset
        Users in the order of their ids; items in that of the catalogue, or of their ids
        where there is none. ``summary`` counts what was read, rejected, reduced and kept.

    Raises
    ------
    InputError
        Where the source is not recognised or nothing usable is left; with ``strict`` at the
        first bad row.
    """
    if is_table(path) or any(is_table(table) for table in (catalogue, users) if table is not None):
        with as_files(path, catalogue, users) as files:
            return prepare(
                files.log, name=name or (TABLE if is_table(path) else None), settings=settings,
                mapping=mapping, catalogue=files.catalogue, options=options,
                catalogue_options=catalogue_options, users=files.users, format=format,
                declaration=declaration, out=out, progress=progress,
            )  # fmt: skip
    given = {
        "name": name, "prepare": settings, "columns": mapping, "read": options,
        "read_catalogue": catalogue_options, "format": format,
        "catalogue": None if catalogue is None else str(catalogue),
        "users": None if users is None else str(users),
    }  # fmt: skip
    over = Declaration(**{key: value for key, value in given.items() if value is not None})
    described = (declaration or Declaration()).overridden_by(over)
    with located([path] if isinstance(path, str | Path) else path, described) as found:
        return _prepared(found, out, progress)


def _prepared(found: Located, out: Path | None, progress: ReadProgress | None) -> Dataset:
    """The data set of files that were found."""
    settings, options = found.declaration.prepare, found.declaration.read
    source = source_of(
        found.logs, found.declaration.columns, found.catalogue, options, found.catalogue_options
    )
    times, order = columns.TIMESTAMP in source.columns, columns.ORDER in source.columns
    split = choose_split(
        settings.split,
        str(source.logs[0].path),
        parts=source.has_parts,
        times=times,
        order=order,
        present=source.logs[0].found.present,
    )
    users_key = None
    if found.users is not None:
        of_log = source.logs[0].columns[columns.USER_ID]
        users_key = users_column(found.users, found.declaration.read_users, of_log)
    rules = Rules(
        now=time.time_ns() // 1_000_000,
        rating_scale=options.rating_scale,
        min_rating=options.min_rating,
        events=options.events,
    )
    with tempfile.TemporaryDirectory(prefix="twotower-") as folder:
        rejects = RejectLog(Path(folder) / REJECTS_FILE, strict=settings.strict)
        known: Catalogue | None = None
        with rejects:
            if source.catalogue is not None:
                known = read_catalogue(source.catalogue, rejects)
            log_read = read_log(
                source,
                rules,
                rejects,
                None if known is None else known.items,
                progress,
                keep_unknown=settings.keep_unknown_items,
            )
        log = log_read.log
        summary = _read_summary(source, rejects, log_read, known)
        summary |= found.summary
        if known is not None:
            known = with_bare_items(known, log_read.items)
        log = log.by_user() if isinstance(split, FileOrder) else log.by_user_and_time()
        log, reduction = _reduce(log, settings)
        log, user_ids = _indexed_users(log, log_read.users.ids)
        log, rows = _indexed_items(log, log_read.items.ids, known, keep_all=settings.k_core == 0)
        indptr = _indptr(log.users, len(user_ids))
        parts = split_parts(
            split, indptr, timestamps=log.timestamps, given=log.parts, ordered=times or order
        )
        summary |= reduction | {
            "users": len(user_ids),
            "items": rows.height,
            "interactions": len(log),
            "parts": {part.name.lower(): int((parts == part).sum()) for part in Part},
            "settings": settings.model_dump(mode="json") | {"split": split.model_dump()},
            "options": options.model_dump(mode="json", exclude_defaults=True),
        }
        if notes := split_notes(split, parts, log.parts, np.diff(indptr), times):
            summary["notes"] = notes
        user_table = None
        if found.users is not None and users_key is not None:
            user_table, summary["user_table"] = read_users(
                found.users, found.declaration.read_users, users_key, user_ids
            )
        dataset = Dataset(
            found.name,
            IdMap(user_ids, "user"),
            IdMap(rows[columns.ITEM_ID].to_list(), "item"),
            rows,
            Histories(indptr, log.items, log.ratings, log.timestamps),
            parts,
            summary,
            user_table,
        )
        if out is not None:
            dataset.save(out, extra=[rejects.path] if rejects.path.exists() else [])
    return dataset


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
    user, share = found.heaviest_user
    if share > HEAVY and len(found.users) >= HEAVY_OF:
        summary["heaviest_user"] = {"user_id": user, "share": share}
    if scientific := found.scientific_ids:
        summary["scientific_ids"] = {"count": len(scientific), "example": scientific[0]}
    if found.without_rating:
        summary["without_rating"] = found.without_rating
    if found.log.ratings is not None:
        low, high = np.nanmin(found.log.ratings), np.nanmax(found.log.ratings)
        summary["ratings"] = [float(low), float(high)]
    if found.log.timestamps is not None and len(found.log):
        times = found.log.timestamps
        summary["times"] = [int(times.min()), int(times.max())]
        if early := int((times < YEAR).sum()):
            summary["times_in_1970"] = early
    read = dict(zip(paths, found.read_of, strict=True))
    if known is not None and source.catalogue is not None:
        read[source.catalogue.path] = known.read
    hints = _encodings(source, rejects, read)
    if hints:
        summary["encodings"] = hints
    if known is not None and source.catalogue is not None:
        path = source.catalogue.path
        summary["catalogue"] = {
            "file": path.name,
            "read": known.read,
            "rejected": rejects.counts([path]),
            "examples": rejects.examples([path]) | dict(known.examples),
            "repaired": dict(known.repaired),
            "columns": _columns(source.catalogue.found),
            "items": known.rows.height,
        }
        if known.currencies:
            summary["catalogue"]["currencies"] = list(known.currencies)
        summary |= _unknown_items(found, known, rejects, paths)
        images = known.rows[columns.IMAGE].drop_nulls()
        if any(not image.startswith(WEB) for image in images):
            # Paths mean something beside the catalogue only, which the data set leaves.
            summary["image_folder"] = str(source.catalogue.path.parent.resolve())
    return summary


def _encodings(source: Source, rejects: RejectLog, read: Mapping[Path, int]) -> dict[str, Any]:
    """Files with rows that are not of the encoding they were read in, and the likely one."""
    files: list[LogFile | CatalogueFile] = [*source.logs]
    if source.catalogue is not None:
        files.append(source.catalogue)
    hints = {}
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
    read = {column: name for column, name in found.canonical.items() if name in found.keys}
    return {"read": read, "ignored": found.ignored} | (
        {"late": dict(found.late)} if found.late else {}
    )


def _unknown_items(
    found: LogRead, known: Catalogue, rejects: RejectLog, paths: Sequence[Path]
) -> dict[str, Any]:
    """Interactions with items that the catalogue lacks, and what share of the log they are."""
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


def _reduce(log: EventLog, settings: PrepareSettings) -> tuple[EventLog, dict[str, Any]]:
    """Drop repeats, then what lies outside the k-core; the counts of both."""
    repeats = 0
    if not settings.keep_repeats:
        first = log.first_of_pairs()
        repeats = int(len(first) - first.sum())
        log = log.select(first)
    before = _size(log)
    core = k_core(log.users, log.items, settings.k_core)
    kept = log.select(core.kept)
    if not len(kept):
        raise InputError(
            f"no interaction is left in the {settings.k_core}-core, of {len(log):,} by "
            f"{before['users']:,} users of {before['items']:,} items",
            "choose a smaller k_core; 0 turns it off",
        )
    after = _size(kept)
    removed = {f"{kind}_removed": count - after[kind] for kind, count in before.items()}
    return kept, {
        "repeats": repeats,
        "before_k_core": before,
        "k_core": {"k": settings.k_core, "rounds": core.rounds, **removed},
    }


def _size(log: EventLog) -> dict[str, int]:
    return {
        "users": int(np.count_nonzero(np.bincount(log.users))),
        "items": int(np.count_nonzero(np.bincount(log.items))),
        "interactions": len(log),
    }


def _indexed_users(log: EventLog, ids: Sequence[str]) -> tuple[EventLog, list[str]]:
    users, kept = _by_id(log.users, ids)
    log = log.replace(users=users)
    return log.select(np.argsort(users, kind="stable")), kept


def _indexed_items(
    log: EventLog, ids: Sequence[str], known: Catalogue | None, *, keep_all: bool
) -> tuple[EventLog, pl.DataFrame]:
    if known is None:
        items, kept = _by_id(log.items, ids)
        return log.replace(items=items), bare_catalogue(kept)
    if keep_all:
        return log, known.rows
    codes, places = np.unique(log.items, return_inverse=True)
    return log.replace(items=places.astype(np.int32)), known.rows[codes]


def _by_id(codes: IndexArray, ids: Sequence[str]) -> tuple[IndexArray, list[str]]:
    """Indices in the order of the ids that occur, and those ids."""
    present = np.flatnonzero(np.bincount(codes)).tolist()
    present.sort(key=ids.__getitem__)
    index = np.full(len(ids), -1, dtype=np.int32)
    index[present] = np.arange(len(present), dtype=np.int32)
    return index[codes], [ids[code] for code in present]


def _indptr(users: IndexArray, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    indptr = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=count), out=indptr[1:])
    return indptr
