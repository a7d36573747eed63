"""Interaction log: read in chunks into arrays of integer codes; only ids are kept as text."""

import re
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import islice
from typing import Final, TypeAlias

import numpy as np
import polars as pl

from twotower.data import columns
from twotower.data.attributes import Place, typed_table
from twotower.data.context import distinct_rows
from twotower.data.guesses import date_and_clock, is_clock
from twotower.data.ids import Vocabulary
from twotower.data.readers import Chunk, LogFile, Source
from twotower.data.readers.times import DAY, LANGUAGES, own_offsets, own_zone
from twotower.data.readers.values import RAW_TIME
from twotower.data.rejects import RejectLog, nothing_usable, unknown_item_hint
from twotower.data.remote import local_input
from twotower.data.schema import CONTEXT_KINDS, OWN, Column
from twotower.data.time_zones import offset_name, time_value, wall_clock
from twotower.data.validation import UNKNOWN_REASON, Rules, validate_log
from twotower.errors import InputError
from twotower.types import (
    Array,
    BoolArray,
    DoubleArray,
    FloatArray,
    IndexArray,
    Mapper,
    OffsetArray,
)

ReadProgress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes of the log read so far, and the total."""

SAMPLED_IDS: Final = 100_000
"""Number of user ids, and of item ids, checked for spreadsheet damage."""
_INVISIBLE: Final = "[\u00ad\u200b-\u200f\u2060\ufeff]"
_PART: Final = "part"
"""Code of the part of the file that a row is of."""
_NOT_HELD: Final = frozenset((columns.USER_ID, columns.ITEM_ID, columns.EVENT, columns.LINE))
_DTYPES: Final = {
    columns.RATING: pl.Float32, columns.TIMESTAMP: pl.Int64,
    columns.WEIGHT: pl.Float32, columns.KIND: pl.UInt8,
}  # fmt: skip
"""Types of the columns that are not float64."""


@dataclass(frozen=True)
class EventLog:
    """Interactions as arrays, in file order."""

    users: IndexArray
    items: IndexArray
    """``(events,)`` int32 codes."""
    ratings: FloatArray | None
    """``(events,)`` float32, NaN if missing; or None."""
    timestamps: OffsetArray | None
    """``(events,)`` int64 milliseconds, or None."""
    order: DoubleArray | None
    """``(events,)`` float64 position among the user's interactions, or None."""
    parts: Array | None
    """``(events,)`` uint8 `Part` given by the files, or None."""
    weights: FloatArray | None = None
    """``(events,)`` float32, negative for events that cancel earlier ones; or None."""
    kinds: Array | None = None
    """``(events,)`` uint8 codes of `EventRules.kinds`, or None."""
    contexts: IndexArray | None = None
    """``(events,)`` int32 row of the context table, or None without declared columns."""

    def __len__(self) -> int:
        return len(self.users)

    def select(self, which: BoolArray | OffsetArray) -> "EventLog":
        """The interactions selected by a boolean mask or by positions."""
        arrays = {column.name: getattr(self, column.name) for column in fields(self)}
        chosen = {name: array[which] for name, array in arrays.items() if array is not None}
        return replace(self, **chosen)

    def by_user_and_time(self) -> "EventLog":
        """Sorted by user, then time or order; ties keep file order."""
        when = self.timestamps if self.timestamps is not None else self.order
        keys = (self.users,) if when is None else (when, self.users)
        return self.select(np.lexsort(keys))

    def by_user(self) -> "EventLog":
        """Sorted by user; a user's interactions keep file order."""
        return self.select(np.argsort(self.users, kind="stable"))

    @property
    def pairs(self) -> OffsetArray:
        """``(events,)`` number of each event's user-item pair."""
        return self.users.astype(np.int64) * (int(self.items.max(initial=0)) + 1) + self.items

    def first_of_pairs(self) -> BoolArray:
        """``(events,)`` mask of the first event of each user-item pair, in this order."""
        pairs = self.pairs
        first = np.zeros(len(pairs), dtype=bool)
        first[np.unique(pairs, return_index=True)[1]] = True
        return first


