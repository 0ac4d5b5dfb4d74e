"""The PostgreSQL adapter on a real server: transactions, limits, what is told, what is refused when it is opened."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from streamproc.adapters.postgres import PostgresConnection, PostgresDatabase, open_postgres
from streamproc.adapters.postgres_connect import PATIENCE_S
from streamproc.adapters.postgres_schema import migrate_postgres
from streamproc.errors import StoreError
from tests.postgres import Postgres, in_a_loop

INSERT = "INSERT INTO numbers VALUES ($1)"
NUMBERS = "SELECT n FROM numbers ORDER BY n"


@pytest.fixture(scope="module")
def migrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("migrations")
    (folder / "postgres").mkdir()
    (folder / "postgres/001_numbers.sql").write_text("CREATE TABLE numbers (n integer PRIMARY KEY);")
    return folder


@pytest.fixture(scope="module")
def made(postgres: Postgres, migrations: Path) -> Iterator[str]:
    with postgres.database() as name:
        in_a_loop(migrate_postgres(postgres.options(name), migrations))
        yield name


@pytest.fixture
async def database(postgres: Postgres, made: str) -> str:
    await postgres.query(made, "TRUNCATE numbers")
    return made


@pytest.fixture
async def db(postgres: Postgres, database: str, migrations: Path) -> AsyncIterator[PostgresDatabase]:
    async with open_postgres(postgres.options(database), migrations) as opened:
        yield opened


async def insert(connection: PostgresConnection, n: int, then: BaseException | None = None) -> int:
    await connection.execute(INSERT, n)
    if then is not None:
        raise then
    return n


async def told(work: Awaitable[object]) -> str:
    with pytest.raises(StoreError) as caught:
        await work
    return str(caught.value)


async def test_a_call_is_committed_when_it_returns(db: PostgresDatabase, postgres: Postgres, database: str) -> None:
    assert await db.run(lambda connection: insert(connection, 7)) == 7
    assert await postgres.query(database, NUMBERS) == [(7,)]


async def test_a_call_that_fails_takes_back_what_it_did(db: PostgresDatabase) -> None:
    error = ValueError("no")
    for _ in range(20):  # more than there are connections
        with pytest.raises(ValueError, match="no"):
            await db.run(lambda connection: insert(connection, 7, error))
    assert list(await db.fetch(NUMBERS)) == []


async def test_a_call_that_is_cancelled_takes_back_what_it_did(db: PostgresDatabase) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    for statement in ("SELECT pg_sleep(60)", "SELECT 1"):
        reached = asyncio.Event()

        async def work(connection: PostgresConnection, statement: str = statement, reached: Any = reached) -> None:
            await insert(connection, 7)
            reached.set()
            await connection.fetch(statement)
            await asyncio.Event().wait()

        running = asyncio.ensure_future(db.run(work))
        await reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert list(await db.fetch(NUMBERS)) == []
    assert complaints == []


async def test_one_statement_tells_its_rows_or_how_many_it_changed(db: PostgresDatabase) -> None:
    assert await db.execute("INSERT INTO numbers SELECT generate_series(1, $1)", 5) == 5
    assert await db.execute("UPDATE numbers SET n = n + 10 WHERE n > $1", 3) == 2
    assert await db.execute("CREATE TEMPORARY TABLE nothing (n integer)") == 0
    assert [tuple(row) for row in await db.fetch(NUMBERS)] == [(1,), (2,), (3,), (14,), (15,)]


async def test_what_a_session_may_is_limited(db: PostgresDatabase) -> None:
    wanted = {"application_name": "streamproc", "statement_timeout": "10s", "tcp_keepalives_idle": "30"}
    wanted |= {"idle_in_transaction_session_timeout": "10s"}
    rows = await db.fetch("SELECT name, current_setting(name) FROM unnest($1::text[]) AS name", list(wanted))
    assert dict(map(tuple, rows)) == wanted


@pytest.mark.parametrize(
    ("statement", "args", "error"),
    [
        ("INSERT INTO numbers VALUES ($1), ($1)", (1,), asyncpg.UniqueViolationError),
        ("SELECT * FROM absent", (), asyncpg.UndefinedTableError),
        ("SELECT $1::integer", ("one",), asyncpg.DataError),
        ("SELECT 1 / $1::integer", (0,), asyncpg.DivisionByZeroError),
    ],
    ids=["constraint", "table", "argument", "arithmetic"],
)
async def test_what_repeating_does_not_help_is_the_error_of_its_author(
    db: PostgresDatabase, statement: str, args: tuple[Any, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await db.fetch(statement, *args)
    with pytest.raises(error):
        await db.run(lambda connection: connection.fetch(statement, *args))


async def test_two_statements_at_once_on_a_connection_are_wrong_use(db: PostgresDatabase) -> None:
    with pytest.raises(asyncpg.InterfaceError, match="in progress"):
        await db.run(lambda connection: asyncio.gather(*(connection.fetch("SELECT pg_sleep(0.1)") for _ in range(2))))
    assert await db.execute(INSERT, 1) == 1


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("40001", "SerializationError"),
        ("40P01", "DeadlockDetectedError"),
        ("53100", "DiskFullError"),
        ("53300", "TooManyConnectionsError"),
        ("55P03", "LockNotAvailableError"),
        ("57014", "QueryCanceledError"),
        ("57P03", "CannotConnectNowError"),
        ("58030", "PostgresIOError"),
        ("25006", "ReadOnlySQLTransactionError"),
        ("XX000", "InternalServerError"),
    ],
)
async def test_trouble_of_the_server_is_told_by_its_name(db: PostgresDatabase, state: str, message: str) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'in trouble' USING ERRCODE = '{state}', DETAIL = 'of user 7'; END $$"
    for work in (db.fetch(raising), db.run(lambda connection: connection.fetch(raising))):
        assert await told(work) == f"PostgreSQL: {message}: in trouble"
    assert await db.execute(INSERT, 1) == 1


async def test_a_deadlock_is_told_to_one_and_the_other_goes_on(db: PostgresDatabase) -> None:
    await db.execute("INSERT INTO numbers VALUES (1), (2)")
    both = asyncio.Barrier(2)

    async def lock(connection: PostgresConnection, *order: int) -> None:
        await connection.execute("SET LOCAL deadlock_timeout = '10ms'")
        await connection.execute("UPDATE numbers SET n = n WHERE n = $1", order[0])
        await both.wait()
        await connection.execute("UPDATE numbers SET n = n WHERE n = $1", order[1])

    results = await asyncio.gather(
        db.run(lambda c: lock(c, 1, 2)), db.run(lambda c: lock(c, 2, 1)), return_exceptions=True
    )
    assert sorted(map(str, results)) == ["None", "PostgreSQL: DeadlockDetectedError: deadlock detected"]


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(
    postgres: Postgres, database: str, migrations: Path
) -> None:
    options = postgres.options(database, statement_timeout_s=0.1)
    async with open_postgres(options, migrations) as db, asyncio.timeout(1.5):
        for work in (
            db.fetch("SELECT pg_sleep(60)"),
            db.run(lambda connection: connection.fetch("SELECT pg_sleep(60)")),
        ):
            assert "QueryCanceledError: canceling statement due to statement timeout" in await told(work)


async def test_who_finds_no_free_connection_waits_and_is_told_in_the_end(
    postgres: Postgres, database: str, migrations: Path
) -> None:
    options = postgres.options(database, connections_max=2, statement_timeout_s=0.1)
    async with open_postgres(options, migrations) as db:
        async with db.connection(), db.connection() as second:
            waits = asyncio.ensure_future(db.fetch("SELECT 1"))
            gives_up = await told(db.fetch("SELECT 1"))
            assert gives_up == f"PostgreSQL: no connection within {0.1 + PATIENCE_S:g} s"
            assert "no connection within" in await told(waits)
            waits = asyncio.ensure_future(db.fetch("SELECT 1"))
            assert len(await second.fetch("SELECT 1")) == 1
            assert not waits.done()
        assert len(await waits) == 1


async def test_many_calls_share_few_connections(postgres: Postgres, database: str, migrations: Path) -> None:
    async with open_postgres(postgres.options(database, connections_max=3), migrations) as db:
        await asyncio.gather(*(db.run(lambda c, n=n: insert(c, n)) for n in range(100)))
        ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'streamproc' AND datname = $1"
        assert await postgres.query(database, ours, database) == [(3,)]
    assert await postgres.query(database, "SELECT count(*) FROM numbers") == [(100,)]


async def test_closing_finishes_what_runs_and_takes_no_more(
    postgres: Postgres, database: str, migrations: Path
) -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def work(connection: PostgresConnection) -> int:
        reached.set()
        await go.wait()
        return await insert(connection, 1)

    async with open_postgres(postgres.options(database), migrations) as db:
        running = asyncio.ensure_future(db.run(work))
        await reached.wait()
        asyncio.get_running_loop().call_later(0.05, go.set)
    assert await running == 1
    for call in (db.fetch("SELECT 1"), db.execute("SELECT 1"), db.run(work)):
        with pytest.raises(RuntimeError, match="closed"):
            await call
