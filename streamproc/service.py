"""The composition root: the only module that builds adapters. One process, or a parent with worker processes."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import orjson

from streamproc.adapters import kafka_tools, logs, prometheus, prometheus_http
from streamproc.adapters.kafka import KafkaConsumer
from streamproc.adapters.kafka_producer import KafkaProducer
from streamproc.adapters.kafka_reach import reach
from streamproc.adapters.kafka_topics import create_topics, partition_counts
from streamproc.app import App
from streamproc.checks import Trigger, check_start
from streamproc.ending import GRACE_EXCEEDED, OK, Ending
from streamproc.errors import BrokerError, ConfigError, StreamprocError
from streamproc.http.auth import TokenVerifier
from streamproc.http.gateway import Around, Gateway
from streamproc.http.options import OpsOptions
from streamproc.http.render import JSON, Rendered
from streamproc.model import FunctionSnapshot
from streamproc.probes import Health, watching
from streamproc.processes import supervise
from streamproc.relay import Relay
from streamproc.schedule.scheduler import Scheduler
from streamproc.settings import Settings, secrets
from streamproc.stream.health import CallLimits
from streamproc.stream.pipeline import Pipeline, Surroundings
from streamproc.stream.pool import Pool, calling
from streamproc.stream.route import asks_for_keys
from streamproc.tuning import tune

log = logging.getLogger("streamproc")

RELAY_STOP_S = 2.0
"""How long the relay may publish at the end; what still waits then is published by the next one."""
REACH_S = 5.0
"""How long a broker may take to let this process in."""
AGAIN_S, AGAIN_MAX_S = 0.5, 5.0
"""How soon Kafka is asked again that is away at the start; each time later."""
TELL_S = 60.0
"""How often the log is told that it still is."""
ANSWER_S = 10.0


def run(app: App, settings: Settings, only: Trigger | None = None) -> int:
    """Runs an app until SIGTERM or SIGINT; returns the exit code.

    0: ended as told. 1: failed by what may pass, such as a broker or a database. 2: something is written wrongly.
    4: something outlived `stream.grace_s`. A second signal ends the process at once, with 128 and its number. `only`
    leaves the functions of other triggers out.
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
    ending = Ending(parent)
    ending.listen()
    return _run_loop(_run_async(app, settings, member, ending=ending, only=only))


