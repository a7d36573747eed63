"""The tables, the same on SQLite and PostgreSQL."""

import hashlib
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    inspect,
    select,
    text,
)

SCHEMA_VERSION: Final = 1

metadata: Final = MetaData()

_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")  # what SQLite numbers by itself

about: Final = Table(
    "twotower_state",
    metadata,
    Column("schema_version", Integer, primary_key=True),
    # Drawn when the tables are made, so that another database in the same place is told apart.
    Column("epoch", String(32)),
    # Drawn with the tables too, and kept by back-ups: what users' ids are hashed with.
    Column("forget_key", String(64)),
    # The newest number that a deleted event, and a deleted user, had: numbers never go back.
    Column("newest_deleted_event", BigInteger),
    Column("newest_deleted_user", BigInteger),
    # When a service last did what `Service.maintain` does, in milliseconds since 1970.
    Column("maintained_at", BigInteger),
)

items: Final = Table(
    "items",
    metadata,
    Column("item_id", String(200), primary_key=True),
    Column("title", Text, nullable=False),
    Column("description", Text),
    Column("features", Text),
    Column("price", Float(53)),
    Column("category", Text),
    Column("store", Text),
    Column("average_rating", Float(53)),
    Column("rating_count", BigInteger),
    Column("image", Text),
    Column("deleted", Boolean, nullable=False),
    Column("text_encoder", Text),
    Column("text_vector", LargeBinary),
    # Counts writes to the table: a reader asks for what is newer than it has.
    Column("revision", BigInteger, nullable=False),
    # Not in a database that an earlier release made: added when that is opened.
    Column("released", Float(53)),
    Column("columns", JSON(none_as_null=True)),
    Index("items_revision", "revision", unique=True),
)

encodings: Final = Table(
    "item_encodings",
    metadata,
    Column("item_id", String(200), primary_key=True),
    # That of the item which was encoded: of an item written since, an encoding is out of date.
    Column("revision", BigInteger, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("encoding", LargeBinary, nullable=False),
)

bundles: Final = Table(
    "bundles",
    metadata,
    # Name of the folder that a service is configured with. All that are configured with it serve:
    Column("configured", String(255), primary_key=True),
    # a folder beside it, or itself where this is null.
    Column("name", String(200)),
    Column("revision", BigInteger, nullable=False),
)

availability: Final = Table(
    "availability",
    metadata,
    Column("item_id", String(200), primary_key=True),
    Column("available", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("availability_revision", "revision", unique=True),
)

events: Final = Table(
    "events",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
    Column("event_id", String(200), nullable=False, unique=True),
    Column("user_id", String(200), nullable=False),
    Column("item_id", String(200), nullable=False),
    Column("kind", String(50), nullable=False),
    Column("rating", Float(53)),
    Column("timestamp", BigInteger, nullable=False),
    # True where the ids of the user and of the event were replaced by random ones.
    Column("anonymous", Boolean),
    # Not in a database that an earlier release made, which is brought forward.
    Column("quantity", Float(53)),
    # Of the answer that the event follows, and the place of its item there, from 1 on.
    Column("recommendation_id", String(200)),
    Column("position", Integer),
    Index("events_user", "user_id"),
    Index("events_age", "anonymous", "timestamp"),
    sqlite_autoincrement=True,
)
"""The columns are named as `prepare` expects those of a log."""

forgotten: Final = Table(
    "forgotten_users",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("forgotten_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("forgotten_users_revision", "revision", unique=True),
)

users: Final = Table(
    "users",
    metadata,
    Column("user_id", String(200), primary_key=True),
    # Declared columns by name.
    Column("attributes", JSON, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("users_revision", "revision", unique=True),
)

followers: Final = Table(
    "followers",
    metadata,
    # Drawn by every process of every service when it starts.
    Column("name", String(32), primary_key=True),
    # The newest tombstone that it obeys.
    Column("forgotten", BigInteger, nullable=False),
    # In milliseconds since 1970.
    Column("seen_at", BigInteger, nullable=False),
)


shown: Final = Table(
    "shown",
    metadata,
    # Since 1970-01-01 UTC.
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("model_version", String(200), primary_key=True),
    Column("arm", String(1), primary_key=True),
    Column("known_user", Boolean, primary_key=True),
    Column("answers", BigInteger, nullable=False),
    Column("places", BigInteger, nullable=False),
    Column("new_places", BigInteger, nullable=False),
)

splits: Final = Table(
    "splits",
    metadata,
    # As of `bundles`.
    Column("configured", String(255), primary_key=True),
    Column("name", String(200)),
    Column("share", Float(53), nullable=False),
    Column("revision", BigInteger, nullable=False),
)

units: Final = Table(
    "split_units",
    metadata,
    Column("split", BigInteger, primary_key=True, autoincrement=False),
    # Keyed hash of a user and a day.
    Column("unit", String(64), primary_key=True),
    Column("arm", String(1), nullable=False),
    Column("success", Boolean, nullable=False),
)


brought_forward: Final = Table(
    "twotower_schema",
    metadata,
    # Of the schema that the tables were last brought forward to.
    Column("digest", String(64), primary_key=True),
)

DIGEST: Final = hashlib.sha256(
    "\n".join(
        f"{table.name} {sorted(table.c.keys())} {sorted(str(one.name) for one in table.indexes)}"
        for table in metadata.sorted_tables
    ).encode()
).hexdigest()
"""Of the names of all tables, columns and indexes."""


def bring_forward(connection: Connection) -> None:
    """Make the tables, columns and indexes that a database of an earlier release lacks.

    Every change of the schema adds: a table, an index, or a column that may be null. The earlier
    release names its columns, so that it can go on beside this one. What an earlier release could
    not live with raises `SCHEMA_VERSION`. Looked through only where the digest is another one:
    that takes dozens of statements.
    """
    brought_forward.create(connection, checkfirst=True)
    if connection.scalar(select(brought_forward.c.digest)) == DIGEST:
        return
    metadata.create_all(connection)
    present = inspect(connection)
    columns = {name: found for (_, name), found in present.get_multi_columns().items()}
    indexes = {name: found for (_, name), found in present.get_multi_indexes().items()}
    for table in metadata.sorted_tables:
        names = {column["name"] for column in columns[table.name]}
        for column in table.c:
            if column.name not in names:
                kind = column.type.compile(connection.dialect)
                statement = f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}"
                connection.execute(text(statement))
        made = {index["name"] for index in indexes.get(table.name, ())}
        for index in table.indexes:
            if index.name not in made:
                index.create(connection)
    if connection.dialect.name == "postgresql":  # SQLite minds no lengths; kinds were shorter
        kinds = [column for column in columns["events"] if column["name"] == "kind"]
        if any((getattr(column["type"], "length", None) or 50) < 50 for column in kinds):
            connection.execute(text("ALTER TABLE events ALTER COLUMN kind TYPE VARCHAR(50)"))
    connection.execute(brought_forward.delete())
    connection.execute(brought_forward.insert(), {"digest": DIGEST})
