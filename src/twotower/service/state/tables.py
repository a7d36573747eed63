"""Database tables of the service, the same on SQLite and PostgreSQL."""

from typing import Final

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
)

SCHEMA_VERSION: Final = 1
"""Raised by a migration after which a release that does not know it could not go on."""

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
    Column("quantity", Float(53)),
    # Of the answer that the event follows, and the place of its item there, from 1 on.
    Column("recommendation_id", String(200)),
    Column("position", Integer),
    # Declared columns of the log by name.
    Column("context", JSON(none_as_null=True)),
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
    # True where both bundles share an answer; null, as of earlier releases, is false.
    Column("interleaved", Boolean),
    # Of a bundle whose answers nobody sees. `name` is null then: an earlier release, which does
    # not know this column, answers nobody from it.
    Column("shadow", String(200)),
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

credits: Final = Table(
    "interleaved_units",
    metadata,
    Column("split", BigInteger, primary_key=True, autoincrement=False),
    # As of `units`.
    Column("unit", String(64), primary_key=True),
    # Events that followed items of each bundle's list.
    Column("a", BigInteger, nullable=False),
    Column("b", BigInteger, nullable=False),
)

shadows: Final = Table(
    "shadows",
    metadata,
    Column("split", BigInteger, primary_key=True, autoincrement=False),
    # Requests by what became of them.
    Column("shadowed", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    # Sums over those that were shadowed.
    Column("overlap", Float(53), nullable=False),
    Column("same_first", BigInteger, nullable=False),
)

shadow_lists: Final = Table(
    "shadow_lists",
    metadata,
    Column("split", BigInteger, primary_key=True, autoincrement=False),
    Column("arm", String(1), primary_key=True),
    Column("places", BigInteger, nullable=False),
    Column("untrained", BigInteger, nullable=False),
    Column("seconds", Float(53), nullable=False),
    # Lists by the bucket of the time that they took.
    Column("times", JSON, nullable=False),
    # A sketch of the set of them, see `DistinctItems`.
    Column("items", LargeBinary, nullable=False),
)
