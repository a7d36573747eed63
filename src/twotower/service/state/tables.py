"""The tables, the same on SQLite and PostgreSQL."""

from typing import Final

from sqlalchemy import (
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
    # Not in a database that an earlier release made: added when that is opened.
    Column("quantity", Float(53)),
    sqlite_autoincrement=True,
)
"""The columns are named as `prepare` expects those of a log."""


def add_columns(connection: Connection) -> None:
    """Add the columns that a database of an earlier release lacks: they may be null.

    The kinds of events were shorter there.

    The earlier release names its columns, so that it can go on beside this one.
    """
    for table in (about, items, events):
        present = {column["name"] for column in inspect(connection).get_columns(table.name)}
        for column in table.c:
            if column.name not in present:
                kind = column.type.compile(connection.dialect)
                statement = f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}"
                connection.execute(text(statement))
    if connection.dialect.name == "postgresql":  # SQLite minds no lengths
        widen = "ALTER TABLE events ALTER COLUMN kind TYPE VARCHAR(50)"
        kinds = [one for one in inspect(connection).get_columns("events") if one["name"] == "kind"]
        if any((getattr(one["type"], "length", None) or 50) < 50 for one in kinds):
            connection.execute(text(widen))
