"""Writes the records of one partition in whole batches, as fast as the broker takes them and no faster."""

import asyncio
from array import array
from collections import deque
from functools import partial
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer, errors

from bench.generate import Produced

BATCH_BYTES_MAX = 900_000
"""The broker takes 1 MB."""


class Ends(Protocol):
    """Who is told what becomes of batches; `turns` are those of its records, in the order of their offsets."""

    def acknowledged(self, partition: int, base: int, turns: "array[float]") -> None:
        """The records are written, from offset `base` on."""

    def failed(self, turns: "array[float]", error: BaseException) -> None:
        """The records are not written, as far as is known."""


class Writer:
    """One batch is filled, one waits to be sent, one is at the broker.

    While the broker takes its time the one that is filled grows, up to `BATCH_BYTES_MAX`; then others follow it.
    """

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int, ends: Ends) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._ends = ends
        self._full: deque[tuple[Any, array[float]]] = deque()
        self._ready = asyncio.Event()
        self._open()

    def _open(self) -> None:
        self._batch = self._producer.create_batch()
        self._turns = array("d")

    def add(self, record: Produced, turn: float) -> None:
        """Puts a record into a batch."""
        headers = record.headers
        if self._batch.append(key=record.key, value=record.value, timestamp=None, headers=headers) is None:
            self._full.append((self._batch, self._turns))
            self._open()
            self._batch.append(key=record.key, value=record.value, timestamp=None, headers=headers)
        self._turns.append(turn)

    def flush(self) -> None:
        """Lets go of what was added, once the broker can take it."""
        if self._turns:
            self._ready.set()

    async def send(self) -> None:
        """Sends until cancelled."""
        while True:
            if not self._full and not self._turns:
                self._ready.clear()
            await self._ready.wait()
            if not self._full:
                self._full.append((self._batch, self._turns))
                self._open()
            await self._send(*self._full.popleft())

    async def _send(self, batch: Any, turns: "array[float]") -> None:
        try:
            # It returns once the batch before this one is on its way.
            sent = await self._producer.send_batch(batch, self._topic, partition=self._partition)
        except errors.KafkaError as error:
            self._ends.failed(turns, error)
        else:
            sent.add_done_callback(partial(self._ended, turns))

    def _ended(self, turns: "array[float]", sent: "asyncio.Future[Any]") -> None:
        if sent.cancelled():
            return
        if error := sent.exception():
            self._ends.failed(turns, error)
        else:
            self._ends.acknowledged(self._partition, sent.result().offset, turns)