@dataclass(frozen=True)
class LogRead:
    """Result of `read_log`."""

    log: EventLog
    """The usable interactions."""
    users: Vocabulary
    items: Vocabulary
    """Ids by code; ``items`` begins with the catalogue if there is one."""
    read_of: tuple[int, ...]
    """Number of rows of each file, accepted and rejected."""
    unknown_items: int
    """Number of distinct items rejected because the catalogue lacks them."""
    without_rating: int
    """Number of usable interactions without a rating, in a log with ratings."""
    contexts: pl.DataFrame | None = None
    """Distinct rows of the declared columns; None without any."""
    zones: Mapping[str, str] = field(default_factory=dict)
    """Detected `Column.time_zone` of each declared column that derives from the time."""
    own_offsets: tuple[str, ...] = ()
    """UTC offsets written with the times of the log, if derived columns use them."""

    @property
    def scientific_ids(self) -> list[str]:
        """Sampled ids such as ``1.23457E+12`` that were shortened by a spreadsheet."""
        ids = _first(self.users).append(_first(self.items))
        return ids.filter(ids.str.contains(r"^\d(\.\d+)?[eE]\+\d+$")).to_list()

    def alike_ids(self, ids: Vocabulary) -> list[tuple[str, str]]:
        """Pairs of sampled ids that look alike: another Unicode form, or invisible characters.

        They occur in text typed on one system and exported by another.
        """
        first = _first(ids)
        unusual = first.filter(first.str.len_bytes() != first.str.len_chars())
        if unusual.is_empty():
            return []
        plain = first.str.replace_all(_INVISIBLE, "").str.normalize("NFKC")
        pairs = pl.DataFrame({"id": first, "plain": plain}).group_by("plain", maintain_order=True)
        found = pairs.agg(pl.col("id").head(2)).filter(pl.col("id").list.len() > 1)["id"].to_list()
        return [(first_id, other) for first_id, other in found]

    def case_variants(self, ids: Vocabulary) -> list[tuple[str, str]]:
        """Pairs of sampled ids that differ only in case."""
        groups = _first(ids).to_frame().group_by(pl.col("id").str.to_lowercase().alias("lower"))
        several = groups.agg(pl.col("id").sort()).filter(pl.col("id").list.len() > 1).sort("lower")
        return [(one, other) for one, other, *_ in several["id"].to_list()]

    @property
    def heaviest_user(self) -> tuple[str, float]:
        """The user with the most interactions, and their share of the log."""
        counts = np.bincount(self.log.users)
        code = int(counts.argmax())
        return self.users.ids[code], float(counts[code] / len(self.log))


def _first(ids: Vocabulary) -> pl.Series:
    return pl.Series("id", list(islice(ids, SAMPLED_IDS)), dtype=pl.String)


