"""What a running service says over HTTP while it is loaded: how far each partition is handled, and its dead letters."""

import asyncio
import os
import re
import sys
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from urllib.parse import urlsplit

import msgspec

from bench.histogram import Histogram
from streamproc.errors import ConfigError

POLL_S = 0.02
ANSWER_S = 2.0
RETRY_S = 0.5
REMEMBERED = 1_000
"""Polls of a partition that are remembered for records whose acknowledgement is late."""
LETTERS = "streamproc_dlq_records_total"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Position(msgspec.Struct, frozen=True):
    """A row of `/debug/partitions`: `done` is the lowest unsettled offset, `end` the end of the partition if known."""

    topic: str
    partition: int
    done: int
    end: int | None


class Worker:
    """The operations server of one worker process, asked over one connection that is kept. Raises ConfigError."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            host, port = None, 0
        if not host or parts.scheme != "http":
            raise ConfigError(f"--metrics {url}: write it as http://HOST:PORT/metrics")
        self.url = url
        self.answers = True
        self._host, self._port = host, port
        self._metrics = parts.path if len(parts.path) > 1 else "/metrics"
        self._streams: Streams | None = None

    async def positions(self, topic: str) -> list[Position]:
        """The partitions of a topic that are assigned to the process. Raises OSError."""
        try:
            rows = msgspec.json.decode(await self._get("/debug/partitions"), type=list[Position])
        except msgspec.MsgspecError as error:
            raise ConnectionError(f"/debug/partitions is not understood: {error}") from None
        return [row for row in rows if row.topic == topic]

    async def dead_letters(self) -> int:
        """Acknowledged dead letters of the process so far. Raises OSError."""
        lines = (await self._get(self._metrics)).decode(errors="replace").splitlines()
        try:
            return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(LETTERS))
        except ValueError:
            raise ConnectionError(f"{self._metrics} is not understood") from None

    def close(self) -> None:
        """Gives the connection up."""
        if self._streams:
            self._streams[1].close()
            self._streams = None

    async def _get(self, path: str) -> bytes:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._exchange(path)
        except TimeoutError:
            raise TimeoutError(f"no answer within {ANSWER_S:g} s") from None
        except (EOFError, asyncio.LimitOverrunError):
            raise ConnectionError(f"the answer to {path} is not whole") from None

    async def _exchange(self, path: str) -> bytes:
        streams, self._streams = self._streams, None
        reader, writer = streams or await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"(?im)^content-length: *(\d+)", head)
            if not re.match(r"HTTP/1\.\d 200 ", head) or not length:
                raise ConnectionError(f"{path} answered {head.splitlines()[0]!r}")
            body = await reader.readexactly(int(length[1]))
        except BaseException:
            writer.close()
            raise
        self._streams = reader, writer
        return body


class Observer:
    """Polls all workers for how far the partitions of a topic are handled, and tells `reached`.

    `reached(partition, done, at)` gets the lowest unsettled offset and the monotonic time of the answer in seconds.
    """

    def __init__(self, urls: Sequence[str], topic: str) -> None:
        self.intervals_ms = Histogram()
        self.behind = 0
        self._workers = [Worker(url) for url in dict.fromkeys(urls)]
        self._topic = topic
        self._letters: dict[str, int] = {}

    @property
    def answers(self) -> bool:
        """Whether any worker answers."""
        return any(worker.answers for worker in self._workers)

    async def start(self, partitions: int) -> None:
        """Asks each worker once. Raises ConfigError when one does not answer or does not know the topic, or when
        partitions are in none of them."""
        missing = set(range(partitions)) if self._workers else set()
        for worker in self._workers:
            try:
                positions = await worker.positions(self._topic)
                self._letters[worker.url] = await worker.dead_letters()
            except OSError as error:
                reason = _reason(error)
                raise ConfigError(f"--metrics {worker.url} does not answer as a service does: {reason}") from None
            if not positions:
                raise ConfigError(f"--metrics {worker.url} does not know the topic {self._topic}: nothing is assigned")
            missing -= {one.partition for one in positions}
            self.behind += sum(max(0, one.end - one.done) for one in positions if one.end is not None)
        if missing:
            numbers = ", ".join(map(str, sorted(missing)))
            raise ConfigError(f"--metrics: partitions {numbers} of {self._topic} are in none of them; name all workers")

    async def watch(self, reached: Callable[[int, int, float], None]) -> None:
        """Polls until cancelled; says on standard error who stops answering and who answers again."""
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(self._watch(worker, reached))

    async def _watch(self, worker: Worker, reached: Callable[[int, int, float], None]) -> None:
        before = 0.0
        while True:
            asked = monotonic()
            try:
                positions = await worker.positions(self._topic)
            except OSError as error:
                self._tell(worker, False, f"stopped answering ({_reason(error)})")
                await asyncio.sleep(RETRY_S)
                continue
            self._tell(worker, True, "answers again")
            at = monotonic()
            if before:
                self.intervals_ms.add((at - before) * 1000)
            before = at
            for one in positions:
                reached(one.partition, one.done, at)
            await asyncio.sleep(max(0.0, asked + POLL_S - monotonic()))

    def _tell(self, worker: Worker, answers: bool, text: str) -> None:
        if worker.answers != answers:
            worker.answers = answers
            left = "" if self.answers else "; going on with acknowledgements"
            print(f"{worker.url} {text}{left}", file=sys.stderr, flush=True)

    async def dead_letters(self) -> int | None:
        """Dead letters since the start; None without workers, or when one of them does not answer."""
        if not self._workers:
            return None
        try:
            ends = {worker.url: await worker.dead_letters() for worker in self._workers}
        except OSError:
            return None
        # A process that began anew counts from 0.
        return sum(end - self._letters[url] if end >= self._letters[url] else end for url, end in ends.items())

    def close(self) -> None:
        """Gives all connections up."""
        for worker in self._workers:
            worker.close()


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


class Handling:
    """The records of one partition between their acknowledgement and the first poll that finds them handled."""

    def __init__(self) -> None:
        self._done: list[int] = []
        self._at: list[float] = []
        self._waiting: deque[tuple[int, array[float]]] = deque()

    def acknowledged(self, base: int, turns: "array[float]") -> Iterator[tuple[float, Sequence[float]]]:
        """Records from offset `base` on are written; gives (time, turns) of those already found handled."""
        self._waiting.append((base, turns))
        return self._handled()

    def reached(self, done: int, at: float) -> Iterator[tuple[float, Sequence[float]]]:
        """All below offset `done` is handled at this time; gives (time, turns) of those newly found handled."""
        if not self._done or done > self._done[-1]:
            self._done.append(done)
            self._at.append(at)
        if len(self._done) > 2 * REMEMBERED:
            del self._done[:REMEMBERED], self._at[:REMEMBERED]
        return self._handled()

    def _handled(self) -> Iterator[tuple[float, Sequence[float]]]:
        while self._waiting:
            base, turns = self._waiting[0]
            first = bisect_right(self._done, base)
            if first == len(self._done):
                return
            count = self._done[first] - base
            yield self._at[first], turns[:count]
            if count < len(turns):
                self._waiting[0] = (base + count, turns[count:])
            else:
                self._waiting.popleft()
