"""A PostgreSQL that dies, goes silent or is full: what is told, and that the pool recovers by itself."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec
import pytest

from streamproc.adapters.postgres import PostgresConnection, PostgresDatabase, open_postgres
from streamproc.adapters.postgres_connect import PATIENCE_S
from streamproc.adapters.postgres_outbox import PostgresOutbox
from streamproc.adapters.postgres_schema import migrate_postgres
from streamproc.adapters.store import StoreOptions
from streamproc.errors import StoreError
from tests.postgres import Postgres, Server, in_a_loop
from tests.tcp_proxy import Proxy, proxy

PID = "SELECT pg_backend_pid()"
ADD = "INSERT INTO outbox (topic, headers) VALUES ($1, '\\x90')"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as made:
        in_a_loop(migrate_postgres(made.postgres.options("postgres"), None))
        yield made


@pytest.fixture
def postgres(server: Server) -> Postgres:
    server.start()
    return server.postgres


@pytest.fixture
async def db(postgres: Postgres) -> AsyncIterator[PostgresDatabase]:
    async with open_postgres(postgres.options("postgres", statement_timeout_s=5), None) as opened:
        yield opened


def through(wire: Proxy, postgres: Postgres, **more: float) -> StoreOptions:
    """The same database by way of a proxy."""
    options = postgres.options("postgres", **more)
    return msgspec.structs.replace(options, url=options.url.replace(f":{postgres.port}/", f":{wire.port}/"))


async def told(work: Awaitable[object]) -> str:
    with pytest.raises(StoreError) as caught:
        await work
    return str(caught.value)


async def kill(postgres: Postgres, pid: int) -> None:
    """Ends a session, and waits until it is gone."""
    await postgres.query("postgres", "SELECT pg_terminate_backend($1, 10000)", pid)


async def pid_of(connection: PostgresConnection) -> int:
    return int((await connection.fetch(PID))[0][0])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
async def test_a_server_that_comes_back_is_used_again(
    server: Server, db: PostgresDatabase, how: signal.Signals
) -> None:
    before = (await db.fetch("SELECT count(*) FROM outbox"))[0][0]
    await asyncio.gather(*(db.execute(ADD, "t") for _ in range(10)))
    async with db.connection() as held:
        await asyncio.to_thread(server.stop, how)
        assert "PostgreSQL: " in await told(held.fetch(PID))
    async with asyncio.timeout(10):  # the sessions of a server that was killed end a moment later
        while "Connection refused" not in await failure(db.fetch(PID)):
            await asyncio.sleep(0.01)
    for work in (db.fetch(PID), db.execute(ADD, "t"), db.run(pid_of)):
        assert "Connection refused" in await told(work)
    await asyncio.to_thread(server.start)
    await asyncio.gather(*(db.execute(ADD, "t") for _ in range(10)))
    assert await db.run(pid_of)
    assert (await db.fetch("SELECT count(*) FROM outbox"))[0][0] == before + 20


async def test_a_server_that_is_shutting_down_takes_nobody_more(server: Server, postgres: Postgres) -> None:
    options = postgres.options("postgres")
    async with open_postgres(options, None) as db, db.connection() as held:
        pid = await pid_of(held)
        stopping = asyncio.ensure_future(asyncio.to_thread(server.stop, signal.SIGTERM))  # waits for `held`
        async with asyncio.timeout(10):
            while not (refused := await failure(open_postgres(options, None).__aenter__())):
                await asyncio.sleep(0.01)
        sentence = "CannotConnectNowError: the database system is shutting down"
        assert refused == f"PostgreSQL at {postgres.host}:{postgres.port}: {sentence}"
        assert await told(db.fetch(PID)) == f"PostgreSQL: {sentence}"
        assert await pid_of(held) == pid
    await stopping


async def failure(work: Awaitable[object]) -> str:
    try:
        await work
    except StoreError as error:
        return str(error)
    return ""


async def test_a_session_that_was_ended_while_idle_is_not_noticed(db: PostgresDatabase, postgres: Postgres) -> None:
    for work in (db.run(pid_of), db.run(pid_of)):
        await kill(postgres, (await db.fetch(PID))[0][0])
        assert await work


async def test_a_session_that_ends_under_one_statement_is_replaced(db: PostgresDatabase, postgres: Postgres) -> None:
    running = asyncio.ensure_future(db.fetch("SELECT pg_backend_pid(), pg_sleep(0.5)"))
    active = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(0.5)' AND pid <> $1"
    own = (await db.fetch(PID))[0][0]
    async with asyncio.timeout(10):
        while not (found := await postgres.query("postgres", active, own)):
            await asyncio.sleep(0.01)
    await kill(postgres, found[0][0])
    assert (await running)[0][0] != found[0][0]


async def test_a_session_that_ends_in_a_transaction_is_told(db: PostgresDatabase, postgres: Postgres) -> None:
    async def work(connection: PostgresConnection) -> None:
        await connection.execute(ADD, "in a transaction")
        await kill(postgres, await pid_of(connection))
        await connection.execute(ADD, "in a transaction")

    assert "PostgreSQL: " in await told(db.run(work))
    assert list(await db.fetch("SELECT 1 FROM outbox WHERE topic = 'in a transaction'")) == []


async def test_a_farewell_that_comes_before_the_end_of_its_connection_is_told(postgres: Postgres) -> None:
    async with proxy(postgres.host, postgres.port) as wire, open_postgres(through(wire, postgres), None) as db:

        async def work(connection: PostgresConnection) -> None:
            wire.hold_ends()
            await kill(postgres, await pid_of(connection))
            await wire.ended.wait()
            for _ in range(10):  # turns of the event loop: the client reads what it said
                await asyncio.sleep(0)
            await connection.execute(ADD, "t")

        async with asyncio.timeout(4):
            assert "PostgreSQL: " in await told(db.run(work))
            assert await db.run(pid_of)
            assert "PostgreSQL: " in await told(on_its_own(db, work))
            assert await db.run(pid_of)
        wire.pass_ends()


async def on_its_own(db: PostgresDatabase, work: Callable[[PostgresConnection], Awaitable[None]]) -> None:
    async with db.connection() as connection:
        await work(connection)


async def test_a_relay_that_is_cancelled_while_it_gives_its_right_back_ends_at_once(postgres: Postgres) -> None:
    async with proxy(postgres.host, postgres.port) as wire, open_postgres(through(wire, postgres), None) as db:
        reached = asyncio.Event()

        async def hold() -> None:
            async with PostgresOutbox(db).relay():
                wire.freeze()
                reached.set()

        holding = asyncio.ensure_future(hold())
        await reached.wait()
        await asyncio.sleep(0)
        holding.cancel()
        async with asyncio.timeout(2):
            await asyncio.wait([holding])


async def test_an_error_of_the_application_passes_even_when_the_session_ends(
    db: PostgresDatabase, postgres: Postgres
) -> None:
    async def work(connection: PostgresConnection) -> None:
        await kill(postgres, await pid_of(connection))
        raise ValueError("out of stock")

    with pytest.raises(ValueError, match="out of stock"):
        await db.run(work)
    assert await db.run(pid_of)


async def test_a_relay_whose_session_ends_is_told_and_another_has_the_right(
    db: PostgresDatabase, postgres: Postgres
) -> None:
    locked = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'"
    async with PostgresOutbox(db).relay() as first:
        assert first is not None
        await first.take(1)
        ((pid,),) = await postgres.query("postgres", locked)
        await kill(postgres, pid)
        async with PostgresOutbox(db).relay() as second:
            assert second is not None
            assert "PostgreSQL: " in await told(first.take(1))
            assert "PostgreSQL: " in await told(first.remove([1]))
            await second.take(1)
    assert await postgres.query("postgres", locked) == []


@pytest.fixture
async def silent(postgres: Postgres) -> AsyncIterator[tuple[Proxy, PostgresDatabase]]:
    """A database whose network can be frozen, and that waits for 0.1 s and the client's patience."""
    async with (
        proxy(postgres.host, postgres.port) as wire,
        open_postgres(through(wire, postgres, statement_timeout_s=0.1), None) as db,
    ):
        yield wire, db
        wire.thaw()


