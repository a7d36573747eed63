"""pgvector index: items in PostgreSQL with the pgvector extension."""

import weakref
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any, ClassVar, Final, Literal

from pydantic import field_validator

from twotower.errors import InputError
from twotower.index.engine import EngineConfig, EngineIndex, library
from twotower.types import FloatArray

MOST_DIMENSIONS: Final = 2000
"""pgvector cannot index longer vectors; search is then exact."""
_EF_SEARCH: Final = 200
_TABLES: Final = "twotower_vectors"
"""Schema of the tables, separate from the service's state tables."""

_NEAREST: Final = """
select q.row, found.item, found.score
from unnest(%(rows)s::int[], %(queries)s::text[]) as q(row, vector)
cross join lateral (
    select item, -(vector <#> q.vector::vector) as score
    from {table} order by vector <#> q.vector::vector limit %(k)s
) as found
order by q.row, found.score desc, found.item
"""


class PgvectorIndex(EngineIndex):
    """A PostgreSQL table; see `EngineIndex`.

    A table is created, filled and indexed in one transaction: others see all of it or nothing.
    """

    file: ClassVar[str] = "index.pgvector.json"

    @property
    def in_process(self) -> bool:
        """Always False: PostgreSQL is a server."""
        return False

    @property
    def is_exact(self) -> bool:
        """Whether all items are compared."""
        return bool(self.config.exact) or self.dim > MOST_DIMENSIONS

    @cached_property
    def _pool(self) -> Any:
        """Connection pool, for searches from up to 16 threads at once."""
        psycopg, url = _library(), self.config.url or ""
        try:  # connect once directly: a pool would keep retrying
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("create extension if not exists vector")
        except psycopg.Error as error:
            what = " ".join(str(error).split())
            raise InputError(
                f"PostgreSQL with pgvector cannot be used: {what}",
                "check the url, PGPASSWORD, and that the server has the extension 'vector'",
            ) from error
        from psycopg_pool import ConnectionPool

        pool = ConnectionPool(
            url,
            kwargs={"autocommit": True},
            configure=_configure,
            min_size=1,
            max_size=16,
            open=True,
        )
        weakref.finalize(self, pool.close)
        return pool

    def _rows(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        with self._pool.connection() as connection:
            found: list[tuple[Any, ...]] = connection.execute(statement, values).fetchall()
        return found

    @property
    def _table(self) -> str:
        return f'{_TABLES}."{self.collection}"'

    @property
    def stored(self) -> int:
        """Number of items in the table; 0 if it does not exist."""
        if self._rows("select to_regclass(%s)", [self._table]) == [(None,)]:
            return 0
        return int(self._rows(f"select count(*) from {self._table}")[0][0])

    def create(self, vectors: FloatArray) -> None:
        """See `EngineIndex.create`."""
        table = self._table
        with (
            self._pool.connection() as connection,
            connection.transaction(),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"create schema if not exists {_TABLES}")
            cursor.execute(f"drop table if exists {table}")
            cursor.execute(
                f"create table {table} (item bigint primary key, vector vector({self.dim}))"
            )
            with cursor.copy(f"copy {table} from stdin") as copy:
                for row in enumerate(map(_literal, vectors)):
                    copy.write_row(row)
            if not self.is_exact:
                cursor.execute(f"create index on {table} using hnsw (vector vector_ip_ops)")

    def nearest(self, queries: FloatArray, k: int) -> Iterator[tuple[int, int, float]]:
        """See `EngineIndex.nearest`."""
        asked = {"rows": list(range(len(queries))), "queries": [_literal(row) for row in queries]}
        statement = _NEAREST.format(table=self._table)
        yield from self._rows(statement, {**asked, "k": k})

    def rows(self, items: list[int]) -> Iterator[tuple[int, Any]]:
        """See `EngineIndex.rows`."""
        statement = f"select item, vector::real[] from {self._table} where item = any(%s)"
        yield from self._rows(statement, [items])


class PgvectorConfig(EngineConfig):
    """PostgreSQL with inner product; needs the ``pgvector`` extra, and the extension on the server.

    Example of ``url``: ``postgresql://user@host/database``; None uses libpq's ``PGHOST``,
    ``PGDATABASE`` and so on. Bundles store the URL, so passwords belong in ``PGPASSWORD`` or
    ``~/.pgpass``.
    """

    kind: Literal["pgvector"] = "pgvector"
    index: ClassVar[type[EngineIndex]] = PgvectorIndex

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url and _library().conninfo.conninfo_to_dict(url).get("password"):
            raise ValueError("url must hold no password, since bundles keep it: set PGPASSWORD")
        return url


def _configure(connection: Any) -> None:
    """Set the search depth of a new connection of the pool."""
    connection.execute(f"set hnsw.ef_search = {_EF_SEARCH}")
    # Iterative: a scan that found too few items continues, so k may exceed ef_search.
    connection.execute("set hnsw.iterative_scan = strict_order")


def _literal(vector: FloatArray) -> str:
    return str(vector.tolist())


_library = partial(library, "psycopg", "psycopg", "pgvector")
