"""Migrations of PostgreSQL: checked when a database is opened, applied by `streamproc migrate` alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamproc.adapters.postgres_connect import PostgresError, connected
from streamproc.adapters.schema import Applied, Migration, pending, read_migrations
from streamproc.adapters.store import StoreOptions
from streamproc.errors import ConfigError

_LOCK = 0x73747265616D  # "stream": an advisory lock of this database

_VERSIONS = """
CREATE TABLE IF NOT EXISTS schema_version (
    part text NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (part, version)
)
"""


async def check_schema(options: StoreOptions, migrations: Path | None) -> None:
    """Raises ConfigError unless the database has had all migrations and no more; StoreError when it is in trouble."""
    known = read_migrations("postgres", migrations)
    async with connected(options) as connection:
        applied = await _applied(connection)
    due = pending(known, applied)
    if due:
        newest = due[-1].row
        had = max((row.version for row in applied if row.part == newest.part), default=0)
        raise ConfigError(
            f"store.url: the database is at version {had} of {newest.part}, this program needs {newest.version}: "
            "run `streamproc migrate`"
        )


async def migrate_postgres(
    options: StoreOptions, migrations: Path | None, *, check: bool = False
) -> Sequence[Migration]:
    """Applies what is new, all or nothing, and returns it; with `check` only returns it.

    Processes that migrate at once wait for each other. Raises ConfigError, StoreError when the server is in trouble.
    """
    known = read_migrations("postgres", migrations)
    unlimited = {"command_timeout": None, "server_settings": {"application_name": "streamproc migrate"}}
    async with connected(options, **unlimited) as connection, connection.transaction():
        if check:
            return pending(known, await _applied(connection))
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_VERSIONS)
        due = pending(known, await _applied(connection))
        for migration in due:
            await _apply(connection, migration)
        return due


async def _applied(connection: Any) -> Sequence[Applied]:
    if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
        return []
    rows = await connection.fetch("SELECT part, version, name, checksum FROM schema_version ORDER BY part, version")
    return [Applied(*row) for row in rows]


async def _apply(connection: Any, migration: Migration) -> None:
    try:
        await connection.execute(migration.text)
    except PostgresError as error:
        raise ConfigError(f"store.url: {migration.row} fails: {error.args[0]}") from error
    insert = "INSERT INTO schema_version (part, version, name, checksum) VALUES ($1, $2, $3, $4)"
    await connection.execute(insert, *migration.row)
