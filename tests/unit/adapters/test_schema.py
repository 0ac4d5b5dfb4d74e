"""Which migrations are due, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from streamproc.adapters.schema import Applied, Migration, dialect_of, pending, read_migrations
from streamproc.errors import ConfigError


def migration(version: int, part: str = "app", text: str = "") -> Migration:
    return Migration(Applied(part, version, f"{version:03}_a.sql", f"checksum of {text}"), text)


def test_what_a_database_has_not_had_is_due_in_order() -> None:
    known = [migration(1, "streamproc"), migration(1), migration(2), migration(3)]
    assert pending(known, []) == known
    assert pending(known, [known[1].row]) == [known[0], *known[2:]]
    assert pending(known, [one.row for one in known]) == []
    assert pending([], []) == []


@pytest.mark.parametrize(
    ("known", "applied", "sentence"),
    [
        ([], [migration(1)], "the database is at version 1 of app, newer than this program, which knows 0: "),
        (
            [migration(1)],
            [migration(1), migration(2)],
            "is at version 2 of app, newer than this program, which knows 1",
        ),
        ([migration(1, text="b")], [migration(1)], "app 001_a.sql was changed after this database had it: restore "),
        ([migration(2)], [], "app 002_a.sql: number 001 is missing"),
        ([migration(1), migration(3)], [], "app 003_a.sql: number 002 is missing"),
        ([migration(1), migration(1)], [], "app 001_a.sql: its number comes twice"),
        ([migration(1, "streamproc"), migration(2)], [], "app 002_a.sql: number 001 is missing"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    known: list[Migration], applied: list[Migration], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        pending(known, [one.row for one in applied])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sqlite").mkdir()
    return tmp_path


Write = Callable[[str, bytes], None]


@pytest.fixture
def write(folder: Path) -> Write:
    return lambda name, text: (folder / "sqlite" / name).write_bytes(text) and None  # type: ignore[return-value]


def test_files_are_read_in_order_after_the_packages(folder: Path, write: Write) -> None:
    for name in ("002_b.sql", "001_a.sql", "README.md"):
        write(name, b"SELECT 1;\n")
    names = [str(row) for row, _ in read_migrations("sqlite", folder)]
    own = [str(row) for row, _ in read_migrations("sqlite", None)]
    assert names == [*own, "app 001_a.sql", "app 002_b.sql"]
    assert own[0] == "streamproc 001_outbox.sql"
    assert own == [str(row) for row, _ in read_migrations("postgres", None)]


def test_a_checksum_tells_texts_apart_but_not_line_ends(folder: Path, write: Write) -> None:
    checksums = []
    for text in (b"SELECT 1;\nSELECT 2;\n", b"SELECT 1;\r\nSELECT 2;\r\n", b"SELECT 1;\nSELECT 3;\n"):
        write("001_a.sql", text)
        checksums.append(read_migrations("sqlite", folder)[-1].row.checksum)
    assert checksums[0] == checksums[1] != checksums[2]
    assert len(checksums[0]) == 64


@pytest.mark.parametrize("name", ["1_a.sql", "01_a.sql", "a.sql", "001-a.sql", "001.sql", "0001_a.sql", "000_a.sql"])
def test_a_file_that_would_be_passed_over_is_refused(folder: Path, write: Write, name: str) -> None:
    write(name, b"")
    with pytest.raises(ConfigError, match=r"three digits, as in 001_name\.sql$"):
        read_migrations("sqlite", folder)


def test_an_application_without_migrations_of_this_kind_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^store\.url: the app has no migrations for this kind of database"):
        read_migrations("postgres", folder)


def test_an_address_says_which_kind_of_database() -> None:
    assert dialect_of("sqlite:///a.db") == "sqlite"
    assert dialect_of("postgresql://me@host/shop") == "postgres"


@pytest.mark.parametrize("url", ["", "a.db", "postgres", "mysql://me:s3cret@host/shop", "POSTGRESQL://me:s3cret@host"])
def test_what_is_no_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^store\.url is no address of a database: write [^\n]+$") as caught:
        dialect_of(url)
    assert "s3cret" not in str(caught.value)
