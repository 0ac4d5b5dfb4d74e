"""`migrate`: brings the database to the version that the app needs."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from streamproc.cli.common import Source, Target, app_options, settings_options

if TYPE_CHECKING:
    from pathlib import Path

    from streamproc.adapters.schema import Migration
    from streamproc.adapters.store import StoreOptions


@click.command()
@app_options(as_option=True)
@click.option("--check", is_flag=True, help="Apply nothing; exit code 1 when something is to be applied.")
@settings_options
def migrate(*, target: Target, check: bool, source: Source) -> None:
    """Apply the numbered SQL files that the database has not had.

    Those of the package and those of the app, in one transaction. A SQLite file also has them applied when the app
    opens it; PostgreSQL has them applied by this command alone.

    \b
    Example:
      streamproc migrate --set store.url=postgresql://shop_owner@localhost/shop
    """
    app, store = target.load(), source.load().settings.store
    due = _migrate(store, app.migrations, check=check)
    for row, _ in due:
        click.echo(f"{'to be applied' if check else 'applied'}: {row}")
    if not due:
        click.echo("up to date")
    elif check:
        sys.exit(1)


def _migrate(store: "StoreOptions", migrations: "Path | None", *, check: bool) -> Sequence["Migration"]:
    from streamproc.adapters.schema import dialect_of

    if dialect_of(store.url) == "sqlite":
        from streamproc.adapters.sqlite import migrate_sqlite

        return migrate_sqlite(store, migrations, check=check)
    import asyncio

    from streamproc.adapters.postgres_schema import migrate_postgres

    return asyncio.run(migrate_postgres(store, migrations, check=check))
