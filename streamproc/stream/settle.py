"""Stage 5: carries out what is due: dead letters, then the offsets they held back; and wakes retries.

The loop itself never waits for the broker: dead letters and commits are each one task at a time, so that a broker
that hangs in one holds up neither the other nor anybody's retry.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from streamproc.core.engine import Engine
from streamproc.core.letters import Letter
from streamproc.errors import BrokerError, RecordRefused, RecordTooLarge
from streamproc.model import OutRecord, TopicPartition
from streamproc.ports import Consumer, Observer, Producer
from streamproc.stream.deadletter import FORMS, DeadLetterOptions

log = logging.getLogger(__name__)

LETTERS_MAX = 500
TELL_S = 60.0
"""How often a refusal that lasts is logged."""


class Settler:
    """Sends and commits for one pipeline. `now` in seconds since the epoch, `resumed` is called after each look."""

    def __init__(
        self,
        engine: Engine,
        consumer: Consumer,
        producer: Producer,
        *,
        letters: DeadLetterOptions,
        commit_timeout_s: float,
        now: Callable[[], float],
        holds: Callable[[], bool],
        observer: Observer,
    ) -> None:
        self._engine = engine
        self._consumer = consumer
        self._producer = producer
        self._letters = letters
        self._commit_timeout_s = commit_timeout_s
        self._now = now
        self._holds = holds
        self._observer = observer
        self._kicked = asyncio.Event()
        self._committing = asyncio.Lock()
        self._tasks = asyncio.TaskGroup()
        self._sending = False
        self._refusal = ""
        self._tell_at = 0.0

    def kick(self) -> None:
        """Something may be due earlier than thought."""
        self._kicked.set()

    async def run(self, resumed: Callable[[], None]) -> None:
        """Until cancelled, with what it sends and commits. Raises what went wrong in the engine meanwhile."""
        async with self._tasks:
            await self._look(resumed)

    async def _look(self, resumed: Callable[[], None]) -> None:
        while True:
            self._kicked.clear()
            due = self._engine.due(self._now(), LETTERS_MAX if self._holds() and not self._sending else 0)
            resumed()
            if due.letters:
                self._sending = True
                self._tasks.create_task(self._send(due.letters))
            if due.commits and not self._committing.locked():
                self._tasks.create_task(self.commit(due.commits))
            try:
                async with asyncio.timeout(max(0.001, due.wake_at - self._now())):
                    await self._kicked.wait()
            except TimeoutError:
                pass

    async def _send(self, letters: Sequence[Letter]) -> None:
        results: Sequence[BrokerError | None]
        try:
            results = await self._send_in_forms(letters)
        except Exception as error:  # what is neither sent nor refused would hold its partition for ever, and silently
            log.exception("dead letters could not be sent")
            results = [BrokerError(type(error).__name__)] * len(letters)
        self._sending = False
        self._acknowledged(letters, results)
        self.kick()

    async def _send_in_forms(self, letters: Sequence[Letter]) -> Sequence[BrokerError | None]:
        """Sends the letters whole, and what the broker will never take so in smaller and smaller forms."""
        results: list[BrokerError | None] = [None] * len(letters)
        left: Sequence[int] = range(len(letters))
        for form in FORMS:
            records: dict[int, OutRecord] = {}
            for number in left:
                try:
                    records[number] = form(letters[number], self._letters)
                except Exception as error:  # its headers cannot be read, say
                    results[number] = RecordRefused(f"a record cannot be read again: {type(error).__name__}")
            for number, result in zip(records, await self._producer.send(list(records.values())), strict=True):
                results[number] = result
            left = [n for n in left if isinstance(results[n], RecordRefused) and letters[n].entry.ledger.open]
            if not left:
                return results
        for number in left:
            results[number] = _hopeless(results[number])
        return results

    def _acknowledged(self, letters: Sequence[Letter], results: Sequence[BrokerError | None]) -> None:
        pairs = list(zip(letters, results, strict=True))
        self._engine.sent([letter for letter, error in pairs if error is None])
        refused = [(letter, error) for letter, error in pairs if error is not None]
        if refused:
            error = str(refused[0][1])
            if error != self._refusal or self._now() >= self._tell_at:
                log.error("%d dead letters were refused and are kept: %s", len(refused), error)
                self._refusal, self._tell_at = error, self._now() + TELL_S
            self._engine.refused([letter for letter, _ in refused], error, self._now())
        elif self._refusal:
            log.info("dead letters are written again")
            self._refusal = ""

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commits, one at a time and under a deadline. A failure is counted and repeated with the next commit.

        What is due is asked again when it is this commit's turn: a partition may have been given up meanwhile.
        """
        async with self._committing:
            due = self._engine.commits() if self._holds() else {}
            offsets = {partition: due[partition] for partition in offsets if partition in due}
            if not offsets:
                return
            try:
                async with asyncio.timeout(self._commit_timeout_s):
                    await self._consumer.commit(offsets)
            except TimeoutError:
                self._observer.commit_failed("Timeout")
            except BrokerError as error:
                log.warning("a commit failed: %s", error)
                self._observer.commit_failed(str(error))
            else:
                self._engine.committed(offsets)

    async def finish(self, partitions: Collection[TopicPartition]) -> None:
        """Commits what these partitions have finished, after any commit that is on its way."""
        async with self._committing:
            pass
        offsets = {p: offset for p, offset in self._engine.commits().items() if p in partitions}
        if offsets:
            await self.commit(offsets)


def _hopeless(error: BrokerError | None) -> RecordRefused:
    """What to do where a topic takes no form of a dead letter."""
    advice = "raise max.message.bytes" if isinstance(error, RecordTooLarge) else "look at the settings"
    return RecordRefused(f"{error}, also of a dead letter that is only the record's position: {advice} of that topic")
