"""Orders through the workflow: checked, paid, taken from stock, confirmed by mail; beside one statement by hand."""

from contextlib import ExitStack
from dataclasses import replace

from bench.brokers import Target
from bench.contenders import program
from bench.contest import Contender, Results, play
from bench.plots import bars
from bench.scenario import Column, Scenario, figure, guarantee, spread
from bench.scenarios.mail import mail_server
from bench.scenarios.requests import SETTLED
from bench.topics import Filling, filled
from tests.postgres import Server, Shop, shop

MODES = {
    "workflow": ("the workflow, PostgreSQL, SMTP", "each leg once, undone when one fails"),
    "no_mail": ("the same without its mail", "the same"),
    "hand": ("one statement by hand, PostgreSQL, SMTP", "once; a crash loses the mail"),
}


def run(target: Target, quick: bool, results: Results) -> None:
    """Each round into new databases."""
    count, rounds = (2_000, 1) if quick else (15_000, 3)
    orders = Filling(count, orders=True)
    with Server(SETTLED) as server, mail_server() as smtp, filled(target, orders, seconds=0) as course:
        for _ in range(rounds):
            with ExitStack() as stack:
                databases = [stack.enter_context(shop(server.postgres)) for _ in MODES]
                in_postgres = [_in_postgres(*one, smtp=smtp) for one in zip(MODES, databases, strict=True)]
                course = replace(course, records=count * 9 // 10)
                play([_in_sqlite(), *in_postgres], course, rounds=1, results=results)


def _in_sqlite() -> Contender:
    made = program("programs.ordering", "workflow", "the workflow, SQLite, mail to a folder", name="sqlite")
    return replace(made, guarantee=MODES["workflow"][1])


def _in_postgres(mode: str, database: Shop, *, smtp: int) -> Contender:
    title, promise = MODES[mode]
    options: dict[str, object] = {"store": database.app.url, "password": database.app.password, "smtp": smtp}
    if mode == "hand":  # it reads more than the application may
        options["store"] = database.postgres.options(database.database).url
    return replace(program("programs.ordering", mode, title, name=mode, **options), guarantee=promise)


COLUMNS: dict[str, Column] = {
    "orders/s": figure("records_per_s", "{:,.0f}"),
    "us CPU/order": figure("cpu_us", "{:.0f}"),
    "spread": spread,
    "peak MiB": figure("rss_mb", "{:.0f}"),
    "delivery": guarantee,
}
SCENARIO = Scenario("workflow", "orders confirmed", run, COLUMNS, plot=bars("records_per_s", "orders/s"))