def read_log(
    source: Source,
    rules: Rules,
    rejects: RejectLog,
    catalogue: Vocabulary | None,
    progress: ReadProgress | None,
    *,
    keep_unknown: bool,
    declared: Mapping[str, Column],
    mapper: Mapper,
) -> LogRead:
    """Read and validate every file of a log.

    Ids of ``catalogue`` come first; items that it lacks are rejected, or added if
    ``keep_unknown``. ``declared`` are the context columns of the log. ``mapper`` reads and
    validates the files: `map`, or the one of `twotower.cluster.ray_cluster`.

    Raises
    ------
    InputError
        If no row is usable, a declared column is of another kind, or an hour is declared but the
        times are dates only.
    """
    derived = {name: column for name, column in declared.items() if column.is_of_time}
    named_zones: set[str | None] = set()
    users = Vocabulary()
    items = Vocabulary() if catalogue is None else catalogue
    known = None if keep_unknown else catalogue
    sizes = [file.path.stat().st_size for file in source.logs]
    collected: list[pl.DataFrame] = []
    stated: list[pl.DataFrame] = []
    done, total = 0, sum(sizes)
    read = []
    unknown: set[str] = set()
    validated = mapper(
        partial(_validated_chunks, rules=rules, known=known, clocks=bool(derived)), source.logs
    )
    for file, size, chunks in zip(source.logs, sizes, validated, strict=True):
        read.append(0)
        with closing(chunks):
            for checked in chunks:
                read[-1] += checked.height
                rejects.add(file.path, checked.rejects)
                unknown.update(
                    reject.value for reject in checked.rejects if reject.reason == UNKNOWN_REASON
                )
                context = list(filter(columns.is_context, checked.rows.columns))
                stated.append(checked.rows.select(context))
                rows = checked.rows.drop(context)
                if columns.TIME_ZONE in rows.columns:
                    named_zones.update(rows[columns.TIME_ZONE].unique())
                    rows = rows.drop(columns.TIME_ZONE)
                codes: dict[str, Array] = {
                    columns.USER_ID: users.add(rows[columns.USER_ID]),
                    columns.ITEM_ID: items.add(rows[columns.ITEM_ID]),
                    _PART: np.full(rows.height, file.part or 0, dtype=np.uint8),
                }
                collected.append(_numbers(rows, codes))
                if progress is not None:
                    progress(done + int(size * checked.fraction), total)
        done += size
    if not len(users):
        raise _nothing_left(source, rejects, sum(read), catalogue)
    whole = pl.concat(collected, how="diagonal")
    del collected  # so that memory holds one column twice, not all
    # Columns that a chunk lacks, such as those that first appear in mid-file, become NaN.
    joined = {name: whole.drop_in_place(name).to_numpy() for name in whole.columns}
    ratings = joined.get(columns.RATING)
    without = 0 if ratings is None else int(np.isnan(ratings).sum())
    # NaN, of a time without an offset, is one of them.
    offsets: Array = np.unique(joined.get(columns.UTC_OFFSET, np.empty(0)))
    contexts = which = None
    zones: dict[str, str] = {}
    if declared:
        typed = _typed_context(stated, declared, source)
        if derived:
            zone = _zone_of_times(offsets, named_zones, source.logs[0].options.time_zone)
            zones = {
                # Whose clocks a column of the log is of no data can tell.
                name: column.time_zone or (OWN if name in typed.columns else zone)
                for name, column in derived.items()
            }
            typed = _with_times(typed, declared, zones, joined)
        contexts, which = distinct_rows(typed)
    log = EventLog(
        joined[columns.USER_ID],
        joined[columns.ITEM_ID],
        None if without == len(joined[_PART]) else ratings,
        joined.get(columns.TIMESTAMP),
        joined.get(columns.ORDER),
        joined[_PART] if source.has_parts else None,
        joined.get(columns.WEIGHT),
        joined.get(columns.KIND),
        which,
    )
    names = tuple(offset_name(int(offset)) for offset in offsets if np.isfinite(offset))
    by_own = names if OWN in zones.values() else ()
    return LogRead(log, users, items, tuple(read), len(unknown), without, contexts, zones, by_own)


def _numbers(rows: pl.DataFrame, codes: Mapping[str, Array]) -> pl.DataFrame:
    """The part of a chunk kept until all are read: numbers, with texts replaced by codes."""
    held = rows.drop(_NOT_HELD, strict=False)
    held = held.cast({name: _DTYPES.get(name, pl.Float64) for name in held.columns})
    return held.with_columns(pl.Series(name, array) for name, array in codes.items())


def _validated_chunks(
    file: LogFile, rules: Rules, known: Vocabulary | None, *, clocks: bool
) -> Generator[Chunk, None, None]:
    """Usable and rejected rows of one file; may run in a process on another machine.

    ``clocks`` adds the UTC offset and the zone given with each time.
    """
    here = file.url is None or file.path.exists()
    with (
        local_input(file.path if here else file.url or "") as path,
        closing(replace(file, path=path).chunks()) as chunks,
    ):
        for chunk in chunks:
            whole = _with_clocks(chunk) if clocks else chunk
            yield replace(validate_log(whole, rules, known), row_text=str)


def _with_clocks(chunk: Chunk) -> Chunk:
    """The chunk with `columns.UTC_OFFSET` and `columns.TIME_ZONE` of its times."""
    if RAW_TIME not in chunk.rows.columns:
        return chunk
    raw = chunk.rows[RAW_TIME]
    offsets = own_offsets(raw).alias(columns.UTC_OFFSET)
    zone = pl.lit(own_zone(raw), pl.String).alias(columns.TIME_ZONE)
    return replace(chunk, rows=chunk.rows.with_columns(offsets, zone))


