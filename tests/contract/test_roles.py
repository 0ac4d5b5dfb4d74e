"""What the application's role of deploy/postgres.sql may not do. What it may is seen where the stores run as it."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.postgres import Shop


@pytest.fixture
async def app(postgres_shop: Shop) -> AsyncIterator[Any]:
    """A session of the application's role."""
    await postgres_shop.empty()
    connection = await asyncpg.connect(postgres_shop.app.url, password=postgres_shop.app.password)
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (n integer)",
        "CREATE TEMPORARY TABLE more (n integer)",
        "CREATE SCHEMA more",
        "CREATE FUNCTION more() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE ROLE more",
        "CREATE INDEX ON users (name)",
        "CREATE TRIGGER more AFTER INSERT ON users EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "ALTER TABLE users ADD COLUMN more integer",
        "ALTER SEQUENCE outbox_number_seq RESTART",
        "DROP TABLE readings",
        "TRUNCATE stock",
        "DELETE FROM users",
        "DELETE FROM processed",
        "DELETE FROM orders",
        "UPDATE users SET name = ''",
        "UPDATE users SET email = ''",
        "UPDATE orders SET user_id = ''",
        "UPDATE order_items SET quantity = 1",
        "UPDATE readings SET sensor_id = ''",
        "UPDATE alerts SET temperature = 0",
        "DELETE FROM alerts",
        "DELETE FROM workflow_legs",
        "UPDATE workflow_legs SET fingerprint = ''",
        "UPDATE payments SET amount = 0",
        "DELETE FROM payments",
        "UPDATE stock SET price = 0",
        "UPDATE stock SET sku = ''",
        "UPDATE outbox SET value = NULL",
        "UPDATE firings SET schedule = ''",
        "UPDATE firings SET fire_at = now()",
        "TRUNCATE firings",
        "SELECT email_key FROM users",
        "SELECT * FROM users",
        "SELECT temperature FROM alerts",
        "SELECT amount FROM payments",
        "UPDATE orders SET placed_at = now()",
        "SELECT created_at FROM outbox",
        "SELECT nextval('outbox_number_seq')",
        "INSERT INTO outbox (topic, headers, created_at) VALUES ('t', '', now())",
        "INSERT INTO schema_version VALUES ('app', 2, '', '', now())",
        "DELETE FROM schema_version",
        "SELECT rolpassword FROM pg_authid",
        "COPY users TO PROGRAM 'cat'",
        "COPY users FROM '/etc/passwd'",
        "SELECT pg_read_file('/etc/passwd')",
        "SET ROLE postgres",
    ],
)
async def test_the_role_may_not(app: Any, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute(statement)


async def test_the_role_is_nobody_else_and_nothing_more(app: Any, postgres_shop: Shop) -> None:
    flags = "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = $1"
    name = await app.fetchval("SELECT current_user")
    assert await postgres_shop.query(flags, name) == [(False,) * 5]
    member = "SELECT 1 FROM pg_auth_members WHERE member = (SELECT oid FROM pg_roles WHERE rolname = $1)"
    assert await postgres_shop.query(member, name) == []


async def test_nobody_else_may_connect_or_look(postgres_shop: Shop) -> None:
    connect = "SELECT has_database_privilege('public', $1, 'CONNECT, TEMPORARY, CREATE')"
    assert await postgres_shop.query(connect, postgres_shop.database) == [(False,)]
    assert await postgres_shop.query("SELECT has_schema_privilege('public', 'public', 'USAGE, CREATE')") == [(False,)]


async def test_the_file_may_be_run_again_and_takes_back_what_was_given(postgres_shop: Shop) -> None:
    grants = "SELECT table_name, column_name, privilege_type FROM information_schema.column_privileges"
    asked = f"{grants} WHERE grantee = $1 ORDER BY 1, 2, 3"
    app = f"{postgres_shop.database}_app"
    before = await postgres_shop.query(asked, app)
    await postgres_shop.query(f"GRANT ALL ON users TO {app}")
    assert await postgres_shop.query(asked, app) != before
    postgres_shop.give_rights()
    assert await postgres_shop.query(asked, app) == before
