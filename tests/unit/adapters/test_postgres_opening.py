"""How a PostgreSQL is reached: which addresses, users and passwords are refused, and what is shown of them."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from streamproc.adapters.postgres import open_postgres
from streamproc.adapters.postgres_schema import migrate_postgres
from streamproc.adapters.store import StoreOptions
from streamproc.errors import ConfigError, StoreError
from tests.postgres import Postgres


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"password": "wrong-s3cret"}, 'password authentication failed for user "postgres"'),
        ({"database": "absent"}, 'database "absent" does not exist'),
        ({"user": "absent"}, 'password authentication failed for user "absent"'),
        ({"url": "postgresql://postgres@127.0.0.1:99999/x"}, "store.url: 99999 is no port"),
        ({"url": "postgresql://postgres@127.0.0.1:1,127.0.0.1:70000/x"}, "store.url: 70000 is no port"),
        ({"url": "postgresql://postgres@/x?host=127.0.0.1&port=0"}, "store.url: 0 is no port"),
        ({"url": "postgresql://postgres@127.0.0.1:port/x"}, "store.url: "),
        ({"url": "postgresql://postgres@127.0.0.1:PORT/x?sslmode=maybe"}, "sslmode"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_wrong_setting_is_refused_in_a_sentence(
    postgres: Postgres, change: dict[str, str], sentence: str
) -> None:
    chosen = {"database": "postgres", "user": "", "password": postgres.password} | change
    options = postgres.options(chosen["database"], chosen["user"], password=chosen["password"])
    if "url" in change:
        options = StoreOptions(url=change["url"].replace("PORT", str(postgres.port)), password="wrong-s3cret")
    with pytest.raises(ConfigError) as caught:
        await open_postgres(options, None).__aenter__()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert chosen["password"] not in str(caught.value)


async def test_nobody_at_the_address_is_told_with_the_host_alone() -> None:
    options = StoreOptions(url="postgresql://me@127.0.0.1:1/shop", password="s3cret")
    with pytest.raises(StoreError, match=r"^PostgreSQL at 127\.0\.0\.1:1 does not answer: [^\n]+$") as caught:
        await open_postgres(options, None).__aenter__()
    assert "s3cret" not in str(caught.value)


async def test_a_password_file_is_read_at_each_connect(postgres: Postgres, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{postgres.password}\n")
    with postgres.database() as name:
        options = msgspec.structs.replace(postgres.options(name), password="", password_file=str(file))
        await migrate_postgres(options, None)
        async with open_postgres(options, None) as db, db.connection():
            file.unlink()
            with pytest.raises(StoreError, match=r"store\.password_file: cannot read"):
                await db.fetch("SELECT 1")
            file.write_text("wrong")
            with pytest.raises(StoreError, match="password authentication failed"):
                await db.fetch("SELECT 1")
            file.write_text(postgres.password)
            assert len(await db.fetch("SELECT 1")) == 1
        file.unlink()
        with pytest.raises(ConfigError, match=r"store\.password_file: cannot read"):
            await open_postgres(options, None).__aenter__()


def test_without_the_extra_it_is_told_what_to_install() -> None:
    script = """
import sys
sys.modules["asyncpg"] = None
from streamproc.cli import main
main(["migrate", "--set", "store.url=postgresql://me@127.0.0.1/shop"])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "Error: store.url: PostgreSQL needs the extra: pip install 'streamproc[postgres]'\n"


def test_sqlite_needs_no_extra(tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
sys.modules["asyncpg"] = None
from handlers.stores.opening import open_stores
from streamproc.adapters.store import StoreOptions
async def main():
    async with open_stores(StoreOptions(url="sqlite:///{tmp_path}/a.db")) as stores:
        print(await stores.outbox.count())
asyncio.run(main())
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("0\n", "")
