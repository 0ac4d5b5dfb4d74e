"""How a SQLite file is opened: which addresses and files are refused, what migrations do to it."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from streamproc.adapters.schema import read_migrations
from streamproc.adapters.sqlite import migrate_sqlite, open_sqlite
from streamproc.adapters.store import StoreOptions
from streamproc.errors import ConfigError

OWN = [row for row, _ in read_migrations("sqlite", None)]


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    (folder / "sqlite").mkdir(parents=True)
    (folder / "sqlite/001_numbers.sql").write_text("CREATE TABLE numbers (n INTEGER PRIMARY KEY);")
    return folder


def options(file: Path) -> StoreOptions:
    return StoreOptions(url=f"sqlite:///{file}")


def rows(tmp_path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(tmp_path / "a.db")
    found = connection.execute(sql).fetchall()
    connection.close()
    return found


WORKER = """
import asyncio, sys
from pathlib import Path
from streamproc.adapters.sqlite import open_sqlite
from streamproc.adapters.store import StoreOptions
async def main(url, migrations, start):
    async with open_sqlite(StoreOptions(url=url), Path(migrations)) as db:
        await asyncio.gather(*(db.run(lambda c, n=n: c.execute("INSERT INTO numbers VALUES (?)", (n,)))
                               for n in range(start, start + 200)))
asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def test_processes_that_start_together_share_a_file(tmp_path: Path, migrations: Path) -> None:
    command = [sys.executable, "-c", WORKER, f"sqlite:///{tmp_path}/a.db", str(migrations)]
    workers = [subprocess.Popen([*command, str(start)]) for start in (0, 200, 400)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert rows(tmp_path, "SELECT n FROM numbers ORDER BY n") == [(n,) for n in range(600)]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "data/a.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///folder/",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite:///a\0b",
        "postgresql://me@db/shop",
    ],
)
async def test_an_address_that_is_none_is_refused_in_a_sentence(url: str, migrations: Path) -> None:
    with pytest.raises(ConfigError, match=r"^store\.url [^\n]*: write sqlite:///data/streamproc\.db$"):
        await open_sqlite(StoreOptions(url=url), migrations).__aenter__()


async def test_the_folder_is_made(tmp_path: Path, migrations: Path) -> None:
    async with open_sqlite(options(tmp_path / "new/folder/a.db"), migrations):
        assert (tmp_path / "new/folder/a.db").is_file()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, migrations: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"no database, but longer than its header" * 100)
    for name in ("a.db", "a.db/b.db", "migrations"):
        with pytest.raises(ConfigError, match=r"^store\.url: .*cannot be opened: [^\n]+$"):
            await open_sqlite(options(tmp_path / name), migrations).__aenter__()


async def test_migrations_are_applied_in_order_and_once(tmp_path: Path, migrations: Path) -> None:
    (migrations / "sqlite/002_more.sql").write_text(
        "-- a trigger; it holds semicolons\nCREATE TRIGGER double AFTER INSERT ON numbers WHEN new.n < 100\nBEGIN\n"
        "  INSERT INTO numbers VALUES (new.n + 100);\nEND;\nINSERT INTO numbers VALUES (1);\n-- the end"
    )
    (migrations / "sqlite/README.md").write_text("not a migration")
    for _ in range(2):
        async with open_sqlite(options(tmp_path / "a.db"), migrations):
            pass
    assert rows(tmp_path, "SELECT n FROM numbers ORDER BY n") == [(1,), (101,)]


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path, migrations: Path) -> None:
    (migrations / "sqlite/002_bad.sql").write_text(
        "CREATE TABLE more (n INTEGER);\nCREATE TABLE numbers (n INTEGER);\n"
    )
    with pytest.raises(ConfigError, match="table numbers already exists"):
        await open_sqlite(options(tmp_path / "a.db"), migrations).__aenter__()
    assert rows(tmp_path, "SELECT * FROM sqlite_master") == []


async def test_a_database_of_a_newer_program_is_refused(tmp_path: Path, migrations: Path) -> None:
    newer = migrations / "sqlite/002_more.sql"
    newer.write_text("CREATE TABLE more (n INTEGER);")
    migrate_sqlite(options(tmp_path / "a.db"), migrations)
    newer.unlink()
    with pytest.raises(ConfigError, match="version 2 of app, newer than this program"):
        await open_sqlite(options(tmp_path / "a.db"), migrations).__aenter__()


async def test_what_is_new_is_told_and_applied_once(tmp_path: Path, migrations: Path) -> None:
    file = tmp_path / "new/a.db"
    for _ in range(2):
        assert [str(row) for row, _ in migrate_sqlite(options(file), migrations, check=True)] == [
            *map(str, OWN),
            "app 001_numbers.sql",
        ]
        assert not file.exists()
    assert len(migrate_sqlite(options(file), migrations)) == len(OWN) + 1
    assert list(migrate_sqlite(options(file), migrations)) == []
    (migrations / "sqlite/002_more.sql").write_text("CREATE TABLE more (n INTEGER);")
    for _ in range(2):
        assert [str(row) for row, _ in migrate_sqlite(options(file), migrations, check=True)] == ["app 002_more.sql"]


def test_a_check_leaves_a_file_as_it_is(tmp_path: Path, migrations: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("CREATE TABLE theirs (n)")
    assert len(migrate_sqlite(options(tmp_path / "a.db"), migrations, check=True)) == len(OWN) + 1
    assert rows(tmp_path, "SELECT name FROM sqlite_master") == [("theirs",)]


async def test_the_package_has_tables_of_its_own(tmp_path: Path) -> None:
    async with open_sqlite(options(tmp_path / "a.db"), None) as db:
        versions = await db.run(lambda c: c.execute("SELECT part, version, name FROM schema_version").fetchall())
    assert versions == [row[:3] for row in OWN]
