"""What a PostgreSQL whose tables do not fit is refused with when it is opened; opening changes nothing."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamproc.adapters.postgres import open_postgres
from streamproc.adapters.postgres_schema import migrate_postgres
from streamproc.adapters.schema import read_migrations
from streamproc.adapters.store import StoreOptions
from streamproc.errors import ConfigError
from tests.postgres import Postgres

OWN = len(read_migrations("postgres", None))
FIRST = "CREATE TABLE numbers (n integer);"


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres/001_numbers.sql").write_text(FIRST)
    return tmp_path


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as name:
        yield name


@pytest.fixture
def options(postgres: Postgres, database: str) -> StoreOptions:
    return postgres.options(database)


async def refused(options: StoreOptions, migrations: Path | None) -> str:
    with pytest.raises(ConfigError) as caught:
        await open_postgres(options, migrations).__aenter__()
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_database_that_is_behind_is_told_what_to_run(
    options: StoreOptions, postgres: Postgres, database: str, migrations: Path
) -> None:
    behind = "store.url: the database is at version {} of {}, this program needs {}: run `streamproc migrate`"
    assert await refused(options, migrations) == behind.format(0, "app", 1)
    assert await refused(options, None) == behind.format(0, "streamproc", OWN)
    assert await postgres.query(database, "SELECT to_regclass('schema_version')") == [(None,)]
    await migrate_postgres(options, migrations)
    (migrations / "postgres/002_more.sql").write_text("CREATE TABLE more (n integer);")
    (migrations / "postgres/003_more.sql").write_text("DROP TABLE more;")
    assert await refused(options, migrations) == behind.format(1, "app", 3)
    await migrate_postgres(options, migrations)
    async with open_postgres(options, migrations) as db:
        assert await db.fetch("SELECT 1")


async def test_a_database_that_is_newer_or_had_another_file_is_refused(options: StoreOptions, migrations: Path) -> None:
    file = migrations / "postgres/001_numbers.sql"
    (migrations / "postgres/002_more.sql").write_text("CREATE TABLE more (n integer);")
    await migrate_postgres(options, migrations)
    file.write_text(FIRST + " -- changed")
    assert "app 001_numbers.sql was changed after this database had it" in await refused(options, migrations)
    file.write_text(FIRST)
    (migrations / "postgres/002_more.sql").unlink()
    assert "the database is at version 2 of app, newer than this program, which knows 1" in await refused(
        options, migrations
    )


async def test_a_role_without_rights_is_told(postgres: Postgres, database: str, migrations: Path) -> None:
    await migrate_postgres(postgres.options(database), migrations)
    role = f"{database}_role"
    await postgres.query(database, f"CREATE ROLE {role} LOGIN")
    try:
        await postgres.query(database, f"ALTER ROLE {role} PASSWORD '{postgres.password}'")
        told = await refused(postgres.options(database, role), migrations)
        assert told.endswith(": permission denied for table schema_version")
        with pytest.raises(ConfigError, match="permission denied for schema public"):
            await migrate_postgres(postgres.options(database, role), None, check=False)
    finally:
        await postgres.query(database, f"DROP ROLE {role}")


async def test_who_migrates_at_once_waits_and_finds_it_done(options: StoreOptions, migrations: Path) -> None:
    (migrations / "postgres/002_slow.sql").write_text("SELECT pg_sleep(0.3);")
    applied = await asyncio.gather(*(migrate_postgres(options, migrations) for _ in range(3)))
    assert sorted(map(len, applied)) == [0, 0, OWN + 2]


async def test_a_statement_may_take_longer_while_it_migrates(
    postgres: Postgres, database: str, migrations: Path
) -> None:
    (migrations / "postgres/002_slow.sql").write_text("SELECT pg_sleep(0.3);")
    await migrate_postgres(postgres.options(database, statement_timeout_s=0.1), migrations)
