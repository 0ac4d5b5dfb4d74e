"""Publishes what waits in the outbox: at least once, each key in the order its events were written.

    take the first that wait -> send -> remove those the broker has

A crash between send and remove sends again, with the same event id. One relay publishes at a time; others stand by.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from streamproc.errors import BrokerError, RecordRefused, StoreError
from streamproc.model import OutboxSnapshot, OutRecord
from streamproc.ports import Outbox, Producer, Waiting

log = logging.getLogger(__name__)

BATCH = 1_000
LOOK_S = 0.2
"""How often it looks for what other processes wrote; what this one wrote it is told of."""
STAND_BY_S = 1.0
"""How often it tries to become the relay, and to reach a database or broker that is gone."""


class Relay:
    """The relay of one process."""

    def __init__(self, outbox: Outbox, producer: Producer) -> None:
        self._outbox = outbox
        self._producer = producer
        self._kicked = asyncio.Event()
        self._stopping = asyncio.Event()
        self._refused: set[int] = set()
        self._published = 0
        self._waiting = 0
        self._active = False
        self._trouble = self._told = ""

    def kick(self) -> None:
        """Says that something was written."""
        self._kicked.set()

    async def run(self) -> None:
        """Publishes until `stop`."""
        while not self._stopping.is_set():
            try:
                async with self._outbox.relay() as waiting:
                    if waiting is None:
                        self._well()
                    else:
                        self._active = True
                        await self._publish_all(waiting)
            except StoreError as error:
                self._note(f"the outbox cannot be read: {error}")
            except Exception as error:
                self._note(f"the relay failed and starts again: {type(error).__name__}: {error}", error)
            finally:
                self._active = False
            await self._rest()

    async def stop(self, running: "asyncio.Task[None]", within_s: float) -> None:
        """Publishes what waits now, for so long; the rest waits for the next relay."""
        self._stopping.set()
        self.kick()
        await asyncio.wait({running}, timeout=within_s)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def snapshot(self) -> OutboxSnapshot:
        """Frozen numbers."""
        return OutboxSnapshot(self._published, len(self._refused), self._waiting, self._active)

    def ready(self) -> str:
        """Returns why events of the outbox are not published; empty when they are, or when another relay does that."""
        return self._trouble

    def _note(self, trouble: str, error: BaseException | None = None) -> None:
        if trouble != self._told:
            log.warning("%s", trouble, exc_info=error)
        self._trouble = self._told = trouble

    def _well(self) -> None:
        self._trouble = self._told = ""

    async def _publish_all(self, waiting: Waiting) -> None:
        while True:
            self._kicked.clear()
            taken = await waiting.take(BATCH + len(self._refused))
            batch = [one for one in taken if one[0] not in self._refused]
            self._waiting = len(batch)
            if batch:
                await self._publish(waiting, batch)
            else:
                self._well()
                if self._stopping.is_set():
                    return
            if len(batch) < BATCH and not self._stopping.is_set():
                await self._until_kicked()

    async def _publish(self, waiting: Waiting, batch: Sequence[tuple[int, OutRecord]]) -> None:
        done: list[int] = []
        held: dict[bytes | None, BrokerError] = {}
        for turn in _turns(batch):
            sent = [one for one in turn if one[1].key is None or one[1].key not in held]
            errors = await self._producer.send([record for _, record in sent])
            for (number, record), error in zip(sent, errors, strict=True):
                if isinstance(error, RecordRefused):
                    self._set_aside(number, record, error)
                elif error is not None:
                    held[record.key] = error
                else:
                    done.append(number)
        if done:
            await waiting.remove(done)
            self._published += len(done)
            self._waiting -= len(done)
        if held:
            self._note(f"events wait in the outbox: {next(iter(held.values()))}")
            if done:  # some topics are refused: no reason to take the whole process for unready
                self._trouble = ""
            await self._rest()
        else:
            self._well()

    def _set_aside(self, number: int, record: OutRecord, error: RecordRefused) -> None:
        self._refused.add(number)
        log.error(
            "event %d of the outbox (%d bytes) is never taken: %s; it stays there, and is tried again at the next"
            " start: change the settings of its topic before, max.message.bytes where it is too large",
            number,
            len(record.value or b""),
            error,
        )

    async def _until_kicked(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._kicked.wait()

    async def _rest(self) -> None:
        if self._stopping.is_set():
            await asyncio.sleep(0.05)
        with suppress(TimeoutError):
            async with asyncio.timeout(STAND_BY_S):
                await self._stopping.wait()


def _turns(batch: Sequence[tuple[int, OutRecord]]) -> Sequence[Sequence[tuple[int, OutRecord]]]:
    """The batch in turns that hold no key twice: an event is sent when the broker has the one before it."""
    turns: list[list[tuple[int, OutRecord]]] = []
    seen: Counter[bytes | None] = Counter()
    for one in batch:
        turn = seen[one[1].key]
        if turn == len(turns):
            turns.append([])
        turns[turn].append(one)
        seen[one[1].key] += one[1].key is not None
    return turns
