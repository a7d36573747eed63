"""`prepare`: from files to a `Dataset`. Read, validate, reduce, index, split."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from twotower.data import columns
from twotower.data.catalogue import Catalogue, bare_catalogue, read_catalogue
from twotower.data.dataset import Dataset, Part
from twotower.data.histories import Histories
from twotower.data.ids import IdMap
from twotower.data.images import WEB
from twotower.data.kcore import k_core
from twotower.data.log import EventLog, Progress, read_log
from twotower.data.readers import ColumnMapping, Source, read_source
from twotower.data.rejects import REJECTS_FILE, RejectLog
from twotower.data.settings import PrepareSettings
from twotower.data.split_choice import choose_split, split_notes
from twotower.data.splits import FileOrder, split_parts
from twotower.data.validation import Rules
from twotower.errors import InputError
from twotower.types import IndexArray


def prepare(
    path: Path,
    *,
    name: str | None = None,
    settings: PrepareSettings | None = None,
    mapping: ColumnMapping | None = None,
    catalogue: Path | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Turn a log and its catalogue into a data set.

    Parameters
    ----------
    path
        Folder or file, see `twotower.data.readers.read_source`.
    name
        Name of the data set; by default that of the folder, or the file's up to its first dot.
    settings
        What to keep and how to split.
    mapping
        Names of the columns, where they are not the usual ones.
    catalogue
        The catalogue file, where it is not beside the log.
    out
        Folder to write, whole or not at all: what `Dataset.save` writes, and
        ``rejects.jsonl`` where a row was set aside.
    progress
        Called as the log is read.

    Returns
    -------
    Dataset
        Users in the order of their ids; items in that of the catalogue, or of their ids
        where there is none. ``summary`` says what was read, rejected, reduced and kept.

    Raises
    ------
    InputError
        Where the source is not recognised or nothing usable is left; with ``strict`` at the
        first bad row.
    """
    path = Path(path)
    settings = settings or PrepareSettings()
    source = read_source(path, mapping, catalogue)
    times, order = columns.TIMESTAMP in source.columns, columns.ORDER in source.columns
    split = choose_split(
        settings.split, str(source.logs[0].path), parts=source.has_parts, times=times, order=order
    )
    rules = Rules(settings.rating_range, now=time.time_ns() // 1_000_000)
    with tempfile.TemporaryDirectory(prefix="twotower-") as folder:
        rejects = RejectLog(Path(folder) / REJECTS_FILE, strict=settings.strict)
        known: Catalogue | None = None
        with rejects:
            if source.catalogue is not None:
                known = read_catalogue(source.catalogue, rejects, settings.rating_range)
            items = None if known is None else known.items
            log, users, items, read = read_log(source, rules, rejects, items, progress)
        summary = _read_summary(source, rejects, read, known)
        in_file_order = isinstance(split, FileOrder)
        log = log.by_user() if in_file_order else log.by_user_and_time()
        log, reduction = _reduce(log, settings)
        log, user_ids = _indexed_users(log, users.ids)
        log, rows = _indexed_items(log, items.ids, known, keep_all=settings.k_core == 0)
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
        }
        if notes := split_notes(split, parts, log.parts, np.diff(indptr), times):
            summary["notes"] = notes
        dataset = Dataset(
            name or path.name.split(".")[0] or path.resolve().name,
            IdMap(user_ids, "user"),
            IdMap(rows[columns.ITEM_ID].to_list(), "item"),
            rows,
            Histories(indptr, log.items, log.ratings, log.timestamps),
            parts,
            summary,
        )
        if out is not None:
            dataset.save(out, extra=[rejects.path] if rejects.path.exists() else [])
    return dataset


def _read_summary(
    source: Source, rejects: RejectLog, read: int, known: Catalogue | None
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "source": source.kind,
        "files": [file.path.name for file in source.logs],
        "read": read,
        "rejected": rejects.counts([file.path for file in source.logs]),
    }
    if known is not None and source.catalogue is not None:
        summary["catalogue"] = {
            "file": source.catalogue.path.name,
            "read": known.read,
            "rejected": rejects.counts([source.catalogue.path]),
            "repaired": dict(known.repaired),
        }
        images = known.rows[columns.IMAGE].drop_nulls()
        if any(not image.startswith(WEB) for image in images):
            # Paths mean something beside the catalogue only, which the data set leaves.
            summary["image_folder"] = str(source.catalogue.path.parent.resolve())
    return summary


def _reduce(log: EventLog, settings: PrepareSettings) -> tuple[EventLog, dict[str, Any]]:
    """Drop repeats, then what lies outside the k-core; and say how much that was."""
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
    removed = {f"{what}_removed": count - after[what] for what, count in before.items()}
    return kept, {
        "repeats": repeats,
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
