"""How connections to PostgreSQL are made; the only module that imports the client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

from streamproc.adapters.store import StoreOptions
from streamproc.errors import ConfigError, StoreError
from streamproc.secret import read_secret

try:
    import asyncpg
except ModuleNotFoundError:
    raise ConfigError("store.url: PostgreSQL needs the extra: pip install 'streamproc[postgres]'") from None

CONNECT_TIMEOUT_S = 5.0
PATIENCE_S = 2.0
"""How much longer than the server's own limit an answer is waited for."""
SERVER_STATES = ("08", "25006", "25P03", "40", "53", "55P03", "57", "58", "XX")
"""SQLSTATE of a server in trouble: connection, standby, rollback, resources, locks, operator, system, internal."""

create_pool = asyncpg.create_pool
InterfaceError = asyncpg.InterfaceError
InternalClientError = asyncpg.InternalClientError
PostgresError = asyncpg.PostgresError


def arguments(options: StoreOptions) -> dict[str, Any]:
    """What the client connects with. Raises ConfigError for an address that is none."""
    _check_address(options.url)
    timeout_ms = str(round(options.statement_timeout_s * 1000))
    return {
        "dsn": options.url,
        "password": _password(options),
        "timeout": CONNECT_TIMEOUT_S,
        "command_timeout": options.statement_timeout_s + PATIENCE_S,
        "server_settings": {
            "application_name": "streamproc",
            "statement_timeout": timeout_ms,
            # What is held by a process that froze, or by a machine that is gone, is free again within a minute.
            "idle_in_transaction_session_timeout": timeout_ms,
            "tcp_keepalives_idle": "30",
            "tcp_keepalives_interval": "10",
            "tcp_keepalives_count": "3",
        },
    }


def _password(options: StoreOptions) -> Any:
    if options.password_file:
        return partial(read_secret, options.password_file, "store.password_file")  # called at each connect
    return options.password or None


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:  # its text may quote the address, and so a password
        raise ConfigError("store.url is no address of PostgreSQL: write postgresql://user@host/database") from None
    hosts, given = parts.netloc.rpartition("@")[2], parse_qs(parts.query).get("port", ())
    ports = [host.rpartition(":")[2] for host in hosts.split(",")] + ",".join(given).split(",")
    for port in ports:
        if port.isdecimal() and not 0 < int(port) < 65_536:  # uvloop would take what is left of it
            raise ConfigError(f"store.url: {port} is no port: give one from 1 to 65535")


def _host(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", ["the local socket"])[0]


@asynccontextmanager
async def connected(options: StoreOptions, **changed: Any) -> AsyncIterator[Any]:
    """A connection of the client's own kind, outside of any pool; `changed` replaces some of its arguments.

    Raises StoreError for a server in trouble; whatever else the server refuses is a ConfigError.
    """
    chosen = arguments(options) | changed
    at = f"PostgreSQL at {_host(options.url)}"
    try:
        connection = await asyncpg.connect(**chosen)
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)
    except OSError as error:
        raise StoreError(f"{at} does not answer: {error or type(error).__name__}") from error
    except (InterfaceError, ValueError, OverflowError) as error:
        raise ConfigError(f"store.url: {error}") from error
    except PostgresError as error:
        if (error.sqlstate or "").startswith(SERVER_STATES):
            raise StoreError(f"{at}: {type(error).__name__}: {error.args[0]}") from error
        raise ConfigError(f"store.url: {at}: {error.args[0]}") from error
