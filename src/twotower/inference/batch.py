"""Recommendations for very many users, to a file."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twotower.data import columns
from twotower.data.atomic import atomic_file
from twotower.errors import InputError
from twotower.index import ExactIndex
from twotower.inference.filters import ANY, Filters
from twotower.inference.pipeline import Pipeline
from twotower.inference.requests import Request

_USERS_AT_ONCE: Final = 4096
SCHEMA: Final = pa.schema(
    [
        (columns.USER_ID, pa.string()),
        ("rank", pa.int32()),
        (columns.ITEM_ID, pa.string()),
        ("score", pa.float32()),
    ]
)


def read_users(file: Path) -> list[str]:
    """The ``user_id`` column of a Parquet file.

    Raises
    ------
    InputError
        Where the file is none, or has no such column of texts.
    """
    try:
        table = pq.read_table(file, columns=[columns.USER_ID])
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{file} cannot be read ({error})",
            f"give a Parquet file with a column {columns.USER_ID!r}",
        ) from error
    if table.num_columns == 0:
        raise InputError(
            f"{file} has no column {columns.USER_ID!r}", "name the column of user ids so"
        )
    ids = table[columns.USER_ID]
    if ids.null_count:
        raise InputError(f"{columns.USER_ID} must not be null, got {ids.null_count} nulls")
    return [str(one) for one in ids.to_pylist()]


def recommend_to_file(
    pipeline: Pipeline,
    users: Sequence[str],
    out: Path,
    k: int = 10,
    *,
    filters: Filters = ANY,
    rerank: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write ``user_id``, ``rank`` (from 1), ``item_id`` and ``score`` as Parquet, all or nothing.

    Items are searched exactly: for many users at once a matrix product costs less than an
    approximate search for each.

    Parameters
    ----------
    users
        Ids of known users.
    progress
        Called with the number of users that were just done.

    Raises
    ------
    InputError
        At an unknown user, and as `Pipeline.recommend`.
    """
    exact = pipeline.with_index(ExactIndex(pipeline.contents.item_vectors))
    with atomic_file(out) as temporary, pq.ParquetWriter(temporary, SCHEMA) as writer:
        for start in range(0, len(users), _USERS_AT_ONCE):
            part = users[start : start + _USERS_AT_ONCE]
            for table in _tables(exact, part, k, filters, rerank):
                writer.write_table(table)
            if progress is not None:
                progress(len(part))


def _tables(
    pipeline: Pipeline, users: Sequence[str], k: int, filters: Filters, rerank: bool
) -> Iterator[pa.Table]:
    answers = pipeline.rank([Request(user) for user in users], k, filters=filters, rerank=rerank)
    lengths = [len(one.items) for one in answers]
    if sum(lengths) == 0:
        return
    items = np.concatenate([one.items for one in answers])
    yield pa.table(
        [
            pa.array(np.repeat(np.asarray(users, dtype=object), lengths), pa.string()),
            np.concatenate([np.arange(1, count + 1, dtype=np.int32) for count in lengths]),
            pa.array(pipeline.items.ids.rows[items], pa.string()),
            np.concatenate([one.scores for one in answers]),
        ],
        schema=SCHEMA,
    )
