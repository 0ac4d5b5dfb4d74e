"""The relay of the outbox as a contender: it publishes what waits in a database; or aiokafka the same from memory.

Modes: `relay`, and `send`, which has the records at hand and nothing to take or remove.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bench.generate import envelope
from bench.report import Meter, Task
from handlers.stores.opening import MIGRATIONS, open_stores
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_producer import KafkaProducer
from streamproc.adapters.sqlite import open_sqlite
from streamproc.adapters.sqlite_outbox import add_to_outbox
from streamproc.adapters.store import StoreOptions
from streamproc.errors import BrokerError
from streamproc.model import OutRecord
from streamproc.relay import BATCH, Relay


@dataclass(frozen=True)
class RelayTask(Task):
    """Also: the store and its password."""

    store: str = ""
    password: str = ""


class Counted:
    """A producer that counts what the broker acknowledged."""

    def __init__(self, producer: KafkaProducer, meter: Meter) -> None:
        self._producer = producer
        self._meter = meter
        self.start = producer.start
        self.stop = producer.stop

    async def send(self, records: Sequence[OutRecord]) -> Sequence[BrokerError | None]:
        """Sends, and counts."""
        errors = await self._producer.send(records)
        self._meter.add(errors.count(None))
        return errors


def records(topic: str, count: int) -> list[OutRecord]:
    """Events as a function gives them to a store."""
    keys = [f"u-{number}" for number in range(count)]
    events = [f'{{"type":"user.created","userId":"{key}"}}' for key in keys]
    return [
        OutRecord(topic, envelope(number, key, event), key.encode())
        for number, (key, event) in enumerate(zip(keys, events, strict=True))
    ]


async def fill(task: RelayTask, waiting: Sequence[OutRecord]) -> None:
    """Puts events into the outbox."""
    if not task.store:
        async with open_sqlite(StoreOptions(url=url_of(task)), MIGRATIONS) as database:
            await database.run(lambda connection: add_to_outbox(connection, waiting))
        return
    import asyncpg

    connection = await asyncpg.connect(task.store, password=task.password)
    rows = [(one.topic, one.key, one.value, msgspec.msgpack.encode(one.headers)) for one in waiting]
    await connection.copy_records_to_table("outbox", records=rows, columns=["topic", "key", "value", "headers"])
    await connection.close()


def url_of(task: RelayTask) -> str:
    """The store's address."""
    return task.store or f"sqlite:///{task.report.parent}/store.db"


async def publish(meter: Meter, task: RelayTask) -> None:
    """Until all is counted."""
    options = KafkaOptions(bootstrap_servers=[task.bootstrap])
    producer: Any = Counted(KafkaProducer(options), meter)
    await producer.start()
    waiting = records(task.topic, task.count + BATCH)
    if task.mode == "send":
        for first in range(0, len(waiting), BATCH):
            await producer.send(waiting[first : first + BATCH])
        return
    await fill(task, waiting)
    async with open_stores(StoreOptions(url=url_of(task), password=task.password)) as stores:
        relay = Relay(stores.outbox, producer)
        running = asyncio.ensure_future(relay.run())
        while not meter.done:
            await asyncio.sleep(0.05)
        await relay.stop(running, 5.0)


def main(task: RelayTask) -> int:
    """Publishes."""
    import uvloop

    uvloop.run(publish(Meter(task), task))
    return 0


if __name__ == "__main__":
    sys.exit(main(RelayTask.from_arguments()))
