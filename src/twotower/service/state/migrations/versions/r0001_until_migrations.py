"""Everything up to the release that brought migrations.

A database may be of any release before that: each table, column and index is made where it is
lacking. Migrations after this one state what they change.
"""

from typing import Any

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
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

revision = "0001"
down_revision = None

metadata = MetaData()

_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")  # what SQLite numbers by itself

twotower_state = Table(
    "twotower_state",
    metadata,
    Column("schema_version", Integer, primary_key=True),
    Column("epoch", String(32)),
    Column("forget_key", String(64)),
    Column("newest_deleted_event", BigInteger),
    Column("newest_deleted_user", BigInteger),
    Column("maintained_at", BigInteger),
)

items = Table(
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
    Column("revision", BigInteger, nullable=False),
    Column("released", Float(53)),
    Column("columns", JSON(none_as_null=True)),
    Index("items_revision", "revision", unique=True),
)

item_encodings = Table(
    "item_encodings",
    metadata,
    Column("item_id", String(200), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("encoding", LargeBinary, nullable=False),
)

bundles = Table(
    "bundles",
    metadata,
    Column("configured", String(255), primary_key=True),
    Column("name", String(200)),
    Column("revision", BigInteger, nullable=False),
)

availability = Table(
    "availability",
    metadata,
    Column("item_id", String(200), primary_key=True),
    Column("available", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("availability_revision", "revision", unique=True),
)

events = Table(
    "events",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
    Column("event_id", String(200), nullable=False, unique=True),
    Column("user_id", String(200), nullable=False),
    Column("item_id", String(200), nullable=False),
    Column("kind", String(50), nullable=False),
    Column("rating", Float(53)),
    Column("timestamp", BigInteger, nullable=False),
    Column("anonymous", Boolean),
    Column("quantity", Float(53)),
    Column("recommendation_id", String(200)),
    Column("position", Integer),
    Index("events_user", "user_id"),
    Index("events_age", "anonymous", "timestamp"),
    sqlite_autoincrement=True,
)

forgotten_users = Table(
    "forgotten_users",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("forgotten_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("forgotten_users_revision", "revision", unique=True),
)

users = Table(
    "users",
    metadata,
    Column("user_id", String(200), primary_key=True),
    Column("attributes", JSON, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("users_revision", "revision", unique=True),
)

followers = Table(
    "followers",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("forgotten", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)


shown = Table(
    "shown",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("model_version", String(200), primary_key=True),
    Column("arm", String(1), primary_key=True),
    Column("known_user", Boolean, primary_key=True),
    Column("answers", BigInteger, nullable=False),
    Column("places", BigInteger, nullable=False),
    Column("new_places", BigInteger, nullable=False),
)

splits = Table(
    "splits",
    metadata,
    Column("configured", String(255), primary_key=True),
    Column("name", String(200)),
    Column("share", Float(53), nullable=False),
    Column("revision", BigInteger, nullable=False),
)

split_units = Table(
    "split_units",
    metadata,
    Column("split", BigInteger, primary_key=True, autoincrement=False),
    Column("unit", String(64), primary_key=True),
    Column("arm", String(1), nullable=False),
    Column("success", Boolean, nullable=False),
)


def upgrade() -> None:
    """Make what is lacking."""
    connection = op.get_bind()
    metadata.create_all(connection)
    present = inspect(connection)
    columns = {name: found for (_, name), found in present.get_multi_columns().items()}
    indexes = {name: found for (_, name), found in present.get_multi_indexes().items()}
    for table in metadata.sorted_tables:
        names = {column["name"] for column in columns[table.name]}
        for column in table.c:
            if column.name not in names:
                op.add_column(table.name, Column(column.name, column.type))
        made = {index["name"] for index in indexes.get(table.name, ())}
        for index in table.indexes:
            if index.name not in made:
                index.create(connection)
    _widen_kind(columns["events"])
    connection.execute(text("DROP TABLE IF EXISTS twotower_schema"))  # noted what was made here


def _widen_kind(columns: Any) -> None:
    """Kinds had ten characters once. SQLite minds no lengths."""
    for column in columns:
        length = getattr(column["type"], "length", None) or 50
        if column["name"] == "kind" and length < 50 and op.get_context().dialect.name != "sqlite":
            op.alter_column("events", "kind", type_=String(50))