async def test_a_network_that_goes_silent_holds_nobody_for_ever(silent: tuple[Proxy, PostgresDatabase]) -> None:
    wire, db = silent
    await db.fetch(PID)
    wire.freeze()
    async with asyncio.timeout(3 * (0.1 + PATIENCE_S)):
        answers = await asyncio.gather(told(db.fetch(PID)), told(db.run(pid_of)), told(db.execute(PID)))
    assert {"PostgreSQL: no answer in time"} <= set(answers)
    wire.thaw()
    assert await db.fetch(PID)


async def test_an_answer_that_never_comes_does_not_hold_up_a_cancellation(
    silent: tuple[Proxy, PostgresDatabase],
) -> None:
    wire, db = silent
    reached = asyncio.Event()

    async def work(connection: PostgresConnection) -> None:
        await connection.fetch(PID)
        wire.freeze()
        reached.set()
        await connection.fetch(PID)

    running = asyncio.ensure_future(db.run(work))
    await reached.wait()
    await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(3 * (0.1 + PATIENCE_S)):
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_what_a_frozen_process_holds_is_free_again(postgres: Postgres) -> None:
    async with open_postgres(postgres.options("postgres", statement_timeout_s=0.2), None) as db:
        await db.execute(ADD, "held")
        holds, goes_on = asyncio.Event(), asyncio.Event()

        async def freeze(connection: PostgresConnection) -> None:
            await connection.execute("DELETE FROM outbox WHERE topic = 'held'")
            holds.set()
            await goes_on.wait()
            await connection.fetch(PID)

        frozen = asyncio.ensure_future(db.run(freeze))
        await holds.wait()
        async with asyncio.timeout(10):
            while await failure(db.execute("UPDATE outbox SET key = 'k' WHERE topic = 'held'")):
                pass
        goes_on.set()
        assert "PostgreSQL: " in await told(frozen)
        assert (await db.fetch("SELECT key FROM outbox WHERE topic = 'held'"))[0][0] == b"k"


async def test_a_role_that_has_all_its_connections_is_told(postgres: Postgres) -> None:
    await postgres.query("postgres", "CREATE ROLE few LOGIN CONNECTION LIMIT 1")
    await postgres.query("postgres", f"ALTER ROLE few PASSWORD '{postgres.password}'")
    await postgres.query("postgres", "GRANT SELECT ON schema_version TO few")
    async with open_postgres(postgres.options("postgres", "few"), None) as db:
        async with db.connection() as held:
            await held.fetch(PID)
            assert await told(db.fetch(PID)) == (
                'PostgreSQL: TooManyConnectionsError: too many connections for role "few"'
            )
        assert await db.fetch(PID)


def test_data_survives_a_server_that_was_killed(postgres: Postgres, server: Server) -> None:
    server.postgres.psql("postgres", "-c", "INSERT INTO outbox (topic, headers) VALUES ('kept', '')")
    server.stop(signal.SIGKILL)
    server.start()
    assert server.postgres.psql("postgres", "-c", "SELECT topic FROM outbox WHERE topic = 'kept'") == "kept\n"
