"""Where Alembic runs the migrations: on the connection that it is given."""

from alembic import context

from twotower.service.state.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="alembic_version",
)
with context.begin_transaction():
    context.run_migrations()
