"""The composition root: the only module that builds adapters. One process, or a parent with worker processes."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from streamproc.adapters import logs, prometheus
from streamproc.adapters.kafka import KafkaConsumer
from streamproc.adapters.kafka_producer import KafkaProducer
from streamproc.adapters.kafka_topics import create_topics, partition_counts
from streamproc.app import App
from streamproc.errors import StreamprocError
from streamproc.http.options import OpsOptions
from streamproc.model import Snapshot
from streamproc.processes import supervise
from streamproc.settings import Settings, secrets
from streamproc.stream.health import Watch
from streamproc.stream.pipeline import Pipeline, Surroundings
from streamproc.stream.pool import Pool
from streamproc.stream.route import asks_for_keys
from streamproc.tuning import tune

log = logging.getLogger("streamproc")

OK, FAILED, USAGE, GRACE_EXCEEDED = 0, 1, 2, 4
LOOK_S = 1.0


def run(app: App, settings: Settings) -> int:
    """Runs an app until SIGTERM or SIGINT; returns the exit code: 0, 1 failed, 2 configuration, 4 grace exceeded.

    A second signal ends the process at once.
    """
    if settings.stream.workers == 1:
        return _run_worker(app, settings, "")
    return supervise(
        settings.stream.workers,
        lambda number, parent: _run_worker(app, _of_worker(settings, number), str(number), parent),
        settings.stream.grace_s,
    )


def _of_worker(settings: Settings, number: int) -> Settings:
    """Each worker process has its own operations port: the one that was set, and those after it."""
    host, colon, port = settings.ops.listen.rpartition(":")
    if not port.isdecimal() or port == "0":
        return settings
    listen = OpsOptions(listen=f"{host}{colon}{int(port) + number}")
    return msgspec.structs.replace(settings, ops=listen)


def _run_worker(app: App, settings: Settings, member: str, parent: Connection | None = None) -> int:
    try:
        return _run_loop(_run_async(app, settings, member, parent))
    except StreamprocError as error:
        log.error("%s", error)
        return USAGE


def _run_loop(main: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _run_async(app: App, settings: Settings, member: str, parent: Connection | None) -> int:
    if await serve(app, settings, stop=_stop_on_signals(parent), member=member):
        return OK
    logging.shutdown()
    os._exit(GRACE_EXCEEDED)  # a thread that a call still runs in would be waited for, for ever


async def serve(app: App, settings: Settings, *, stop: asyncio.Event, member: str = "") -> bool:
    """Runs an app in this event loop until `stop` is set; False when calls outlived the grace.

    `member` tells processes of one group apart. Raises ConfigError and BrokerError.
    """
    app.check_topics(settings.stream.topics)
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(app.services(settings))
        producer = KafkaProducer(settings.kafka)
        stack.push_async_callback(producer.stop)
        await producer.start()
        await _make_dead_letter_topics(settings)
        metrics, now = prometheus.Metrics(), steady_clock()

        def pipeline(number: int) -> Pipeline:
            around = Surroundings(
                consumer=KafkaConsumer(
                    settings.kafka,
                    settings.stream,
                    member=f"{member}{number or ''}",
                    with_keys=asks_for_keys(app.functions),
                ),
                producer=producer,
                observer=metrics,
                services=services,
                group=settings.kafka.group_id,
                now=now,
                mask=logs.Mask(secrets(settings)),
            )
            return Pipeline(app.functions, settings.stream, around)

        pool = Pool([pipeline(number) for number in range(settings.stream.consumers)])
        health = await stack.enter_async_context(_watching(pool, now))
        registry = prometheus.registry(metrics, pool.snapshots, end_offsets=pool.end_offsets, now=now)
        from streamproc.http import ops  # when all else is connected: a web server takes longest to import

        address = await stack.enter_async_context(ops.serve(settings.ops, health, registry))
        log.info("running %d functions%s", len(app.functions), f", metrics at http://{address}" if address else "")
        tune()
        drained = await pool.run(stop, settings.stream.grace_s)
        log.info("stopped" if drained else "stopped with calls unfinished: their records will be delivered again")
        return drained


def _stop_on_signals(parent: Connection | None) -> asyncio.Event:
    """An event that is set by the first SIGTERM or SIGINT, or when the parent is gone; a second signal exits."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        log.info("%s: stopping", signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    if parent is not None:
        loop.add_reader(parent.fileno(), stop.set)
    return stop


async def _make_dead_letter_topics(settings: Settings) -> None:
    pattern = settings.stream.dead_letter_topic
    counts = await partition_counts(settings.kafka, settings.stream.topics)
    wanted = {pattern.format(topic=topic): count for topic, count in counts.items()}
    made = await create_topics(settings.kafka, wanted)
    if made:
        log.info("created %s", ", ".join(made))


def steady_clock() -> Callable[[], float]:
    """Seconds since the Unix epoch by the running loop's clock: as precise as it, and it never goes backwards."""
    loop = asyncio.get_running_loop()
    offset = time.time() - loop.time()
    return lambda: loop.time() + offset


class _Health:
    """What probes are told."""

    def __init__(self, pool: Pool, now: Callable[[], float]) -> None:
        self._pool = pool
        self._watch = Watch()
        self.now = now
        self.live = self._watch.live
        self.ready = self._watch.ready
        self.end_offsets = pool.end_offsets

    def snapshots(self) -> Sequence[Snapshot]:
        return self._pool.snapshots()

    async def keep_looking(self) -> None:
        while True:
            self._watch.look(self.snapshots(), self.end_offsets(), silent_s=self._pool.silent_s(), now=self.now())
            await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def _watching(pool: Pool, now: Callable[[], float]) -> AsyncIterator[_Health]:
    health = _Health(pool, now)
    looking = asyncio.ensure_future(health.keep_looking())
    try:
        yield health
    finally:
        looking.cancel()
