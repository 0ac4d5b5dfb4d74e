"""How fast the relay publishes what waits in the outbox; beside the producer alone, with the events at hand."""

from dataclasses import replace

from bench.brokers import Target
from bench.contenders import program
from bench.contest import Results, play
from bench.plots import bars
from bench.scenario import Column, Scenario, figure, guarantee, spread
from bench.scenarios.requests import SETTLED
from bench.topics import empty
from tests.postgres import Server, shop


def run(target: Target, quick: bool, results: Results) -> None:
    """Each round on a new database and topic."""
    count, rounds = (20_000, 1) if quick else (200_000, 3)
    with Server(SETTLED) as server:
        for _ in range(rounds):
            with empty(target, 4) as topic, shop(server.postgres) as database:
                store = {"store": database.app.url, "password": database.postgres.password}
                contenders = [
                    program("programs.publishing", "relay", "the relay, SQLite", name="sqlite"),
                    program("programs.publishing", "relay", "the relay, PostgreSQL", name="postgres", **store),
                    replace(
                        program("programs.publishing", "send", "the producer alone", name="send"),
                        guarantee="nothing is stored",
                    ),
                ]
                play(contenders, replace(topic, records=count), rounds=1, results=results)


COLUMNS: dict[str, Column] = {
    "events/s": figure("records_per_s", "{:,.0f}"),
    "us CPU/event": figure("cpu_us"),
    "spread": spread,
    "delivery": guarantee,
}
SCENARIO = Scenario("outbox", "events published", run, COLUMNS, plot=bars("records_per_s", "events/s"))
