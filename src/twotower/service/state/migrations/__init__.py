"""Schema migrations: what brings a database of an earlier release forward, by Alembic.

A change of `twotower.service.state.tables` is a new file in ``versions``: a test compares the two.
Changes add: a table, an index, or a column that may be null. A release names its columns, so that
the one before goes on beside the new one during a rolling upgrade, also where it is restarted: no
migration has a way back.
"""

from typing import Any, Final

from sqlalchemy import Connection, inspect, text

HEAD: Final = "0004"
"""The newest migration."""
_TABLE: Final = "alembic_version"


def bring_forward(connection: Connection) -> None:
    """Run the migrations that a database lacks, in the transaction that is open.

    Writers take turns (`WRITING`), so that only one process does. A migration that this release
    does not know is a later release's: it is left alone, for what this release could not live with
    raises ``SCHEMA_VERSION`` too.
    """
    version = _version(connection)
    if version is not None and version >= HEAD:  # they are numbered
        return
    from alembic.config import Config  # takes a quarter of a second to import
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "twotower.service.state:migrations")
    scripts = ScriptDirectory.from_config(config)

    def lacking(revision: Any, _: object) -> Any:
        return scripts._upgrade_revs("head", revision)

    with EnvironmentContext(config, scripts, fn=lacking) as context:
        context.configure(connection=connection)
        context.run_migrations()


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_TABLE):
        return None
    version: str | None = connection.scalar(text(f"SELECT version_num FROM {_TABLE}"))
    return version
