"""The readings of sensors."""

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from handlers.stores.processed import check_keys, check_text
from streamproc.adapters.sqlite import SqliteDatabase


class Reading(NamedTuple):
    """A row; `scope` is the function and the topic. Temperature in degrees Celsius, humidity in percent."""

    scope: str
    event_id: str
    fingerprint: bytes
    sensor_id: str
    timestamp: datetime
    temperature: float
    humidity: float
    processed_at: datetime


class Readings(Protocol):
    """Readings by event id."""

    async def upsert(self, readings: Sequence[Reading]) -> Collection[int]:
        """Stores readings in one transaction, once per event id, and counts repeats.

        Returns the indexes of those whose id belongs to a reading of other content, which is kept. Raises Refused
        with nul or too_long: nothing is stored then.
        """


def _check(readings: Sequence[Reading]) -> None:
    check_keys(*{one.scope for one in readings}, *(one.event_id for one in readings))
    check_text(*(one.sensor_id for one in readings))


_UPSERT = """
INSERT INTO readings (scope, event_id, fingerprint, sensor_id, timestamp, temperature, humidity, processed_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (scope, event_id) DO UPDATE SET deliveries = deliveries + 1 WHERE fingerprint = excluded.fingerprint
"""
_OTHER = "SELECT 1 FROM readings WHERE scope = ? AND event_id = ? AND fingerprint <> ?"


class SqliteReadings:
    """Readings in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def upsert(self, readings: Sequence[Reading]) -> Collection[int]:
        """See the port."""
        _check(readings)
        rows = [
            (*one[:4], one.timestamp.timestamp(), one.temperature, one.humidity, one.processed_at.timestamp())
            for one in readings
        ]

        def work(connection: sqlite3.Connection) -> Collection[int]:
            if connection.executemany(_UPSERT, rows).rowcount == len(rows):
                return ()
            others = (connection.execute(_OTHER, reading[:3]).fetchone() for reading in readings)
            return {index for index, other in enumerate(others) if other}

        return await self._database.run(work)
