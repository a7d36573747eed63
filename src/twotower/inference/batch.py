"""Batch recommendation: many users at once, to a file, a folder of shards, or standard output."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, get_args

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from twotower.data import columns
from twotower.data.atomic import atomic_file
from twotower.data.frames import id_list
from twotower.data.remote import is_empty, is_url, local_input, local_output
from twotower.errors import InputError
from twotower.index import ExactIndex
from twotower.inference.options import DEFAULTS, RecommendOptions
from twotower.inference.pipeline import Pipeline
from twotower.inference.popular import PopularItems
from twotower.inference.ranking import RankedItems
from twotower.inference.requests import Request
from twotower.types import Mapper

if TYPE_CHECKING:
    from twotower.inference.business_rules import BusinessRules

Unknown: TypeAlias = Literal["popular", "skip", "fail"]
"""How a batch treats users that the bundle does not know."""

_USERS_AT_ONCE: Final = 4096
SHARD_USERS: Final = 16 * _USERS_AT_ONCE
"""Default users per shard: whole blocks, which makes the rows bit-identical to a single file's."""
SCHEMA: Final = pa.schema(
    [
        (columns.USER_ID, pa.string()),
        ("rank", pa.int32()),
        (columns.ITEM_ID, pa.string()),
        ("score", pa.float32()),
        ("source", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """Counts of users and rows of a batch."""

    users: int = 0
    """Users requested."""
    rows: int = 0
    """Items written, over all users."""
    unknown: int = 0
    """Users that the bundle does not know."""
    empty: int = 0
    """Known users who got no items."""

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.users + other.users,
            self.rows + other.rows,
            self.unknown + other.unknown,
            self.empty + other.empty,
        )


CSV: Final = (".csv",)
JSON_LINES: Final = (".jsonl", ".ndjson")
PARQUET: Final = (".parquet", ".pq")
"""File suffixes of each format."""
_SUFFIXES: Final = (*CSV, *JSON_LINES, *PARQUET)
STANDARD_OUTPUT: Final = Path("-")
"""Output path that stands for JSON lines on standard output."""


def read_users(file: Path) -> list[str]:
    """The ``user_id`` column of a CSV, JSON lines or Parquet file, told apart by suffix.

    For a folder, the columns of all its files with such a suffix, in order of file name.

    Raises
    ------
    InputError
        If the file cannot be read, has another suffix, or lacks such a text column without nulls.
    """
    if file.is_dir():
        files = sorted(path for path in file.iterdir() if path.suffix.lower() in _SUFFIXES)
        if not files:
            raise InputError(
                f"{file} has no file of users", "give a folder with .csv, .jsonl or .parquet files"
            )
        return [user for path in files for user in read_users(path)]
    _check_suffix(file)
    try:
        table, found = _read_column(file)
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"{file} cannot be read ({error})",
            f"give a .csv, .jsonl or .parquet file with a column {columns.USER_ID!r}",
        ) from error
    if table.num_columns == 0:
        raise InputError(
            f"{file} has no column {columns.USER_ID!r}, it has "
            + (", ".join(map(repr, found[:10])) or "none"),
            f"rename the column of user ids to {columns.USER_ID!r}",
        )
    ids = table[columns.USER_ID]
    if ids.null_count:
        raise InputError(f"{columns.USER_ID} must not be null, got {ids.null_count} nulls")
    return id_list(ids, columns.USER_ID)


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(
            f"the name of {path} does not say what kind of file it is",
            "end it in .csv, .jsonl or .parquet",
        )


def _read_column(file: Path) -> tuple[pa.Table, list[str]]:
    """A table with that column only (empty if the file lacks it), and all column names."""
    suffix = file.suffix.lower()
    if suffix in PARQUET:
        names = pq.read_schema(file).names
        return pq.read_table(file, columns=[columns.USER_ID]), names
    frame = pl.read_csv(file, infer_schema=False) if suffix in CSV else pl.read_ndjson(file)
    column = frame.select(name for name in frame.columns if name == columns.USER_ID)
    return column.to_arrow(), frame.columns


@contextmanager
def _writer(path: Path) -> Iterator[Callable[[pa.Table], object]]:
    """A function that writes tables in the format of the path's suffix."""
    if path == STANDARD_OUTPUT:
        yield lambda table: sys.stdout.write(pl.DataFrame(pl.from_arrow(table)).write_ndjson())
        return
    _check_suffix(path)
    suffix = path.suffix.lower()
    with atomic_file(path) as temporary:
        if suffix in CSV:
            from pyarrow import csv

            with csv.CSVWriter(temporary, SCHEMA) as writer:
                yield writer.write_table
        elif suffix in JSON_LINES:
            with temporary.open("wb") as file:
                yield lambda table: pl.DataFrame(pl.from_arrow(table)).write_ndjson(file)
        else:
            with pq.ParquetWriter(temporary, SCHEMA) as writer:
                yield writer.write_table


def recommend_to_file(
    pipeline: Pipeline,
    users: Sequence[str],
    out: Path,
    options: RecommendOptions = DEFAULTS,
    *,
    unknown: Unknown = "fail",
    context: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> BatchCounts:
    """Write ``user_id``, ``rank`` (from 1), ``item_id``, ``score`` and ``source`` for many users.

    The suffix selects CSV (``.csv``), JSON lines (``.jsonl``, ``.ndjson``) or Parquet
    (``.parquet``, ``.pq``); the path ``-`` writes JSON lines to standard output. Files are written
    atomically. Items are searched exactly: for many users at once, a matrix product costs less
    than an approximate search for each.

    Parameters
    ----------
    users
        Ids of users.
    options
        For all users; ``unknown`` replaces `RecommendOptions.strict`, and no reasons are written.
    unknown
        How to treat users that the bundle does not know: ``popular`` gives them the items with the
        most events, with ``popular`` in the column ``source`` and event counts as scores; ``skip``
        leaves them out; ``fail`` refuses the batch. They are counted in any case.
    context
        Declared columns of the log, for all users.
    progress
        Called with the number of users just completed.

    Raises
    ------
    InputError
        If there are unknown users and ``unknown`` is ``fail``, at an unsupported file suffix, and
        as `Pipeline.recommend`.
    """
    tables = recommendation_tables(
        pipeline, users, options, unknown=unknown, context=context, progress=progress
    )
    counts = BatchCounts()
    with _writer(out) as write:
        for table, part in tables:
            write(table)
            counts += part
    return counts


def recommend_to_folder(
    pipeline: Pipeline,
    bundle: str | Path,
    users: Sequence[str],
    out: str | Path,
    options: RecommendOptions = DEFAULTS,
    *,
    unknown: Unknown = "fail",
    context: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
    mapper: Mapper = map,
    shard_users: int = SHARD_USERS,
) -> BatchCounts:
    """Write the rows of `recommend_to_file` as shards ``part-00000.parquet``, … in a folder.

    Read in order of name, the shards hold the same rows as the single file. An empty file
    ``_SUCCESS`` is written last: a folder without it is from an unfinished run.

    Parameters
    ----------
    pipeline
        The bundle as loaded in this process: used to refuse unknown users before work begins.
    bundle
        Its path or URL, for the worker processes, which apply the business rules of ``pipeline``.
    out
        Path or URL of an empty or new folder.
    mapper
        Maps over the shards: `map`, or that of `twotower.cluster.ray_cluster`.
    shard_users
        Users per shard.

    Raises
    ------
    InputError
        If the folder is not empty or has a file's name, and as `recommend_to_file`.
    """
    if Path(out).suffix.lower() in _SUFFIXES or str(out) == str(STANDARD_OUTPUT):
        raise InputError(
            f"several processes write a folder of files, got {out}",
            "name a folder, such as recommendations/",
        )
    if not is_empty(out):
        raise InputError(f"{out} is not empty", "choose another folder for the recommendations")
    if unknown == "fail":
        _refuse_unknown(pipeline, users)
    starts = range(0, len(users), shard_users)
    shards = [(at, users[start : start + shard_users]) for at, start in enumerate(starts)]
    source, target = (
        str(place if is_url(place) else Path(place).absolute()) for place in (bundle, out)
    )
    counts = BatchCounts()
    rules = None if pipeline.rules is None else pipeline.rules.rules
    shard = _Shards(source, target, rules, options, unknown, context)
    for part in mapper(shard, shards):
        counts += part
        if progress is not None:
            progress(part.users)
    with local_output(f"{out}/_SUCCESS") as marker, atomic_file(marker) as temporary:
        temporary.touch()
    return counts


@dataclass(frozen=True)
class _Shards:
    """Writes shards in a worker process, which loads the bundle at its first shard."""

    bundle: str
    out: str
    rules: "BusinessRules | None"
    options: RecommendOptions
    unknown: Unknown
    context: Mapping[str, Any] | None

    @cached_property
    def pipeline(self) -> Pipeline:
        with local_input(self.bundle) as folder:
            return Pipeline.load(folder).with_rules(self.rules)

    def __call__(self, shard: tuple[int, Sequence[str]]) -> BatchCounts:
        number, users = shard
        with local_output(f"{self.out}/part-{number:05}.parquet") as path:
            return recommend_to_file(
                self.pipeline, users, path, self.options, unknown=self.unknown, context=self.context
            )


def recommendation_tables(
    pipeline: Pipeline,
    users: Sequence[str],
    options: RecommendOptions = DEFAULTS,
    *,
    unknown: Unknown = "fail",
    context: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[pa.Table, BatchCounts]]:
    """The rows of `recommend_to_file` in tables of some users each, with each table's counts."""
    check_unknown(unknown)
    known = pipeline.contents.users
    moment = pipeline.context_without_time(context)
    if unknown == "fail":
        _refuse_unknown(pipeline, users)
    exact = pipeline.with_index(ExactIndex(pipeline.contents.item_vectors))
    popular = PopularItems(exact.items) if unknown == "popular" else None
    for start in range(0, len(users), _USERS_AT_ONCE):
        part = users[start : start + _USERS_AT_ONCE]
        asked = [user for user in part if user in known]
        ranked = exact.rank([Request(user, context=moment) for user in asked], options)
        answers = dict(zip(asked, ranked, strict=True))
        fallback = None
        if popular is not None and len(answers) < len(part):
            fallback = popular.best(options.k, options.filters, rules=exact.rules)
        yield _table(exact, part, answers, fallback)
        if progress is not None:
            progress(len(part))


def check_unknown(unknown: Unknown) -> None:
    """`InputError` unless it is one of `Unknown`."""
    if unknown not in get_args(Unknown):
        raise InputError(
            f"unknown must be {', '.join(map(repr, get_args(Unknown)))}, got {unknown!r}"
        )


def _refuse_unknown(pipeline: Pipeline, users: Sequence[str]) -> None:
    known = pipeline.contents.users
    unknown = [user for user in users if user not in known]
    if unknown:
        more = f" and {len(unknown) - 1:,} more of {len(users):,}" if len(unknown) > 1 else ""
        raise InputError(
            f"unknown user {unknown[0]!r}{more}",
            "pass unknown='popular' to give such users popular items, or 'skip' to leave them out",
            cli_fix="pass --unknown popular to give such users popular items, or --unknown skip to "
            "leave them out, without --strict",
        )


def _table(
    pipeline: Pipeline,
    users: Sequence[str],
    answers: Mapping[str, RankedItems],
    fallback: RankedItems | None,
) -> tuple[pa.Table, BatchCounts]:
    """Rows of some users; users without an answer get ``fallback``, or nothing if it is None."""
    none = RankedItems(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
    rows = [answers.get(user, fallback or none) for user in users]
    lengths = [len(row.items) for row in rows]
    sources = ["model" if user in answers else "popular" for user in users]
    items = np.concatenate([row.items for row in rows])
    places = [np.arange(1, count + 1, dtype=np.int32) for count in lengths]
    table = pa.table(
        [
            pa.array(np.repeat(np.asarray(users, dtype=object), lengths), pa.string()),
            np.concatenate(places),
            pa.array(pipeline.items.ids.rows[items], pa.string()),
            np.concatenate([row.scores for row in rows]).astype(np.float32),
            pa.array(np.repeat(np.asarray(sources, dtype=object), lengths), pa.string()),
        ],
        schema=SCHEMA,
    )
    unknown = sum(user not in answers for user in users)
    empty = sum(user in answers and not length for user, length in zip(users, lengths, strict=True))
    return table, BatchCounts(len(users), len(table), unknown, empty)
