"""Orders through the workflow: checked, paid, taken from stock, confirmed by mail; beside one statement by hand."""

from dataclasses import replace

from bench.brokers import Target
from bench.contenders import program
from bench.contest import Contender, Results, play
from bench.plots import bars
from bench.scenario import Column, Scenario, figure, guarantee, spread
from bench.scenarios.requests import SETTLED
from bench.topics import Filling, filled
from tests.postgres import Server, Shop, shop


def run(target: Target, quick: bool, results: Results) -> None:
    """Each round into new databases."""
    count, rounds = (2_000, 1) if quick else (15_000, 3)
    with Server(SETTLED) as server, filled(target, Filling(count, orders=True), seconds=0) as course:
        for _ in range(rounds):
            with shop(server.postgres) as first, shop(server.postgres) as second:
                contenders = [
                    program("programs.ordering", "workflow", "the workflow, SQLite", name="sqlite"),
                    _on(
                        first, "workflow", "the workflow, PostgreSQL", guarantee="each leg once, undone when one fails"
                    ),
                    _on(second, "hand", "one statement by hand, PostgreSQL", guarantee="once; a crash loses the mail"),
                ]
                contenders[0] = replace(contenders[0], guarantee=contenders[1].guarantee)
                play(contenders, replace(course, records=course.records * 9 // 10), rounds=1, results=results)


def _on(database: Shop, mode: str, title: str, *, guarantee: str) -> Contender:
    options = {"store": database.app.url, "password": database.app.password}
    if mode == "hand":  # it reads more than the application may
        options["store"] = database.postgres.options(database.database).url
    return replace(program("programs.ordering", mode, title, name=mode, **options), guarantee=guarantee)


COLUMNS: dict[str, Column] = {
    "orders/s": figure("records_per_s", "{:,.0f}"),
    "us CPU/order": figure("cpu_us", "{:.0f}"),
    "spread": spread,
    "peak MiB": figure("rss_mb", "{:.0f}"),
    "delivery": guarantee,
}
SCENARIO = Scenario("workflow", "orders confirmed", run, COLUMNS, plot=bars("records_per_s", "orders/s"))
