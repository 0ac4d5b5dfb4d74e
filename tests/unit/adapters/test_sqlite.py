"""The SQLite adapter on files: transactions, what is shared, what is told, the outbox."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from streamproc.adapters.sqlite import SqliteDatabase, open_sqlite
from streamproc.adapters.sqlite_outbox import SqliteOutbox, add_to_outbox
from streamproc.adapters.store import StoreOptions
from streamproc.errors import StoreError
from streamproc.model import OutRecord

SCHEMA = """
CREATE TABLE numbers (n INTEGER PRIMARY KEY);
CREATE TABLE children (n INTEGER REFERENCES numbers (n) DEFERRABLE INITIALLY DEFERRED);
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    (folder / "sqlite").mkdir(parents=True)
    (folder / "sqlite/001_numbers.sql").write_text(SCHEMA)
    return folder


def options(file: Path) -> StoreOptions:
    return StoreOptions(url=f"sqlite:///{file}")


@pytest.fixture
async def db(tmp_path: Path, migrations: Path) -> AsyncIterator[SqliteDatabase]:
    async with open_sqlite(options(tmp_path / "a.db"), migrations) as database:
        yield database


def insert(connection: sqlite3.Connection, n: int, then: Exception | None = None) -> int:
    connection.execute("INSERT INTO numbers VALUES (?)", (n,))
    if then is not None:
        raise then
    return n


def numbers(tmp_path: Path) -> list[int]:
    connection = sqlite3.connect(tmp_path / "a.db")
    found = [n for (n,) in connection.execute("SELECT n FROM numbers ORDER BY n")]
    connection.close()
    return found


class Traffic:
    """Holds the writer thread until `go`, so that the calls made meanwhile wait together."""

    def __init__(self, db: SqliteDatabase) -> None:
        self.statements: list[str] = []
        self._reached = threading.Event()
        self._gate = threading.Event()
        self._held = asyncio.ensure_future(db.run(self._hold))

    async def hold(self) -> None:
        await asyncio.to_thread(self._reached.wait)

    def _hold(self, connection: sqlite3.Connection) -> None:
        self._reached.set()
        self._gate.wait()
        connection.set_trace_callback(self.statements.append)

    async def go(self) -> None:
        self._gate.set()
        await self._held


Work = Callable[[sqlite3.Connection], object]


async def waiting(db: SqliteDatabase, *works: Work) -> tuple[Traffic, list["asyncio.Task[object]"]]:
    traffic = Traffic(db)
    await traffic.hold()
    tasks = [asyncio.ensure_future(db.run(work)) for work in works]
    await asyncio.sleep(0)
    return traffic, tasks


async def test_a_call_is_committed_when_it_returns(db: SqliteDatabase, tmp_path: Path) -> None:
    assert await db.run(lambda connection: insert(connection, 7)) == 7
    assert numbers(tmp_path) == [7]