def _run_loop(main: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _run_async(app: App, settings: Settings, member: str, *, ending: Ending, only: Trigger | None) -> int:
    ending.attach()
    try:
        if not await _serve(app, settings, ending, member=member, only=only):
            ending.leave(GRACE_EXCEEDED)  # a thread that a call still runs in would be waited for, for ever
    except Exception as error:
        return ending.fail(error)
    return OK


async def serve(
    app: App, settings: Settings, *, stop: asyncio.Event, member: str = "", only: Trigger | None = None
) -> bool:
    """Runs an app in this event loop until `stop` is set; False when calls outlived the grace.

    `member` tells processes of one group apart; `only` leaves the functions of other triggers out. Raises ConfigError,
    and what makes it impossible to go on. Kafka that is away at the start is waited for.
    """
    return await _serve(app, settings, Ending(stop=stop), member=member, only=only)


async def _serve(
    app: App, settings: Settings, ending: Ending, *, member: str = "", only: Trigger | None = None
) -> bool:
    check_start(app, settings, only)
    async with AsyncExitStack() as stack:
        try:
            return await _Process(app, settings, ending, stack, member=member, only=only).run()
        except Exception as error:
            ending.fail(error)  # now: what is closed next has a deadline
            raise


class _Process:
    """One process: its parts are started in the order in which somebody needs them, and closed in the opposite one.

    First what tells how it is (`/livez`, `/readyz`), then what the app opens. Requests are answered before Kafka is
    there if the app has an outbox, which keeps their events; else they wait for it, too. Records and schedules come
    last.
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        ending: Ending,
        stack: AsyncExitStack,
        *,
        member: str,
        only: Trigger | None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._ending = ending
        self._stack = stack
        self._member = member
        self._reads = bool(app.stream_functions) and only in (None, "stream")
        self._answers = bool(app.http_functions) and only in (None, "http")
        self._schedules = bool(app.schedules) and only in (None, "schedule")
        self._now = steady_clock()
        self._metrics = prometheus.Metrics()
        self._health = Health(_limits(app), self._now, lambda: _kafka_answers(settings))
        self._registry = prometheus.registry(
            self._metrics, self._health.snapshots, end_offsets=self._health.end_offsets, now=self._now
        )
        self._producer = KafkaProducer(settings.kafka)
        self._front = AsyncExitStack()
        self._pool = Pool([])
        self._relay: Relay | None = None
        self._gateway: Gateway | None = None

    async def run(self) -> bool:
        """See `serve`."""
        grace_s = self._settings.stream.grace_s
        async with self._ending.connecting():
            await self._connect()
        stop = self._ending.stop
        closing = asyncio.create_task(self._close_front(grace_s))
        drained = True
        try:
            if not stop.is_set():
                drained = await self._pool.run(stop, grace_s, self._ending.fail)
        finally:
            self._ending.begin()
            left = await closing
        if drained and not left:
            log.info("stopped")
            return True
        functions = ", ".join([*(() if drained else self._pool.calling()), *left])
        told = "stream.grace_s = %g is over: calls of %s did not end; their records come again, requests are cut off"
        log.error(told, grace_s, functions or "a function")
        return False

    async def _connect(self) -> None:
        app, settings, stack, health = self._app, self._settings, self._stack, self._health
        from streamproc.http import ops

        address = await stack.enter_async_context(ops.serve(settings.ops, health, self._registry))
        if address:
            log.info("metrics at http://%s", address)
        health.phase = "it opens what the app asks for"
        self._ending.doing = lambda: "the services of the app, which are being opened"
        services = await stack.enter_async_context(app.services(settings))
        stack.callback(setattr, self._ending, "doing", lambda: "the services of the app, which are being closed")
        self._ending.doing = lambda: self._left() or "parts that are being closed"
        stack.push_async_callback(self._producer.stop)
        if self._reads:
            self._pool = Pool([self._pipeline(services, number) for number in range(settings.stream.consumers)])
            health.read(self._pool)
        if app.outbox is not None:
            self._relay = relay = Relay(app.outbox(services), self._producer)
            self._registry.register(prometheus_http.OutboxCollector(relay.snapshot))
            health.add(relay)
        await stack.enter_async_context(self._front)
        if self._answers and self._relay is not None:
            await self._answer(services)
        await self._wait_for_kafka()
        if self._relay is not None:
            await stack.enter_async_context(self._relaying(self._relay))
        if self._answers and self._gateway is None:
            await self._answer(services)
        if self._schedules:
            await self._front.enter_async_context(self._scheduling(services))
        await stack.enter_async_context(watching(health))
        self._ending.serving(settings.stream.grace_s)
        health.phase = ""
        log.info("running %d functions", len(app.functions))
        tune()

    async def _answer(self, services: Any) -> None:
        self._ending.serving(self._settings.stream.grace_s)
        self._gateway, address = await self._front.enter_async_context(self._answering(services))
        log.info("answering %d functions at http://%s", len(self._app.http_functions), address)

    async def _wait_for_kafka(self) -> None:
        """Connects, however long Kafka or a topic is missing. Raises ConfigError when it refuses this client."""
        options, kafka = self._settings.kafka, f"Kafka at {', '.join(self._settings.kafka.bootstrap_servers)}"
        again_s, tell_at, began = AGAIN_S, 0.0, self._now()
        self._health.phase = f"it connects to {kafka}"
        while True:
            try:
                await reach(options, within_s=REACH_S)
                await self._producer.start()
                if self._reads:
                    await self._check_topics()
            except BrokerError as error:
                if isinstance(error, ConfigError):
                    raise
                self._health.phase = f"waiting for {kafka}: {str(error).removeprefix(kafka).lstrip()}"
                if self._now() >= tell_at:
                    log.warning("%s", self._health.phase)
                    tell_at = self._now() + TELL_S
                await asyncio.sleep(again_s)
                again_s = min(AGAIN_MAX_S, 2 * again_s)
            else:
                break
        if tell_at:
            log.info("Kafka has all that is needed, after %.0f s", self._now() - began)

    async def _check_topics(self) -> None:
        settings = self._settings
        counts = await partition_counts(settings.kafka, settings.stream.topics)
        missing = [topic for topic in settings.stream.topics if topic not in counts]
        if missing:
            raise BrokerError(f"no such topic, or this user may not see it: {', '.join(missing)}; create it")
        pattern = settings.stream.dead_letter_topic
        made = await create_topics(settings.kafka, {pattern.format(topic=one): count for one, count in counts.items()})
        if made:
            log.info("created %s", ", ".join(made))

    def _pipeline(self, services: Any, number: int) -> Pipeline:
        settings, functions = self._settings, self._app.stream_functions
        consumer = KafkaConsumer(
            settings.kafka, settings.stream, member=f"{self._member}{number or ''}", with_keys=asks_for_keys(functions)
        )
        around = Surroundings(
            consumer=consumer,
            producer=self._producer,
            observer=self._metrics,
            services=services,
            group=settings.kafka.group_id,
            now=self._now,
            mask=logs.Mask(secrets(settings)),
        )
        return Pipeline(functions, settings.stream, around)

    @asynccontextmanager
    async def _answering(self, services: Any) -> AsyncIterator[tuple[Gateway, str]]:
        from streamproc.http import server
        from streamproc.http.openapi import document

        app, settings = self._app, self._settings
        verifier = TokenVerifier(settings.auth, time.time)
        around = Around(
            services=services,
            producer=self._producer,
            verifier=verifier,
            options=settings.http,
            stream=settings.stream,
            now=self._now,
            stored=self._relay.kick if self._relay is not None else lambda: None,
        )
        described = document(app, title=settings.kafka.group_id, version="1")
        gateway = Gateway(app, around, {"/openapi.json": Rendered(200, JSON, orjson.dumps(described))})
        self._registry.register(prometheus_http.HttpCollector(gateway.snapshot))
        self._health.answer(lambda: gateway.snapshot().functions)
        if any(not function.public for function in app.http_functions):
            self._health.add(verifier)
        try:
            grace_s, shared = settings.stream.grace_s, settings.stream.workers > 1
            async with server.serve_public(gateway, settings.http, grace_s, reuse_port=shared) as address:
                yield gateway, address
        finally:
            gateway.close()
            await verifier.close()

    @asynccontextmanager
    async def _relaying(self, relay: Relay) -> AsyncIterator[None]:
        running = asyncio.create_task(relay.run(), name="relay")
        self._health.rely_on(running)
        try:
            yield
        finally:
            await relay.stop(running, RELAY_STOP_S)

    @asynccontextmanager
    async def _scheduling(self, services: Any) -> AsyncIterator[None]:
        assert self._app.firings is not None
        assert self._relay is not None
        firings = self._app.firings(services)
        scheduler = Scheduler(self._app.schedules, firings, self._settings.stream, stored=self._relay.kick)
        running = asyncio.create_task(scheduler.run(), name="scheduler")
        self._registry.register(prometheus_http.ScheduleCollector(scheduler.snapshot))
        self._health.add(scheduler)
        self._health.rely_on(running)
        try:
            yield
        finally:
            await scheduler.stop(running)

    async def _close_front(self, grace_s: float) -> Sequence[str]:
        """Returns the functions whose calls outlived the grace, at whose end the server cuts requests off."""
        await self._ending.stop.wait()
        self._health.phase = "it is stopping"
        closing = asyncio.create_task(self._front.aclose())
        await asyncio.wait({closing}, timeout=grace_s)
        left = calling(_functions_of(self._gateway))
        await closing
        return left

    def _left(self) -> str:
        """The functions that are being called."""
        running = [*self._pool.calling(), *calling(_functions_of(self._gateway))]
        return f"calls of {', '.join(running)}" if running else ""


def _functions_of(gateway: Gateway | None) -> Sequence[FunctionSnapshot]:
    return gateway.snapshot().functions if gateway is not None else ()


def _limits(app: App) -> dict[str, CallLimits]:
    of_records = {
        one.name: CallLimits(one.concurrency_max, one.timeout_s, one.batch_window_s) for one in app.stream_functions
    }
    return of_records | {one.name: CallLimits(one.concurrency_max, one.timeout_s) for one in app.http_functions}


async def _kafka_answers(settings: Settings) -> bool:
    """Whether the leaders of all partitions that are read answer somebody who asks anew."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await kafka_tools.lag(settings.kafka, settings.stream.topics)
    except (StreamprocError, TimeoutError):
        return False
    return True


def steady_clock() -> Callable[[], float]:
    """Seconds since the Unix epoch by the running loop's clock: as precise as it, and it never goes backwards."""
    loop = asyncio.get_running_loop()
    offset = time.time() - loop.time()
    return lambda: loop.time() + offset
