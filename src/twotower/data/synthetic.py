"""Generator of logs of any size: clusters of taste, Zipf popularity, sessions and times.

For measurements of time and memory, not of quality: items of a cluster share words of their titles,
users come back to a few clusters, and in a session one item often follows the same other one, so
that every part of a model has something to learn. Memory does not grow with the log: users are
drawn and written in blocks.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from twotower.config import Config
from twotower.data import columns
from twotower.data.atomic import atomic_folder
from twotower.types import Array

INTERACTIONS_FILE: Final = "interactions.parquet"
CATALOGUE_FILE: Final = "items.parquet"
LEAST_EVENTS: Final = 5
"""Interactions of the least active users."""
_BLOCK: Final = 500_000
"""Interactions that are drawn at once."""
_OVERDRAW: Final = 1.4
"""So many times the interactions are drawn, since repeats of an item are dropped."""
_TASTES: Final = 3
"""Clusters that a user comes back to, in falling order."""
_TASTE_SHARES: Final = (0.6, 0.25, 0.1, 0.05)
"""Share of the sessions in each of them; the last is of sessions in any cluster."""
_SESSION: Final = 3.0
"""Mean interactions of a session."""
_FOLLOWS: Final = 0.3
"""Share of the interactions within a session that are with the item that follows the last one."""
_DAY_MS: Final = 86_400_000
_START_MS: Final = 1_640_995_200_000
"""2022-01-01 UTC."""
_SYLLABLES: Final = ("ka", "lo", "mi", "ren", "ta", "su", "vor", "ni", "del", "po")


class LogSize(Config):
    """Size and shape of a generated log."""

    interactions: int = Field(1_000_000, ge=1)
    """About so many: a user has no item twice."""
    items: int = Field(50_000, ge=10)
    """Products of the catalogue."""
    users: int = Field(100_000, ge=1)
    """Users, each with at least one interaction."""
    zipf: float = Field(0.9, ge=0)
    """Power by which popularity falls with an item's rank in its cluster."""
    items_in_cluster: int = Field(500, ge=2)
    """Items of a cluster of taste."""

    @property
    def clusters(self) -> int:
        """Clusters of taste; item ``i`` is of cluster ``i % clusters``."""
        return max(self.items // self.items_in_cluster, 1)


class GeneratedLog(NamedTuple):
    """Files of a generated log."""

    interactions: Path
    """Parquet with ``user_id``, ``item_id`` and ``timestamp`` (milliseconds), ordered by user."""
    catalogue: Path
    """Parquet with ``item_id``, ``title`` and ``category``."""
    total: int
    """Interactions that were written."""


def generate_log(folder: Path, size: LogSize | None = None, seed: int = 0) -> GeneratedLog:
    """Write a synthetic log and its catalogue, which `prepare` reads, all or nothing.

    The same size and seed give the same log.
    """
    size = size or LogSize()
    total = 0
    with atomic_folder(folder) as temporary:
        _catalogue(size).write_parquet(temporary / CATALOGUE_FILE)
        text = pa.large_string()
        types = {columns.USER_ID: text, columns.ITEM_ID: text, columns.TIMESTAMP: pa.int64()}
        schema = pa.schema(list(types.items()))
        with pq.ParquetWriter(temporary / INTERACTIONS_FILE, schema) as writer:
            for block in _blocks(size, seed):
                writer.write_table(block.to_arrow().cast(schema))
                total += block.height
    return GeneratedLog(folder / INTERACTIONS_FILE, folder / CATALOGUE_FILE, total)


def _catalogue(size: LogSize) -> pl.DataFrame:
    items = np.arange(size.items)
    clusters = items % size.clusters
    return pl.DataFrame(
        {
            columns.ITEM_ID: [f"i{item}" for item in items],
            columns.TITLE: [
                f"{_word(cluster)} {_word(7 + 3 * cluster)} {_word(item)}"
                for item, cluster in zip(items.tolist(), clusters.tolist(), strict=True)
            ],
            columns.CATEGORY: [_word(cluster) for cluster in clusters.tolist()],
        }
    )


def _word(number: int) -> str:
    """A pronounceable word, another one for each number."""
    return "".join(_SYLLABLES[int(digit)] for digit in str(number)).capitalize()


def _blocks(size: LogSize, seed: int) -> Iterator[pl.DataFrame]:
    """Interactions of consecutive users, as a table."""
    rng = np.random.default_rng(seed)
    counts = _activity(size, rng)
    ends = np.cumsum(counts)
    first = 0
    while first < size.users:
        done = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, done + _BLOCK, "right")), first + 1)
        user, item, time = _drawn(size, counts[first:last], rng)
        yield pl.DataFrame({"user": user + first, "item": item, columns.TIMESTAMP: time}).select(
            pl.format("u{}", "user").alias(columns.USER_ID),
            pl.format("i{}", "item").alias(columns.ITEM_ID),
            columns.TIMESTAMP,
        )
        first = last


