"""The application's real services on a folder of the test."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handlers.services import Services, open_services
from streamproc import Event, testing
from streamproc.model import OutRecord
from streamproc.settings import Settings

Query = Callable[[str], list[Any]]
Mails = Callable[[], list[EmailMessage]]


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    chosen = {
        "store": {"url": f"sqlite:///{tmp_path}/a.db"},
        "mail": {"directory": str(tmp_path / "mail")},
        "objects": {"url": f"file:{tmp_path}/objects"},
    }
    async with open_services(msgspec.convert(chosen, Settings)) as opened:
        yield opened


@pytest.fixture
def query(tmp_path: Path) -> Query:
    def ask(sql: str) -> list[Any]:
        with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
            return connection.execute(sql).fetchall()

    return ask


@pytest.fixture
def mails(tmp_path: Path) -> Mails:
    parser = BytesParser(policy=policy.default)

    def read() -> list[EmailMessage]:
        files = sorted((tmp_path / "mail" / "new").iterdir())
        return [parser.parsebytes(file.read_bytes()) for file in files]

    return read


@pytest.fixture
def record() -> Callable[[Event, str], OutRecord]:
    """An event as a record with an event id."""
    return lambda event, event_id: OutRecord("events", testing.envelope(event, event_id=event_id))
