"""The composition root: the only module that builds adapters. One process, or a parent with worker processes."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import orjson

from streamproc.adapters import logs, prometheus, prometheus_http
from streamproc.adapters.kafka import KafkaConsumer
from streamproc.adapters.kafka_producer import KafkaProducer
from streamproc.adapters.kafka_topics import create_topics, partition_counts
from streamproc.app import App
from streamproc.checks import Trigger, check_start
from streamproc.errors import StreamprocError
from streamproc.http.auth import TokenVerifier
from streamproc.http.gateway import Around, Gateway
from streamproc.http.options import OpsOptions
from streamproc.http.render import JSON, Rendered
from streamproc.ports import Outbox
from streamproc.probes import watching
from streamproc.processes import supervise
from streamproc.relay import Relay
from streamproc.schedule.scheduler import Scheduler
from streamproc.settings import Settings, secrets
from streamproc.stream.pipeline import Pipeline, Surroundings
from streamproc.stream.pool import Pool
from streamproc.stream.route import asks_for_keys
from streamproc.tuning import tune

log = logging.getLogger("streamproc")

OK, FAILED, USAGE, GRACE_EXCEEDED = 0, 1, 2, 4
RELAY_STOP_S = 2.0
"""How long the relay may publish at the end; what still waits then is published by the next one."""


def run(app: App, settings: Settings, only: Trigger | None = None) -> int:
    """Runs an app until SIGTERM or SIGINT; returns the exit code: 0, 1 failed, 2 configuration, 4 grace exceeded.

    A second signal ends the process at once. `only` leaves the functions of other triggers out.
    """
    if settings.stream.workers == 1:
        return _run_worker(app, settings, "", only=only)
    return supervise(
        settings.stream.workers,
        lambda number, parent: _run_worker(app, _of_worker(settings, number), str(number), parent=parent, only=only),
        settings.stream.grace_s,
    )


def _of_worker(settings: Settings, number: int) -> Settings:
    """Each worker process has its own operations port: the one that was set, and those after it."""
    host, colon, port = settings.ops.listen.rpartition(":")
    if not port.isdecimal() or port == "0":
        return settings
    listen = OpsOptions(listen=f"{host}{colon}{int(port) + number}")
    return msgspec.structs.replace(settings, ops=listen)


def _run_worker(
    app: App, settings: Settings, member: str, *, parent: Connection | None = None, only: Trigger | None = None
) -> int:
    try:
        return _run_loop(_run_async(app, settings, member, parent=parent, only=only))
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


async def _run_async(
    app: App, settings: Settings, member: str, *, parent: Connection | None, only: Trigger | None
) -> int:
    if await serve(app, settings, stop=_stop_on_signals(parent), member=member, only=only):
        return OK
    logging.shutdown()
    os._exit(GRACE_EXCEEDED)  # a thread that a call still runs in would be waited for, for ever


async def serve(
    app: App, settings: Settings, *, stop: asyncio.Event, member: str = "", only: Trigger | None = None
) -> bool:
    """Runs an app in this event loop until `stop` is set; False when calls outlived the grace.

    `member` tells processes of one group apart; `only` leaves the functions of other triggers out. Raises ConfigError
    and BrokerError.
    """
    check_start(app, settings, only)
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(app.services(settings))
        producer = KafkaProducer(settings.kafka)
        stack.push_async_callback(producer.stop)
        await producer.start()
        mask = logs.Mask(secrets(settings))
        shared = _Shared(app, settings, services, producer, prometheus.Metrics(), steady_clock(), mask)
        pool = Pool([])
        if app.stream_functions and only in (None, "stream"):
            await _make_dead_letter_topics(settings)
            pool = Pool([shared.pipeline(member, number) for number in range(settings.stream.consumers)])
        relay = gateway = scheduler = None
        if app.outbox is not None:
            relay = await stack.enter_async_context(_relaying(app.outbox(services), producer))
        front = await stack.enter_async_context(AsyncExitStack())
        if app.http_functions and only in (None, "http"):
            gateway, address = await front.enter_async_context(shared.answering(relay))
            log.info("answering %d functions at http://%s", len(app.http_functions), address)
        if app.schedules and only in (None, "schedule"):
            scheduler = await front.enter_async_context(shared.scheduling(relay))
        health = await stack.enter_async_context(watching(pool, shared.now))
        registry = shared.registry(pool, gateway, relay, scheduler)
        from streamproc.http import ops  # when all else is connected: a web server takes longest to import

        address = await stack.enter_async_context(ops.serve(settings.ops, health, registry))
        log.info("running %d functions%s", len(app.functions), f", metrics at http://{address}" if address else "")
        tune()
        closing = asyncio.create_task(_close_after(stop, front, gateway, settings.stream.grace_s))
        try:
            drained = await pool.run(stop, settings.stream.grace_s)
        finally:
            stop.set()
            answered = await closing
        unfinished = "stopped with calls unfinished: records will be delivered again, requests were cut off"
        log.info("stopped" if drained and answered else unfinished)
        return drained and answered


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the parts of one process have in common."""

    app: App
    settings: Settings
    services: Any
    producer: KafkaProducer
    metrics: prometheus.Metrics
    now: Callable[[], float]
    mask: logs.Mask

    def pipeline(self, member: str, number: int) -> Pipeline:
        settings, functions = self.settings, self.app.stream_functions
        consumer = KafkaConsumer(
            settings.kafka, settings.stream, member=f"{member}{number or ''}", with_keys=asks_for_keys(functions)
        )
        around = Surroundings(
            consumer=consumer,
            producer=self.producer,
            observer=self.metrics,
            services=self.services,
            group=settings.kafka.group_id,
            now=self.now,
            mask=self.mask,
        )
        return Pipeline(functions, settings.stream, around)

    @asynccontextmanager
    async def answering(self, relay: Relay | None) -> AsyncIterator[tuple[Gateway, str]]:
        from streamproc.http import server
        from streamproc.http.openapi import document

        verifier = TokenVerifier(self.settings.auth, self.now)
        around = Around(
            services=self.services,
            producer=self.producer,
            verifier=verifier,
            options=self.settings.http,
            stream=self.settings.stream,
            now=self.now,
            stored=relay.kick if relay is not None else lambda: None,
        )
        described = document(self.app, title=self.settings.kafka.group_id, version="1")
        gateway = Gateway(self.app, around, {"/openapi.json": Rendered(200, JSON, orjson.dumps(described))})
        try:
            grace_s, shared = self.settings.stream.grace_s, self.settings.stream.workers > 1
            async with server.serve_public(gateway, self.settings.http, grace_s, reuse_port=shared) as address:
                yield gateway, address
        finally:
            gateway.close()
            await verifier.close()

    @asynccontextmanager
    async def scheduling(self, relay: Relay | None) -> AsyncIterator[Scheduler]:
        assert self.app.firings is not None
        assert relay is not None
        firings = self.app.firings(self.services)
        scheduler = Scheduler(self.app.schedules, firings, self.settings.stream, stored=relay.kick)
        running = asyncio.create_task(scheduler.run(), name="scheduler")
        try:
            yield scheduler
        finally:
            await scheduler.stop(running)

    def registry(self, pool: Pool, gateway: Gateway | None, relay: Relay | None, scheduler: Scheduler | None) -> Any:
        found = prometheus.registry(self.metrics, pool.snapshots, end_offsets=pool.end_offsets, now=self.now)
        if gateway is not None:
            found.register(prometheus_http.HttpCollector(gateway.snapshot))
        if relay is not None:
            found.register(prometheus_http.OutboxCollector(relay.snapshot))
        if scheduler is not None:
            found.register(prometheus_http.ScheduleCollector(scheduler.snapshot))
        return found


@asynccontextmanager
async def _relaying(outbox: Outbox, producer: KafkaProducer) -> AsyncIterator[Relay]:
    relay = Relay(outbox, producer)
    running = asyncio.create_task(relay.run(), name="relay")
    try:
        yield relay
    finally:
        await relay.stop(running, RELAY_STOP_S)


async def _close_after(stop: asyncio.Event, front: AsyncExitStack, gateway: Gateway | None, grace_s: float) -> bool:
    """Whether no call for a request outlived the grace, at whose end the server cuts off what runs."""
    await stop.wait()
    closing = asyncio.create_task(front.aclose())
    await asyncio.wait({closing}, timeout=grace_s)
    is_idle = gateway is None or not gateway.busy
    await closing
    return is_idle


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
