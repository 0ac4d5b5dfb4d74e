"""Numbered migrations: which files the program has, which a database has had, which are still to apply.

Files `001_name.sql` lie in a folder per dialect and are applied in order, once. There are two sets of them, counted
each on its own: `streamproc`, the package's, and `app`, the application's. Decisions only: each database applies them.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

from streamproc.errors import ConfigError

Dialect = Literal["sqlite", "postgres"]

_OWN = Path(__file__).parent / "sql"
_NAME = re.compile(r"(?!000)(\d{3})_\w+\.sql")


class Applied(NamedTuple):
    """A row of the table `schema_version`: a migration that a database has had."""

    part: str
    version: int
    name: str
    checksum: str

    def __str__(self) -> str:
        return f"{self.part} {self.name}"


class Migration(NamedTuple):
    """A migration file: its row once it is applied, and its statements."""

    row: Applied
    text: str


def dialect_of(url: str) -> Dialect:
    """Which kind of database an address means. Raises ConfigError for what is neither."""
    if url.startswith("sqlite:"):
        return "sqlite"
    if url.startswith("postgresql:"):
        return "postgres"
    raise ConfigError(
        "store.url is no address of a database: write sqlite:///data/streamproc.db or postgresql://user@host/database"
    )


def read_migrations(dialect: Dialect, app: Path | None) -> list[Migration]:
    """The package's migrations, then those in the application's folder, where it has one. Raises ConfigError."""
    own = _read("streamproc", _OWN / dialect)
    return own if app is None else [*own, *_read("app", app / dialect)]


def _read(part: str, folder: Path) -> list[Migration]:
    if not folder.is_dir():
        raise ConfigError(f"store.url: the {part} has no migrations for this kind of database: there is no {folder}")
    return [_migration(part, file) for file in sorted(folder.glob("*.sql"))]


def _migration(part: str, file: Path) -> Migration:
    numbered = _NAME.fullmatch(file.name)
    if numbered is None:
        raise ConfigError(f"{file}: a migration is named with three digits, as in 001_name.sql")
    text = file.read_text("utf-8")
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return Migration(Applied(part, int(numbered[1]), file.name, checksum), text)


def pending(known: Sequence[Migration], applied: Iterable[Applied]) -> list[Migration]:
    """Those of the `known` that a database has not had, in order.

    Raises ConfigError when numbers are missing or come twice, when an applied file was changed since, and when the
    database is newer than the program: there is no way back.
    """
    _check_numbers(known)
    rows = {migration.row[:2]: migration.row for migration in known}
    done = list(applied)
    for row in done:
        own = rows.get(row[:2])
        if own is None:
            newest = max((version for part, version in rows if part == row.part), default=0)
            raise ConfigError(
                f"store.url: the database is at version {row.version} of {row.part}, newer than this program, "
                f"which knows {newest}: run the newer program"
            )
        if own.checksum != row.checksum:
            raise ConfigError(
                f"store.url: {own} was changed after this database had it: restore the file, and add the next one"
            )
    had = {row[:2] for row in done}
    return [migration for migration in known if migration.row[:2] not in had]


def _check_numbers(known: Iterable[Migration]) -> None:
    for part, group in groupby((migration.row for migration in known), lambda row: row.part):
        for expected, row in enumerate(group, 1):
            if row.version != expected:
                what = f"number {expected:03} is missing" if row.version > expected else "its number comes twice"
                raise ConfigError(f"{part} {row.name}: {what}: migrations are numbered 001, 002 and so on")