async def test_a_call_that_fails_takes_back_what_it_did(db: SqliteDatabase, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"):
        await db.run(lambda connection: insert(connection, 7, ValueError("no")))
    assert numbers(tmp_path) == []
    await db.run(lambda connection: insert(connection, 8))
    assert numbers(tmp_path) == [8]


async def test_calls_that_wait_share_a_transaction(db: SqliteDatabase, tmp_path: Path) -> None:
    traffic, tasks = await waiting(db, *(lambda c, n=n: insert(c, n) for n in range(50)))
    await traffic.go()
    assert await asyncio.gather(*tasks) == list(range(50))
    assert numbers(tmp_path) == list(range(50))
    assert traffic.statements.count("BEGIN IMMEDIATE") == 1


async def test_a_call_that_fails_among_others_takes_back_only_its_own(db: SqliteDatabase, tmp_path: Path) -> None:
    error = ValueError("no")
    works: list[Work] = [lambda c, n=n: insert(c, n, error if n == 2 else None) for n in range(4)]  # type: ignore[misc]
    traffic, tasks = await waiting(db, *works)
    await traffic.go()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [0, 1, error, 3]
    assert numbers(tmp_path) == [0, 1, 3]


async def test_nobody_succeeds_when_the_commit_fails(db: SqliteDatabase, tmp_path: Path) -> None:
    traffic, tasks = await waiting(
        db, lambda c: insert(c, 1), lambda c: c.execute("INSERT INTO children VALUES (99)"), lambda c: insert(c, 2)
    )
    await traffic.go()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [sqlite3.IntegrityError] * 3
    assert numbers(tmp_path) == []
    assert await db.run(lambda connection: insert(connection, 3)) == 3


async def test_a_transaction_that_is_gone_fails_all_its_calls(db: SqliteDatabase, tmp_path: Path) -> None:
    def lose(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR ROLLBACK INTO numbers VALUES (1)")

    traffic, tasks = await waiting(db, lambda c: insert(c, 1), lose, lambda c: insert(c, 2))
    await traffic.go()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [sqlite3.IntegrityError] * 3
    assert numbers(tmp_path) == []


async def test_a_cancelled_call_does_nothing_and_disturbs_nobody(db: SqliteDatabase, tmp_path: Path) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    traffic, tasks = await waiting(db, *(lambda c, n=n: insert(c, n) for n in range(3)))
    tasks[1].cancel()
    await asyncio.sleep(0)
    await traffic.go()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[::2] == [0, 2]
    assert isinstance(results[1], asyncio.CancelledError)
    assert numbers(tmp_path) == [0, 2]
    assert complaints == []


async def test_an_answer_comes_to_the_loop_that_waits(db: SqliteDatabase) -> None:
    asyncio.get_running_loop().set_debug(True)  # tells on answers from another thread
    async with asyncio.timeout(10):
        traffic, tasks = await waiting(db, lambda connection: insert(connection, 1))
        await traffic.go()
        assert await asyncio.gather(*tasks) == [1]


async def test_readers_and_the_writer_do_not_wait_for_each_other(db: SqliteDatabase) -> None:
    pragmas = ("journal_mode", "synchronous", "foreign_keys")
    assert await db.run(lambda c: [c.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]) == ["wal", 1, 1]


async def test_a_full_database_is_told(db: SqliteDatabase, tmp_path: Path) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 1")
        connection.executemany("INSERT INTO numbers VALUES (?)", ((n,) for n in range(100_000)))

    with pytest.raises(StoreError, match=r"^SQLite: database or disk is full$"):
        await db.run(fill)
    assert numbers(tmp_path) == []


async def test_a_locked_database_is_told(db: SqliteDatabase, tmp_path: Path) -> None:
    await db.run(lambda connection: connection.execute("PRAGMA busy_timeout = 0"))
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"^SQLite: database is locked$"):
        await db.run(lambda connection: insert(connection, 1))
    other.close()
    assert await db.run(lambda connection: insert(connection, 1)) == 1


async def test_closing_finishes_what_runs(tmp_path: Path, migrations: Path) -> None:
    async with open_sqlite(options(tmp_path / "a.db"), migrations) as db:
        traffic, tasks = await waiting(db, lambda c: insert(c, 1))
        going = asyncio.ensure_future(traffic.go())
    assert await asyncio.gather(going, *tasks) == [None, 1]
    assert numbers(tmp_path) == [1]
    assert not (tmp_path / "a.db-wal").exists()


async def test_a_closed_database_refuses_every_call(tmp_path: Path, migrations: Path) -> None:
    async with open_sqlite(options(tmp_path / "closed.db"), migrations) as closed:
        pass
    for _ in range(2):
        with pytest.raises(RuntimeError, match="closed"):
            await asyncio.wait_for(closed.run(lambda connection: None), 5)


async def test_it_works_from_another_event_loop(db: SqliteDatabase, tmp_path: Path) -> None:
    await asyncio.to_thread(lambda: asyncio.run(db.run(lambda connection: insert(connection, 1))))
    await db.run(lambda connection: insert(connection, 2))
    assert numbers(tmp_path) == [1, 2]


async def test_wrong_sql_is_the_error_of_its_author(db: SqliteDatabase) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await db.run(lambda connection: connection.execute("SELECT * FROM absent"))


async def test_a_database_that_cannot_be_written_is_told(db: SqliteDatabase, tmp_path: Path) -> None:
    await db.run(lambda connection: connection.execute("PRAGMA query_only = 1"))
    with pytest.raises(StoreError, match="readonly"):
        await db.run(lambda connection: insert(connection, 1))
    assert numbers(tmp_path) == []


async def test_a_relay_that_cannot_have_its_lock_file_is_told(db: SqliteDatabase, tmp_path: Path) -> None:
    (tmp_path / "a.db.relay").mkdir()
    with pytest.raises(StoreError, match=r"^SQLite: .*a\.db\.relay cannot be opened: Is a directory$"):
        await SqliteOutbox(db).relay().__aenter__()


async def test_events_are_written_with_the_rows_or_not_at_all(db: SqliteDatabase, tmp_path: Path) -> None:
    def write(connection: sqlite3.Connection, n: int, then: Exception | None) -> None:
        add_to_outbox(connection, [OutRecord("t", b"%d" % n), OutRecord("t", None)])
        insert(connection, n, then)

    await db.run(lambda connection: write(connection, 1, None))
    with pytest.raises(ValueError, match="no"):
        await db.run(lambda connection: write(connection, 2, ValueError("no")))
    assert numbers(tmp_path) == [1]
    assert await SqliteOutbox(db).count() == 2
