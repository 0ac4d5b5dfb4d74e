"""What it costs to store readings in PostgreSQL, once per event id, in batches of 1,000; and by hand."""

from dataclasses import replace

from bench.brokers import Target
from bench.contenders import program
from bench.contest import Contender, Course, Results, play
from bench.plots import bars
from bench.scenario import Scenario
from bench.scenarios.requests import SETTLED
from bench.scenarios.sinks import COLUMNS
from tests.postgres import Server, Shop, shop

MODES = {
    "ours": "streamproc's store",
    "unnest": "asyncpg by hand: unnest, ON CONFLICT",
    "copy": "asyncpg by hand: COPY, INSERT SELECT, ON CONFLICT",
}


def run(target: Target, quick: bool, results: Results) -> None:
    """Each round into a new database."""
    count, rounds = (50_000, 1) if quick else (300_000, 5)
    course = Course(target.bootstrap, "none", count, 0)
    with Server(SETTLED) as server:
        for _ in range(rounds):
            for mode in MODES:
                with shop(server.postgres) as database:
                    play([_contender(mode, database)], course, rounds=1, results=results)


def _contender(mode: str, database: Shop) -> Contender:
    options = {"store": database.app.url, "password": database.app.password}
    if mode == "copy":  # the application may not make temporary tables
        options["store"] = database.postgres.options(database.database).url
    made = program("programs.rows", mode, MODES[mode], name=mode, **options)
    return replace(made, guarantee="each row once")


SCENARIO = Scenario(
    "stores", "rows into PostgreSQL", run, COLUMNS, plot=bars("records_per_s", "rows/s"), on_kafka=False
)