def _activity(size: LogSize, rng: np.random.Generator) -> Array:
    """``(users,)`` interactions: a least number, and log-normal beyond it."""
    mean = size.interactions / size.users
    least = min(LEAST_EVENTS, int(mean))
    beyond = rng.lognormal(0.0, 1.2, size.users)
    beyond *= max(mean - least, 0) / beyond.mean()
    most = max(size.items // 4, 1)  # no user has most of the catalogue
    return np.clip(least + np.round(beyond).astype(np.int64), 1, most)


def _drawn(size: LogSize, counts: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """``(events,)`` user (from 0), item and time, in the order of user and time."""
    clusters = size.clusters
    drawn = np.ceil(counts * _OVERDRAW).astype(np.int64)
    user = np.repeat(np.arange(len(counts)), drawn)
    new_user = np.ones(len(user), dtype=np.bool_)
    new_user[1:] = user[1:] != user[:-1]
    new_session = new_user | (rng.random(len(user)) < 1 / _SESSION)
    session = np.cumsum(new_session) - 1
    tastes = rng.integers(0, clusters, (len(counts), _TASTES + 1))
    cluster = tastes[user, rng.choice(_TASTES + 1, len(user), p=_TASTE_SHARES)]
    anywhere = rng.integers(0, clusters, len(user))
    cluster = np.where(cluster == tastes[user, _TASTES], anywhere, cluster)
    cluster = cluster[new_session][session]  # one a session
    sizes = np.bincount(np.arange(size.items) % clusters)
    rank = _zipf_ranks(size.zipf, cluster, sizes, rng)
    follows = ~new_session & (rng.random(len(user)) < _FOLLOWS)
    previous = np.roll(rank, 1)
    within = sizes[cluster]
    rank = np.where(follows, (previous + 1 + 7 * (previous % 3)) % within, rank)
    item = rank * clusters + cluster
    gap = np.where(
        new_session, rng.exponential(20 * _DAY_MS, len(user)), rng.exponential(120_000, len(user))
    )
    gap[new_user] = rng.uniform(0, 700 * _DAY_MS, int(new_user.sum()))
    elapsed = np.cumsum(gap)
    start = elapsed[new_user] - gap[new_user]
    time = _START_MS + (elapsed - start[user]).astype(np.int64)
    first_time = np.zeros(len(user), dtype=np.bool_)
    first_time[np.unique(user * size.items + item, return_index=True)[1]] = True
    user, item, time = user[first_time], item[first_time], time[first_time]
    kept = np.bincount(user, minlength=len(counts))
    place = np.arange(len(user)) - np.repeat(np.cumsum(kept) - kept, kept)
    wanted = place < counts[user]
    return user[wanted], item[wanted], time[wanted]


def _zipf_ranks(zipf: float, cluster: Array, sizes: Array, rng: np.random.Generator) -> Array:
    """``(events,)`` rank of the item in its cluster of one of the ``sizes``, most popular first."""
    shares = np.cumsum(np.arange(1, sizes.max() + 1, dtype=np.float64) ** -zipf)
    # The smallest cluster lacks the last rank alone.
    ranks: Array = np.searchsorted(shares, rng.random(len(cluster)) * shares[sizes[cluster] - 1])
    return ranks
