"""What the sinks of the application really hold: database, maildir, dead letters."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from bench.generate import NUMBER, ORDER, SENSOR, SKUS, STOCK, USER, Produced
from handlers.letter import message_id
from handlers.stores.processed import Delivery

CONDITION = "__streamproc.errors.condition"


@dataclass(frozen=True, slots=True)
class Stored:
    """A record found in a topic."""

    headers: Mapping[str, bytes]
    value: bytes
    timestamp_ms: int = 0


@dataclass(slots=True)
class Found:
    """Record number -> how often it is in a sink; and what the sinks add up to."""

    handled: dict[str, Counter[int]] = field(default_factory=dict)
    dead: Counter[int] = field(default_factory=Counter)
    conditions: Counter[str] = field(default_factory=Counter)
    alerts: int = 0
    emails: int = 0
    pieces_taken: int = 0
    pieces_ordered: int = 0
    latencies_ms: Sequence[float] = ()

    def times(self, number: int) -> int:
        """How often a record reached an end."""
        return self.dead[number] + sum(counts[number] for counts in self.handled.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """The equation: what was produced against what was found.

    `redelivered` records were handled again after a worker was killed; `duplicated` counts effects that came of that.
    """

    produced: int
    handled: Mapping[str, int]
    dead_lettered: Mapping[str, int]
    filtered: int
    lost: int
    duplicated: int
    redelivered: int
    wrong: int

    @property
    def holds(self) -> bool:
        """Whether everything that was produced is accounted for, once, where it belongs."""
        ended = sum(self.handled.values()) + sum(self.dead_lettered.values()) + self.filtered
        return not (self.lost or self.duplicated or self.wrong) and ended == self.produced


def judge(produced: Iterable[Produced], found: Found) -> Verdict:
    """Compares record by record. `wrong` are those that ended in another sink than they belong in."""
    total = lost = redelivered = wrong = 0
    for record in produced:
        total += 1
        times = found.times(record.number)
        lost += times == 0
        redelivered += max(0, times - 1)
        is_dead = record.number in found.dead
        wrong += times > 0 and is_dead == (record.expected == "ok")
    return Verdict(
        produced=total,
        handled={kind: len(counts) for kind, counts in found.handled.items()},
        dead_lettered=dict(sorted(found.conditions.items())),
        filtered=0,
        lost=lost,
        duplicated=abs(found.pieces_taken - found.pieces_ordered),
        redelivered=redelivered,
        wrong=wrong,
    )


def look(database: Path, mail: Path, *, letters: Iterable[Stored]) -> Found:
    """Counts what is there."""
    found = Found()
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        _count_rows(connection, found, mail)
        welcomed = mailed(connection, mail, "send_welcome_email")
        found.emails = len(list((mail / "new").iterdir()))
        found.handled[USER] = _numbered(welcomed)
    for letter in letters:
        if NUMBER not in letter.headers:
            continue
        number = int(letter.headers[NUMBER])
        found.conditions[letter.headers[CONDITION].decode()] += not found.dead[number]
        found.dead[number] += 1
    return found


def _count_rows(connection: sqlite3.Connection, found: Found, mail: Path) -> None:
    rows = connection.execute("SELECT event_id, deliveries, (processed_at - timestamp) * 1000 FROM readings").fetchall()
    found.handled[SENSOR] = _numbered({event_id: deliveries for event_id, deliveries, _ in rows})
    found.latencies_ms = sorted(latency for event_id, _, latency in rows if _number(event_id) >= 0)
    confirmed = mailed(connection, mail, "fulfil_order")
    found.handled[ORDER] = _numbered(confirmed)
    found.alerts = connection.execute("SELECT count(*) FROM alerts").fetchone()[0]
    left = connection.execute("SELECT sum(quantity) FROM stock").fetchone()[0]
    found.pieces_taken = STOCK * SKUS - left
    ordered = (
        "SELECT coalesce(sum(quantity), 0) FROM order_items JOIN orders USING (order_id) WHERE taken_at IS NOT NULL"
    )
    found.pieces_ordered = connection.execute(ordered).fetchone()[0]


def _message_id(mail: Path) -> str:
    with mail.open("rb") as file:
        return next(line[11:].strip().decode() for line in file if line.lower().startswith(b"message-id:"))


def mailed(connection: sqlite3.Connection, mail: Path, function: str) -> dict[str, int]:
    """Event id -> deliveries, of the events of a function whose mail is there."""
    sent = {_message_id(file) for file in (mail / "new").iterdir()}
    query = "SELECT scope, event_id, fingerprint, deliveries FROM processed WHERE scope LIKE ? || '/%'"
    rows = connection.execute(query, (function,))
    return {row[1]: row[3] for row in rows if message_id(Delivery(*row[:3])) in sent}


def waiting_events(database: Path) -> int:
    """How many events of the outbox are not published yet."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM outbox").fetchone()[0])


def _numbered(by_event_id: Mapping[str, int]) -> Counter[int]:
    """The counts of the generator's events, by their numbers."""
    return Counter({n: count for event_id, count in by_event_id.items() if (n := _number(event_id)) >= 0})


def _number(event_id: str) -> int:
    """The number of a generated event, -1 of another."""
    mark, _, number = event_id.rpartition("-")
    return int(number) if mark == "demo" else -1


def share(values: Sequence[float], part: float) -> float:
    """The value below which so large a part of the sorted values lies; 0 of nothing."""
    return values[min(len(values) - 1, int(len(values) * part))] if values else 0.0


async def read_topic(bootstrap: str, topic: str, *, since_ms: float = 0) -> list[Stored]:
    """The records of a topic that were stamped at or after a time (milliseconds since the Unix epoch)."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = consumer.assignment()
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(60):
            while len(found) < sum(ends.values()) - sum(begins.values()):
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    found += batch
        return [
            Stored(dict(one.headers), one.value or b"", one.timestamp) for one in found if one.timestamp >= since_ms
        ]
    finally:
        await consumer.stop()