def _typed_context(
    chunks: Sequence[pl.DataFrame], declared: Mapping[str, Column], source: Source
) -> pl.DataFrame:
    """The declared columns present in the log, for all usable interactions."""
    rows = pl.concat(chunks, how="vertical_relaxed")
    given = {name: column for name, column in declared.items() if columns.of_context(name) in rows}
    named = rows.rename({columns.of_context(name): name for name in given})
    place = Place(source.logs[0].path, source.logs[0].options, CONTEXT_KINDS)
    return typed_table(named, given, place)


def _zone_of_times(offsets: Array, named: Collection[str | None], read: str | None) -> str:
    """`Column.time_zone` of a log: that of its times, else the zone it is read with, else UTC.

    ``offsets`` are the distinct UTC offsets of the times, NaN for none, and ``named`` the zones of
    whole columns. Offsets that are all 0 count as none, since most logs are written in UTC.
    """
    if read is not None:
        return read
    zones = set(named) - {"UTC"}
    if len(zones) == 1 and len(named) == 1 and (zone := next(iter(zones))) is not None:
        return zone
    own = offsets[np.isfinite(offsets)]
    if not own.any():
        return "UTC"
    return offset_name(int(own[0])) if len(offsets) == 1 else OWN


def _with_times(
    given: pl.DataFrame,
    declared: Mapping[str, Column],
    zones: Mapping[str, str],
    log: Mapping[str, Array],
) -> pl.DataFrame:
    """The declared columns, with those missing in the log derived from the time."""
    if columns.TIMESTAMP not in log:
        return given.select(declared)
    times = pl.Series(log[columns.TIMESTAMP], dtype=pl.Int64)
    days = not (times % DAY != 0).any()
    found = given.to_dict()
    for name, zone in zones.items():
        kind = declared[name].kind
        if kind == "hour" and days and name not in found:
            raise InputError(
                f"the schema declares events.{name} as an hour, but the times of the log are days",
                "declare a weekday or a month, or give the log times of day",
            )
        clock = wall_clock(times, zone) if zone != OWN else _own_clock(times, log)
        derived = time_value(clock, kind)
        found[name] = found[name].fill_null(derived) if name in found else derived
    return pl.DataFrame({name: found[name] for name in declared})


def _own_clock(times: pl.Series, log: Mapping[str, Array]) -> pl.Series:
    """Local wall-clock time of each event; null if its time has no UTC offset."""
    minutes = pl.Series(log[columns.UTC_OFFSET], nan_to_null=True).cast(pl.Int64)
    return wall_clock(times + minutes * 60_000, "UTC")


def _nothing_left(
    source: Source, rejects: RejectLog, read: int, catalogue: Vocabulary | None
) -> InputError:
    paths = [file.path for file in source.logs]
    named = ", ".join(map(str, paths))
    counts = rejects.counts(paths)
    if not counts:
        return InputError(f"{named} has no interactions", "give a log with rows")
    hint, reason = None, next(iter(counts))
    if reason == UNKNOWN_REASON:
        hint = unknown_item_hint(rejects, paths, catalogue)
    elif (rejects.example_of(paths, f"{columns.ITEM_ID}: wrong type") or "").startswith("["):
        item = source.logs[0].columns[columns.ITEM_ID]
        hint = (
            f"it is a list: ReadOptions(explode=({item!r},)), or --explode {item}, makes each "
            "element a row"
        )
    elif time := rejects.example_of(paths, f"{columns.TIMESTAMP}: wrong type"):
        hint = _time_hint(source.logs[0], time)
    message = f"{named} has no usable interaction: {read:,} read"
    return nothing_usable(message, rejects, paths, source.logs[0].options, hint)


def _time_hint(log: LogFile, time: str) -> str | None:
    """Hint on what is missing in a text that is not a complete time."""
    if is_clock(time):
        date, clock = date_and_clock(log) or ("DATE", "CLOCK")
        return (
            "it is a time of day without its date; name the columns of both: "
            f"--column time={date},{clock} or ColumnMapping(time=({date!r}, {clock!r}))"
        )
    if re.match(r"[^{]*[^\W\d_]{3,}", time) and re.search(r"\d{4}", time):
        return f"names of months are read in {LANGUAGES}; write others as numbers"
    return None
