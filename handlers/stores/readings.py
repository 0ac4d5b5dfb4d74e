"""Readings of sensors."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streamproc.adapters.sqlite import SqliteDatabase

_UPSERT = """
INSERT INTO readings (event_id, sensor_id, measured_at, temperature, humidity, processed_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (event_id) DO UPDATE SET processed_at = excluded.processed_at, deliveries = deliveries + 1
WHERE sensor_id = excluded.sensor_id AND measured_at = excluded.measured_at
  AND temperature = excluded.temperature AND humidity = excluded.humidity
"""
_SAME = "SELECT 1 FROM readings WHERE (event_id, sensor_id, measured_at, temperature, humidity) = (?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Reading:
    """A row. Times in seconds since the Unix epoch, temperature in degrees Celsius, humidity in percent."""

    event_id: str
    sensor_id: str
    measured_at: float
    temperature: float
    humidity: float
    processed_at: float


class Readings(Protocol):
    """Readings by event id."""

    async def upsert(self, readings: Sequence[Reading]) -> list[int]:
        """Stores all, once per event id; returns the indexes of those whose id is known with another content."""


class SqliteReadings:
    """Readings in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def upsert(self, readings: Sequence[Reading]) -> list[int]:
        """See the port."""
        rows = [(r.event_id, r.sensor_id, r.measured_at, r.temperature, r.humidity, r.processed_at) for r in readings]

        def call(connection: sqlite3.Connection) -> list[int]:
            if connection.executemany(_UPSERT, rows).rowcount == len(rows):
                return []
            same = [connection.execute(_SAME, row[:5]).fetchone() for row in rows]
            return [index for index, found in enumerate(same) if found is None]

        return await self._database.run(call)
