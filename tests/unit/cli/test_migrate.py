"""`migrate`, on both kinds of database, run by an operator, twice, and by several processes at once."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streamproc.adapters.schema import read_migrations
from tests.postgres import Postgres
from tests.unit.cli.conftest import Streamproc

OWN = [str(row) for row, _ in read_migrations("sqlite", None)]
FIRST, SECOND = "app 001_numbers.sql", "app 002_more.sql"
VERSIONS = "SELECT part, version FROM schema_version ORDER BY part, version"
TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE name IN ('numbers', 'more', 'outbox') ORDER BY name",
    "postgres": "SELECT relname FROM pg_class WHERE relname IN ('numbers', 'more', 'outbox') ORDER BY relname",
}
Query = Callable[[str], list[tuple[object, ...]]]


def told(word: str, *migrations: str) -> str:
    """What is printed of migrations."""
    return "".join(f"{word}: {one}\n" for one in migrations)


class Place:
    """An empty database, the folder of the app's migrations, and the settings that name it."""

    def __init__(self, dialect: str, folder: Path, settings: list[str], query: Query) -> None:
        self.dialect, self.query = dialect, query
        self.migrations = folder / "migrations" / dialect
        self.migrations.mkdir(parents=True)
        self.write("001_numbers.sql", "CREATE TABLE numbers (n integer);")
        source = (folder / "shop.py").read_text()
        source = source.replace("    services=services,", "    services=services, migrations=Path('migrations'),")
        (folder / "stored.py").write_text("from pathlib import Path\n" + source)
        self.arguments = ["--app", "stored:app", *(part for one in settings for part in ("--set", one))]

    def write(self, name: str, text: str) -> None:
        (self.migrations / name).write_text(text)

    def tables(self) -> list[object]:
        return [name for (name,) in self.query(TABLES[self.dialect])]


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    if request.param == "sqlite":

        def ask(sql: str) -> list[tuple[object, ...]]:
            with closing(sqlite3.connect(folder / "a.db")) as connection:
                return connection.execute(sql).fetchall()

        yield Place("sqlite", folder, ["store.url=sqlite:///a.db"], ask)
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    with postgres.database() as name:

        def query(sql: str) -> list[tuple[object, ...]]:
            lines = postgres.psql(name, "-c", sql).splitlines()
            return [tuple(int(one) if one.isdecimal() else one for one in line.split("|")) for line in lines]

        settings = [f"store.url={postgres.options(name).url}", f"store.password={postgres.password}"]
        yield Place("postgres", folder, settings, query)


def test_what_is_new_is_applied_in_order_and_once(streamproc: Streamproc, place: Place) -> None:
    result = streamproc("migrate", *place.arguments)
    assert (result.exit_code, result.stdout) == (0, told("applied", *OWN, FIRST))
    place.write("002_more.sql", "CREATE TABLE more (n integer);\nINSERT INTO more VALUES (7);")
    assert streamproc("migrate", *place.arguments).stdout == f"applied: {SECOND}\n"
    result = streamproc("migrate", *place.arguments)
    assert (result.exit_code, result.stdout) == (0, "up to date\n")
    assert place.query(VERSIONS) == [("app", 1), ("app", 2), *(("streamproc", n) for n, _ in enumerate(OWN, 1))]
    assert place.query("SELECT n FROM more") == [(7,)]


def test_a_check_changes_nothing(streamproc: Streamproc, place: Place) -> None:
    for _ in range(2):
        result = streamproc("migrate", "--check", *place.arguments)
        assert (result.exit_code, result.stdout) == (1, told("to be applied", *OWN, FIRST))
    assert place.tables() == []
    streamproc("migrate", *place.arguments)
    result = streamproc("migrate", "--check", *place.arguments)
    assert (result.exit_code, result.stdout) == (0, "up to date\n")


def test_a_migration_that_fails_changes_nothing(streamproc: Streamproc, place: Place) -> None:
    place.write("002_more.sql", "CREATE TABLE more (n integer);\nCREATE TABLE numbers (n integer);")
    result = streamproc("migrate", *place.arguments)
    assert result.exit_code == 2
    assert "numbers" in result.stderr
    assert "already exists" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert place.tables() == []


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_a_file_that_was_changed_after_it_was_applied_is_refused(
    streamproc: Streamproc, place: Place, options: list[str]
) -> None:
    streamproc("migrate", *place.arguments)
    place.write("001_numbers.sql", "CREATE TABLE numbers (n bigint);")
    result = streamproc("migrate", *options, *place.arguments)
    assert result.exit_code == 2
    assert f"store.url: {FIRST} was changed after this database had it" in result.stderr


def test_a_database_of_a_newer_program_is_refused(streamproc: Streamproc, place: Place) -> None:
    place.write("002_more.sql", "CREATE TABLE more (n integer);")
    streamproc("migrate", *place.arguments)
    (place.migrations / "002_more.sql").unlink()
    result = streamproc("migrate", *place.arguments)
    assert result.exit_code == 2
    assert "the database is at version 2 of app, newer than this program, which knows 1" in result.stderr


def test_processes_that_migrate_at_once_apply_it_once(place: Place) -> None:
    command = [sys.executable, "-m", "streamproc", "migrate", *place.arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    printed = [one.communicate()[0] for one in running]
    assert [one.returncode for one in running] == [0] * 4
    assert sorted(printed) == [told("applied", *OWN, FIRST)] + ["up to date\n"] * 3
    assert place.query(VERSIONS) == [("app", 1), *(("streamproc", n) for n, _ in enumerate(OWN, 1))]


def test_an_app_without_migrations_has_those_of_the_package(streamproc: Streamproc, place: Place) -> None:
    arguments = ["shop:app" if one == "stored:app" else one for one in place.arguments]
    assert streamproc("migrate", *arguments).stdout == told("applied", *OWN)
    assert place.tables() == ["outbox"]


def test_a_server_that_is_not_there_is_one_sentence(streamproc: Streamproc) -> None:
    result = streamproc("migrate", "--app", "shop:app", "--set", "store.url=postgresql://me@127.0.0.1:1/shop")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: PostgreSQL at 127.0.0.1:1 does not answer: ")
    assert len(result.stderr.splitlines()) == 1
